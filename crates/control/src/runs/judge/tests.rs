use std::sync::Arc;

use edgewright_model::order::check_set_digest;
use edgewright_model::verdict::{CheckOutcome, CheckResult, RecordedOn};
use edgewright_plan::NodeName;
use edgewright_plan::graph::GraphBase;

use super::*;
use crate::runs::inherit::{Representatives, inherit};

const RULES: Rules<'static> = Rules { exceptions: &[], today: jiff::civil::date(2026, 11, 27) };
const RUN: RunNumber = RunNumber(7);

fn lane(lane: Lane) -> LaneChecks {
    LaneChecks {
        lane,
        checks: Arc::from([]),
        check_set: check_set_digest(&[]),
        inherit: None,
        within: None,
        vm: None,
        of: None,
        from: None,
        inherited_from: None,
    }
}

fn id(name: &str) -> NodeId {
    NodeId { name: NodeName::Variant(name.parse().unwrap()), platform: "linux/amd64".parse().unwrap() }
}

fn node(lanes: Vec<LaneChecks>) -> Node {
    Node {
        id: id("hmi/plant-a"),
        key: Digest::of("key"),
        parent: None,
        base: GraphBase::Scratch,
        root_key: Digest::of("root"),
        path: Vec::new(),
        inherited: 0,
        repository: "plant-os/hmi/plant-a".parse().unwrap(),
        epoch: jiff::Timestamp::UNIX_EPOCH,
        labels: Arc::default(),
        lanes,
        vars: Arc::default(),
        unresolved: None,
    }
}

fn manifest(name: &str) -> ManifestRef {
    ManifestRef { repository: "plant-os/hmi/plant-a".parse().unwrap(), digest: Digest::of(name) }
}

/// A verdict about a manifest; one check of it failed where a kind is given.
fn verdict(name: &str, lane: Lane, failed: Option<FailureKind>) -> Verdict {
    let check = |kind| CheckResult {
        id: "unit".parse().unwrap(),
        outcome: CheckOutcome::Failed { kind, message: "it is bad".to_owned(), output: Vec::new() },
        duration_ms: 1,
        tries: 1,
        notes: Vec::new(),
    };
    let checks: Vec<CheckResult> = failed.into_iter().map(check).collect();
    Verdict {
        lane,
        manifest: manifest(name),
        check_set: check_set_digest(&[]),
        inputs: inputs(lane),
        recorded_on: RecordedOn::default(),
        result: LaneResult::of_checks(&checks),
        checks,
        evidence: Vec::new(),
        duration_ms: 1,
        origin: VerdictOrigin::Ran,
    }
}

fn inputs(lane: Lane) -> LaneInputs {
    match lane {
        Lane::External => LaneInputs::external(),
        _ => LaneInputs { profile: "podman".to_owned(), semantics: 1, from: None },
    }
}

fn known(verdicts: impl IntoIterator<Item = Verdict>) -> Known {
    let today = [Lane::Container, Lane::External].map(|lane| (lane, inputs(lane)));
    let mut known = Known::of(&BTreeMap::from(today), Vec::new());
    for verdict in verdicts {
        known.add(RUN, verdict);
    }
    known
}

/// Judges the manifest `new`, whose last good one is `good`.
fn judge_new(node: &Node, known: &Known, compared: &BTreeSet<VerdictKey>) -> Judged {
    judge(&Case {
        run: RUN,
        node,
        manifest: &manifest("new"),
        rules: RULES,
        known,
        last_good: Some(&manifest("good")),
        released: None,
        compared,
        external_within: "1h".parse().unwrap(),
    })
}

#[test]
fn a_failure_wants_the_last_good_verdict_once_and_is_new_without_it() {
    use FailureKind::{Check, Image, Infrastructure};
    let node = node(vec![lane(Lane::Container)]);
    let fails = || verdict("new", Lane::Container, Some(Image));
    let wanted = BTreeSet::from_iter(known([]).key(&Digest::of("good"), &node.lanes[0]));
    let nothing = BTreeSet::new();
    for (before, compared, expected) in [
        (None, &nothing, Judgement::Compare(wanted.clone())),
        // It was run and found nothing: the failure counts as it is.
        (None, &wanted, Judgement::Failed(Image)),
        // A host that failed is no evidence about the digest.
        (Some(Some(Infrastructure)), &nothing, Judgement::Compare(wanted.clone())),
        (Some(Some(Infrastructure)), &wanted, Judgement::Failed(Image)),
        (Some(None), &nothing, Judgement::Failed(Image)),
        (Some(Some(Image)), &nothing, Judgement::Failed(Check)),
    ] {
        let before = before.map(|failed| verdict("good", Lane::Container, failed));
        let judged = judge_new(&node, &known([fails()].into_iter().chain(before.clone())), compared);
        assert_eq!(judged.judgement(), expected, "{before:?} {compared:?}");
    }
    for kind in [Check, Infrastructure] {
        let judged = judge_new(&node, &known([verdict("new", Lane::Container, Some(kind))]), &nothing);
        assert_eq!(judged.judgement(), Judgement::Failed(kind), "only failures of the image are compared");
    }
}

#[test]
fn what_others_have_to_say_is_awaited_only_where_nothing_failed() {
    let node = node(vec![lane(Lane::Container), lane(Lane::External)]);
    let nothing = BTreeSet::new();
    let passed = verdict("new", Lane::Container, None);
    let within = SignedDuration::from_hours(1);
    let judged = judge_new(&node, &known([passed.clone()]), &nothing);
    assert_eq!(judged.judgement(), Judgement::Awaits { within });
    let judged = judge_new(&node, &known([passed.clone(), verdict("new", Lane::External, None)]), &nothing);
    assert_eq!(judged.judgement(), Judgement::Passed);
    // No one but its owner can run the lane on the last good digest.
    let bad = verdict("new", Lane::External, Some(FailureKind::Image));
    let judged = judge_new(&node, &known([passed, bad]), &nothing);
    assert_eq!(judged.judgement(), Judgement::Failed(FailureKind::Image));
    let broken = verdict("new", Lane::Container, Some(FailureKind::Check));
    let judged = judge_new(&node, &known([broken]), &nothing);
    assert_eq!((judged.judgement(), judged.awaits), (Judgement::Failed(FailureKind::Check), None));
}

#[test]
fn only_a_verdict_that_passed_as_it_is_is_inherited_and_only_in_place_of_none() {
    let inheriting = LaneChecks { inherit: Some(id("hmi/plant-b")), ..lane(Lane::Container) };
    let node = node(vec![inheriting]);
    let representatives =
        Representatives::from([(id("hmi/plant-b"), ("hmi/plant-b".parse().unwrap(), manifest("other")))]);
    let other = |failed| verdict("other", Lane::Container, failed);
    let own = |failed| verdict("new", Lane::Container, failed);
    let cases = [
        (vec![other(None)], vec![], 1, "it passed"),
        (vec![other(Some(FailureKind::Image))], vec![], 0, "it failed"),
        (vec![], vec![], 0, "it was not run"),
        (vec![other(None), own(None)], vec![], 0, "the own one passed before"),
        (vec![other(None), own(Some(FailureKind::Image))], vec![], 1, "the own one is old and bad"),
        (vec![other(None)], vec![own(Some(FailureKind::Image))], 0, "the own job ran it just now"),
    ];
    for (recorded, ran, count, what) in cases {
        let inherited = inherit(&node, &manifest("new"), &ran, &known(recorded), &representatives);
        assert_eq!(inherited.len(), count, "{what}");
        assert!(inherited.iter().all(|verdict| verdict.manifest == manifest("new")), "{what}");
    }
}
