use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::run::RunNumber;
use edgewright_model::verdict::{LaneInputs, RecordedOn, VerdictOrigin};
use proptest::prelude::*;

use super::*;

const TODAY: Date = jiff::civil::date(2026, 11, 22);

fn verdict(digest: &str, failed: &[(&str, FailureKind)]) -> Verdict {
    let check = |(id, kind): &(&str, FailureKind)| CheckResult {
        id: id.parse().unwrap(),
        outcome: CheckOutcome::Failed { kind: *kind, message: format!("{id} is bad"), output: Vec::new() },
        duration_ms: 1,
        tries: 1,
        notes: Vec::new(),
    };
    let checks: Vec<CheckResult> = failed.iter().map(check).collect();
    Verdict {
        lane: Lane::Container,
        manifest: ManifestRef {
            repository: "plant-os/hmi/plant-a".parse().unwrap(),
            digest: Digest::of(digest),
        },
        check_set: Digest::of("checks"),
        inputs: LaneInputs { profile: "podman".to_owned(), semantics: 1, from: None },
        recorded_on: RecordedOn::default(),
        result: LaneResult::of_checks(&checks),
        checks,
        evidence: Vec::new(),
        duration_ms: 1,
        origin: VerdictOrigin::Ran,
    }
}

fn exception(check: &str, variants: &[&str], lanes: &[Lane], until: Date) -> Exception {
    Exception {
        check: check.parse().unwrap(),
        variants: variants.iter().map(ToString::to_string).collect(),
        lanes: lanes.iter().copied().collect(),
        reason: "no GPU".to_owned(),
        owner: "platform".to_owned(),
        until,
    }
}

fn variant() -> VariantName {
    "hmi/plant-a".parse().unwrap()
}

#[test]
fn an_exception_covers_its_check_in_its_scope_up_to_its_last_day() {
    let yesterday = TODAY.yesterday().unwrap();
    let cases = [
        (exception("gpu", &["hmi/*"], &[], TODAY), true, "its last day"),
        (exception("gpu", &["hmi/*"], &[], yesterday), false, "over"),
        (exception("gpu", &["gateway/*", "hmi/plant-a"], &[Lane::Container], TODAY), true, "one of several"),
        (exception("gpu", &["hmi/*"], &[Lane::Vm], TODAY), false, "another lane"),
        (exception("gpu", &["*"], &[], TODAY), false, "`*` stays inside a component"),
        (exception("gpu", &["**"], &[], TODAY), true, "everything"),
        (exception("gpu", &["["], &[], TODAY), false, "no pattern"),
        (exception("gpu", &[], &[], TODAY), false, "no variant"),
        (exception("cpu", &["hmi/*"], &[], TODAY), false, "another check"),
    ];
    for kind in [FailureKind::Image, FailureKind::Check] {
        for (exception, covers, what) in &cases {
            let found = verdict("new", &[("gpu", kind)]);
            let evaluation = evaluate(&found, std::slice::from_ref(exception), &variant(), TODAY);
            assert_eq!(evaluation.passed(), *covers, "{what}");
            assert_eq!(evaluation.notes.len(), usize::from(*covers), "{what}");
        }
    }
    let found = verdict("new", &[("gpu", FailureKind::Image)]);
    let note = &evaluate(&found, &[exception("gpu", &["hmi/*"], &[], TODAY)], &variant(), TODAY).notes[0];
    assert_eq!(
        note.to_string(),
        "check `gpu` in the lane container failed, but is excepted until 2026-11-22 by platform: no GPU (found: gpu is bad)"
    );
}

#[test]
fn what_no_exception_covers_still_fails() {
    let exceptions = [exception("gpu", &["**"], &[], TODAY)];
    let two = verdict("new", &[("gpu", FailureKind::Image), ("web", FailureKind::Image)]);
    let evaluation = evaluate(&two, &exceptions, &variant(), TODAY);
    let message = "check `web`: web is bad".to_owned();
    assert_eq!(evaluation.result, LaneResult::Failed { kind: FailureKind::Image, message });
    let host = verdict("new", &[("gpu", FailureKind::Infrastructure)]);
    assert!(
        !evaluate(&host, &exceptions, &variant(), TODAY).passed(),
        "a host's failure is no evidence about the check"
    );
    let ended = LaneResult::Failed { kind: FailureKind::Image, message: "init ended".to_owned() };
    let outside = Verdict { result: ended.clone(), ..verdict("new", &[("gpu", FailureKind::Image)]) };
    assert_eq!(evaluate(&outside, &exceptions, &variant(), TODAY).result, ended);
}

