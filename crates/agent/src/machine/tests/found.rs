//! Devices that run what they are offered, without a result of their own for it: it is checked, and the
//! server gets one outcome.

use proptest::prelude::*;

use super::*;

/// How a device came to run its offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// It was installed with it.
    Installed,
    /// It updated to it, and lost its state.
    Lost,
    /// A person updated it, past the agent.
    ByHand,
    /// The same, but the image before was not confirmed here.
    ByHandFromUnknown,
    /// It confirmed it as another device.
    EnrolledAgain,
}

const PASTS: [Past; 5] =
    [Past::Installed, Past::Lost, Past::ByHand, Past::ByHandFromUnknown, Past::EnrolledAgain];

impl Past {
    /// A device that is offered `v2` and runs it. What was before is neither cut nor part of the reports.
    fn device(self, nature: Nature, cuts: Vec<usize>) -> Device {
        let mut device = Device::new(Policy::Immediately, &[], Vec::new());
        match self {
            Self::Installed => {
                device.registry = Some(update("v2"));
                device.booted = digest("v2");
                device.default = digest("v2");
            }
            Self::Lost | Self::EnrolledAgain => {
                device.settle(Vec::new());
                device.offer("v2");
                device.settle(Vec::new());
                assert_eq!((&device.booted, device.fallback.as_ref()), (&digest("v2"), Some(&digest("v1"))));
            }
            Self::ByHand => device.settle(Vec::new()),
            Self::ByHandFromUnknown => {
                device.registry = None;
                device.settle(Vec::new());
            }
        }
        match self {
            Self::Lost => device.record = Record::new(device.now),
            Self::EnrolledAgain => {
                let record = device.record.reporting_as("a at one".to_owned());
                device.record = record.reporting_as("b at another".to_owned());
            }
            Self::ByHand | Self::ByHandFromUnknown => {
                device.fallback = Some(digest("v1"));
                device.default = digest("v2");
                device.boot();
                device.offer("v2");
            }
            Self::Installed => {}
        }
        assert_eq!(device.booted, digest("v2"));
        device.reports.clear();
        (device.reboots, device.found_checks) = (0, 0);
        device.natures = vec![(digest("v2"), nature)];
        device.cuts = cuts;
        device.wait();
        device
    }
}

/// What reports tell the server about `v2`: in order, each once that decides.
fn outcomes(device: &Device) -> Vec<&'static str> {
    let about = |found: &Digest| *found == digest("v2");
    let outcome = |report: &ReportBody| match report {
        ReportBody::Health { digest, result } if about(digest) && result.failure().is_some() => {
            Some("failed")
        }
        ReportBody::RolledBack { digest, .. } if about(digest) => Some("left"),
        ReportBody::Confirmed { digest } if about(digest) => Some("healthy"),
        _ => None,
    };
    device.reports.iter().filter_map(outcome).collect()
}

/// Lets hours pass, with a check in each.
fn pass_hours(device: &mut Device, hours: usize) {
    for _ in 0..hours {
        device.wait();
        device.settle(Vec::new());
    }
}

#[test]
fn what_runs_is_checked_as_after_an_update() {
    for past in PASTS {
        let mut device = past.device(Nature::Good, Vec::new());
        device.settle(Vec::new());
        assert_eq!(device.record.state, State::Confirmed { update: update("v2"), blessed: true }, "{past:?}");
        let kinds: Vec<&str> =
            device.reports.iter().map(ReportBody::kind).filter(|kind| *kind != "booted").collect();
        assert_eq!(kinds, ["health", "confirmed"], "{past:?}");
        pass_hours(&mut device, 24);
        assert_eq!((device.found_checks, device.reboots), (1, 0), "{past:?}");
        assert_eq!(outcomes(&device), ["healthy"], "{past:?}");
    }
}

#[test]
fn what_fails_is_left_only_for_an_image_that_was_confirmed_here() {
    for past in PASTS {
        let mut device = past.device(Nature::Unhealthy, Vec::new());
        device.settle(Vec::new());
        let held = State::HeldBack { update: Some(update("v2")), why: HeldBack::Failed };
        assert_eq!(device.record.state, held, "{past:?}");
        pass_hours(&mut device, 24);
        if past == Past::ByHand {
            assert_eq!((device.booted.clone(), device.reboots), (digest("v1"), 1));
            assert_eq!(outcomes(&device), ["failed", "left"]);
            assert!(device.armed.is_empty(), "it is not taken again by itself");
            continue;
        }
        assert_eq!((device.booted.clone(), device.reboots), (digest("v2"), 0), "{past:?}");
        assert_eq!(outcomes(&device), ["failed"], "{past:?}: the same result is no news");
        // The pauses grow from 10 minutes to 6 hours.
        assert!((6..=10).contains(&device.found_checks), "{past:?}: {}", device.found_checks);

        // It is repaired, and confirmed by itself.
        device.natures.clear();
        pass_hours(&mut device, 7);
        assert_eq!(outcomes(&device), ["failed", "healthy"], "{past:?}");
        assert!(device.record.failed.is_empty(), "{past:?}");
    }
}

#[test]
fn an_operator_need_not_wait_for_the_next_check() {
    let mut device = Past::Installed.device(Nature::Unhealthy, Vec::new());
    device.settle(Vec::new());
    device.natures.clear();
    device.settle(vec![Command::Check]);
    assert_eq!(outcomes(&device), ["failed"], "not yet due");
    device.settle(vec![Command::Update { retry: true }]);
    assert_eq!(outcomes(&device), ["failed", "healthy"]);
    assert_eq!(device.record.request, None);
}

#[test]
fn a_command_does_not_wait_for_the_checks() {
    let rules = Past::Installed.device(Nature::Good, Vec::new()).rules;
    for command in [Command::Check, Command::Update { retry: false }, Command::RollBack] {
        let mut device = Past::Installed.device(Nature::Good, Vec::new());
        let state = State::CheckingHealth { update: update("v2"), from: None, is_found: true };
        device.record = Record { state, truth: device.truth(), ..device.record };
        let context = Context { now: device.now, jitter: Duration::ZERO, rules: &rules };
        let outcome = step(&device.record, Event::Command(command.clone()), &context).unwrap();
        // The action replaces the checks, whose end then decides nothing.
        assert!(!outcome.actions.is_empty(), "{command:?}");
        let late = step(&outcome.record, Event::Health(HealthResult::default()), &context).unwrap();
        assert_eq!((late.record, late.reports.len()), (outcome.record, 0), "{command:?}");
        device.settle(vec![command.clone()]);
        assert_eq!(outcomes(&device), ["healthy"], "{command:?}");
    }
}

#[test]
fn another_failure_is_news_and_another_offer_is_taken() {
    let mut device = Past::Installed.device(Nature::Unhealthy, Vec::new());
    device.settle(Vec::new());
    let known = FailureReason::Unhealthy { message: "another".to_owned() };
    assert_ne!(device.record.failed[0].reason, known);
    device.record.failed[0].reason = known;
    device.wait();
    device.settle(Vec::new());
    assert_eq!(outcomes(&device), ["failed", "failed"]);
    // The server answers with the release before: this is how it takes a device back.
    device.offer("v1");
    device.settle(Vec::new());
    assert_eq!(device.record.state, State::Confirmed { update: update("v1"), blessed: true });
    assert_eq!(device.booted, digest("v1"));
}

#[test]
fn an_image_that_an_operator_left_is_nothing_to_return_to() {
    let mut device = Device::new(Policy::Immediately, &[], Vec::new());
    device.registry = None;
    device.settle(Vec::new());
    device.offer("v2");
    device.settle(Vec::new());
    device.settle(vec![Command::RollBack]);
    assert_eq!((device.booted.clone(), device.fallback.clone()), (digest("v1"), Some(digest("v2"))));
    assert!(device.record.confirmed.as_ref().unwrap().update.is(&digest("v2")));
    // The offer is now what it returned to, and that is unhealthy.
    device.natures = vec![(digest("v1"), Nature::Unhealthy)];
    device.reboots = 0;
    device.offer("v1");
    device.settle(Vec::new());
    pass_hours(&mut device, 24);
    assert_eq!((device.booted.clone(), device.reboots), (digest("v1"), 0));
}