type Failed<'a> = &'a [(&'a str, FailureKind)];

#[test]
fn only_what_the_last_good_digest_passed_is_new() {
    use FailureKind::{Check, Image, Infrastructure};
    let ids = |evaluation: &Evaluation| {
        let old = |note: &Note| matches!(note, Note::NotNew { .. });
        (evaluation.kind(), evaluation.notes.iter().filter(|note| old(note)).count())
    };
    let cases: [(Failed<'_>, Failed<'_>, Option<FailureKind>, usize); 7] = [
        (&[("a", Image)], &[], Some(Image), 0),
        (&[("a", Image)], &[("a", Image)], Some(Check), 1),
        (&[("a", Image)], &[("a", Check)], Some(Check), 1),
        (&[("a", Image)], &[("a", Infrastructure)], Some(Image), 0),
        (&[("a", Image), ("b", Image)], &[("a", Image)], Some(Image), 1),
        (&[("a", Infrastructure)], &[("a", Image)], Some(Infrastructure), 0),
        (&[], &[("a", Image)], None, 0),
    ];
    for (new, old, kind, not_new) in cases {
        let evaluation = evaluate(&verdict("new", new), &[], &variant(), TODAY).against(&verdict("old", old));
        assert_eq!(ids(&evaluation), (kind, not_new), "{new:?} against {old:?}");
    }
    let both = evaluate(&verdict("new", &[("a", Image), ("b", Image)]), &[], &variant(), TODAY)
        .against(&verdict("old", &[("a", Image)]));
    let message = "check `b`: b is bad".to_owned();
    assert_eq!(both.result, LaneResult::Failed { kind: Image, message }, "the new one is named");
}

#[test]
fn a_failure_names_lane_check_fault_and_where_to_look() {
    let blame = Blame {
        run: RunNumber(7),
        variant: &variant(),
        exceptions: &[],
        today: TODAY,
        novelty: &Novelty::default(),
    };
    let found = verdict("new", &[("gpu", FailureKind::Image)]);
    let plain = evaluate(&found, &[], &variant(), TODAY);
    let failure = words::failure(&found, &plain, blame).unwrap();
    assert_eq!(failure.message, "container lane: check `gpu`: gpu is bad");
    assert!(failure.hint.unwrap().contains("`edgewright logs 7 hmi/plant-a`"));
    assert_eq!(failure.output, ["gpu (image): gpu is bad"]);

    let over = [exception("gpu", &["**"], &[], TODAY.yesterday().unwrap())];
    let plain = evaluate(&found, &over, &variant(), TODAY).against(&found);
    let failure = words::failure(&found, &plain, Blame { exceptions: &over, ..blame }).unwrap();
    let digest = Digest::of("new");
    let short = digest.short();
    assert_eq!(
        failure.message,
        format!(
            "container lane: check `gpu`: gpu is bad; not new: the last good digest {short} fails it, too"
        )
    );
    assert_eq!(
        failure.output,
        ["gpu (image, not new): gpu is bad", "  its exception by platform ended on 2026-11-21: no GPU"]
    );

    let novelty = Novelty::all(&[gpu_check()]);
    let first = Blame { novelty: &novelty, ..blame };
    let failure = words::failure(&found, &evaluate(&found, &[], &variant(), TODAY).against(&found), first);
    let failure = failure.unwrap();
    assert!(failure.message.contains("; the checks changed: the last good digest"), "{}", failure.message);
    assert_eq!(failure.output, ["gpu (image): gpu is bad"]);
}

fn gpu_check() -> edgewright_model::spec::Check {
    edgewright_model::spec::Check {
        id: "gpu".parse().unwrap(),
        assert: edgewright_model::spec::Assertion::Greenboot,
        within: "1s".parse().unwrap(),
        lanes: None,
    }
}

#[test]
fn every_failed_lane_has_its_block() {
    let novelty = Novelty::default();
    let blame =
        Blame { run: RunNumber(7), variant: &variant(), exceptions: &[], today: TODAY, novelty: &novelty };
    let of = |lane, check| {
        let found = Verdict { lane, ..verdict("new", &[(check, FailureKind::Image)]) };
        words::failure(&found, &evaluate(&found, &[], &variant(), TODAY), blame).unwrap()
    };
    let (first, second) = (of(Lane::Static, "static.kernel"), of(Lane::Container, "gpu"));
    assert!(first.hint.as_ref().unwrap().contains("`{id: static.kernel, off: REASON}`"), "{:?}", first.hint);
    assert!(!second.hint.as_ref().unwrap().contains("off: REASON"));
    let joined = words::joined([first.clone(), second]).unwrap();
    assert_eq!(
        joined.message,
        "static lane: check `static.kernel`: static.kernel is bad; the container lane failed, too"
    );
    assert_eq!(
        joined.output[..4],
        [
            "static.kernel (image): static.kernel is bad",
            "",
            "image failure in test: container lane: check `gpu`: gpu is bad",
            "  gpu (image): gpu is bad",
        ]
    );
    assert!(joined.output[4].starts_with("  hint: the image is at fault"), "{:?}", joined.output);
    assert_eq!(words::joined([first.clone()]), Some(first));
    assert_eq!(words::joined([]), None);
}

fn kinds() -> impl Strategy<Value = FailureKind> {
    prop_oneof![Just(FailureKind::Image), Just(FailureKind::Check), Just(FailureKind::Infrastructure)]
}

fn failures() -> impl Strategy<Value = BTreeSet<(String, u8)>> {
    proptest::collection::btree_set(("[a-d]", 0_u8..3), 0..5)
}

proptest! {
    #[test]
    fn exceptions_only_ever_help_and_hide_nothing(
        failed in proptest::collection::btree_map("[a-d]", kinds(), 0..5),
        excepted in proptest::collection::vec(("[a-d]", -2_i64..3), 0..5),
    ) {
        let failed: Vec<(&str, FailureKind)> = failed.iter().map(|(id, kind)| (id.as_str(), *kind)).collect();
        let found = verdict("new", &failed);
        let exceptions: Vec<Exception> = excepted
            .iter()
            .map(|(id, days)| exception(id, &["**"], &[], TODAY.saturating_add(jiff::Span::new().days(*days))))
            .collect();
        let evaluation = evaluate(&found, &exceptions, &variant(), TODAY);
        // Every failed check is either counted or noted, and a day's exceptions never make a passed lane
        // fail.
        prop_assert_eq!(evaluation.failed.len() + evaluation.notes.len(), failed.len());
        prop_assert!(evaluation.failed.is_empty() == evaluation.passed());
        let none = evaluate(&found, &[], &variant(), TODAY);
        prop_assert!(!none.passed() || evaluation.passed());
        prop_assert_eq!(&none.result, &found.result);
        // What is over at any time stays over.
        let later = evaluate(&found, &exceptions, &variant(), TODAY.saturating_add(jiff::Span::new().days(9)));
        prop_assert_eq!(later.result, none.result);
    }

    #[test]
    fn the_last_good_digest_never_lets_anything_through(new in failures(), old in failures()) {
        let kind = |number: u8| [FailureKind::Image, FailureKind::Check, FailureKind::Infrastructure][usize::from(number)];
        let list = |set: &BTreeSet<(String, u8)>| set.iter().map(|(id, n)| (id.clone(), kind(*n))).collect::<Vec<_>>();
        let (new, old) = (list(&new), list(&old));
        let of = |digest, list: &[(String, FailureKind)]| {
            let mut seen = BTreeSet::new();
            let list: Vec<(&str, FailureKind)> =
                list.iter().filter(|(id, _)| seen.insert(id)).map(|(id, kind)| (id.as_str(), *kind)).collect();
            verdict(digest, &list)
        };
        let plain = evaluate(&of("new", &new), &[], &variant(), TODAY);
        let compared = plain.clone().against(&of("old", &old));
        prop_assert_eq!(plain.passed(), compared.passed());
        prop_assert_eq!(plain.failed, compared.failed);
    }
}