#[test]
fn a_hold_keeps_updates_away_and_no_check() {
    let mut device = Past::Installed.device(Nature::Good, Vec::new());
    device.registry = None;
    device.settle(vec![Command::Hold { reason: None }]);
    device.offer("v2");
    device.settle(Vec::new());
    assert_eq!(outcomes(&device), ["healthy"]);
}

#[test]
fn checks_that_cannot_be_downloaded_are_tried_again() {
    let device = Past::Installed.device(Nature::Good, Vec::new());
    let rules = device.rules.clone();
    let mut record = Record { truth: device.truth(), ..device.record.clone() };
    let mut now = device.now;
    for failures in 1..4 {
        record.state = State::Checking { staged: None };
        let context = Context { now, jitter: Duration::ZERO, rules: &rules };
        let found = step(&record, Event::Found(update("v2")), &context).unwrap();
        assert_eq!(found.actions, [Action::CheckFound(update("v2"))]);
        let failed = Event::Failed(problem(ProblemKind::Unreachable));
        let outcome = step(&found.record, failed, &context).unwrap();
        record = outcome.record;
        assert_eq!((record.state.name(), record.problem.as_ref().unwrap().failures), ("idle", failures));
        assert_eq!(outcome.reports.len(), usize::from(failures == 1), "the first one is reported");
        assert_eq!(record.next_check.duration_since(now).as_secs(), 10 << (failures - 1));
        now = record.next_check;
    }
    // Neither does a failure from a wrong clock keep it from being checked.
    let year = jiff::SignedDuration::from_hours(24 * 365);
    record.failed.push(Failed {
        digest: digest("v2"),
        reason: FailureReason::FellBack,
        at: now.checked_add(year).unwrap(),
        failures: 1,
    });
    record.state = State::Checking { staged: None };
    let context = Context { now, jitter: Duration::ZERO, rules: &rules };
    let found = step(&record, Event::Found(update("v2")), &context).unwrap();
    assert_eq!(found.actions, [Action::CheckFound(update("v2"))]);
}

#[test]
fn another_image_that_boots_in_the_middle_did_not_fall_back() {
    let mut device = Past::Installed.device(Nature::Good, Vec::new());
    device.record.state = State::CheckingHealth { update: update("v2"), from: None, is_found: true };
    device.booted = digest("v1");
    device.default = digest("v1");
    device.settle(Vec::new());
    assert_eq!(device.booted, digest("v2"), "it is an update like any other");
    assert_eq!(outcomes(&device), ["healthy"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever ends in the middle, power or process: a device that runs its offer reports one outcome for
    /// it, the right one, and the agent reboots it only into an image that was confirmed here.
    #[test]
    fn a_device_that_runs_its_offer_reports_one_outcome(
        past in prop::sample::select(&PASTS[..]),
        is_good in any::<bool>(),
        is_only_killed in any::<bool>(),
        is_registry_late in any::<bool>(),
        cuts in prop::collection::vec(0_usize..16, 0..4),
    ) {
        let nature = if is_good { Nature::Good } else { Nature::Unhealthy };
        let mut device = past.device(nature, cuts);
        device.is_only_killed = is_only_killed;
        if is_registry_late {
            let offer = device.registry.take();
            device.settle(Vec::new());
            prop_assert!(outcomes(&device).is_empty());
            device.registry = offer;
            device.wait();
        }
        device.settle(Vec::new());
        device.cuts.clear();
        pass_hours(&mut device, 12);
        prop_assert!(device.record.state.is_at_rest());
        let is_left = past == Past::ByHand && !is_good;
        let expected: &[&str] = match (is_good, is_left) {
            (true, _) => &["healthy"],
            (false, true) => &["failed", "left"],
            (false, false) => &["failed"],
        };
        prop_assert_eq!(outcomes(&device), expected, "{:#?}", device);
        let running = if is_left { "v1" } else { "v2" };
        prop_assert_eq!(&device.booted, &digest(running), "{:#?}", device);
        prop_assert_eq!(&device.default, &device.booted);
        prop_assert!(device.reboots <= if is_left { MAX_ROLL_BACKS as usize } else { 0 }, "{:#?}", device);

        // A newer one is taken as ever.
        device.offer("v3");
        device.settle(Vec::new());
        prop_assert_eq!(&device.booted, &digest("v3"), "{:#?}", device);
    }
}
