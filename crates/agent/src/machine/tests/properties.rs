//! Whatever is cut, and whatever event comes in which state.

use proptest::prelude::*;

use super::*;

fn natures() -> impl Strategy<Value = Nature> {
    prop_oneof![
        3 => Just(Nature::Good),
        2 => Just(Nature::Unhealthy),
        2 => Just(Nature::Panics),
        1 => Just(Nature::Invalid),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Immediately), Just(Policy::Download)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever is cut, the device ends on a good image that is its default, a bad digest is not tried again
    /// and again, and a newer good one is taken.
    #[test]
    fn power_cuts_do_no_harm(
        nature in natures(),
        policy in policies(),
        cuts in prop::collection::vec(0_usize..24, 0..6),
    ) {
        let count = cuts.len();
        let mut device = Device::new(policy, &[("v2", nature)], cuts);
        device.settle(Vec::new());
        device.offer("v2");
        device.settle(vec![Command::Update { retry: false }]);
        device.wait();
        device.settle(Vec::new());
        let expected: &[Digest] = match nature {
            // Cuts during the trial use up its tries, as a crash does. No one can distinguish them.
            Nature::Good if device.cut_count(count) >= 2 => &[digest("v1"), digest("v2")],
            Nature::Good if policy == Policy::Download && count > 0 => &[digest("v1"), digest("v2")],
            Nature::Good => &[digest("v2")],
            _ => &[digest("v1")],
        };
        prop_assert!(expected.contains(&device.booted), "{device:#?}");
        prop_assert_eq!(&device.booted, &device.default);
        let arms = device.armed.iter().filter(|armed| **armed == digest("v2")).count();
        prop_assert!(arms <= 1 + device.cut_count(count), "armed {} times: {:#?}", arms, device);

        device.cuts.clear();
        device.offer("v3");
        device.settle(vec![Command::Update { retry: false }]);
        prop_assert_eq!(&device.booted, &digest("v3"), "{:#?}", device);
        prop_assert_eq!(&device.default, &digest("v3"));
        prop_assert!(device.record.state.is_at_rest());
    }

    /// Any order of events leaves a record that can be stored and read, and never panics.
    #[test]
    fn any_event_in_any_state_is_safe(events in prop::collection::vec(0_u8..16, 1..40)) {
        let mut device = Device::new(Policy::Immediately, &[], Vec::new());
        let rules = device.rules.clone();
        for event in events {
            let event = match event {
                0 => Event::Started { truth: Box::new(device.truth()), boot: "b".to_owned() },
                1 => Event::Started { truth: Box::default(), boot: "c".to_owned() },
                2 => Event::Command(Command::Check),
                3 => Event::Command(Command::Update { retry: true }),
                4 => Event::Command(Command::RollBack),
                5 => Event::Command(Command::Hold { reason: None }),
                6 => Event::Command(Command::Resume),
                7 => Event::Found(update("v2")),
                8 => Event::Found(update("v1")),
                9 => Event::Downloaded { bytes: 1 },
                10 => Event::Armed,
                11 => Event::Health(HealthResult::default()),
                12 => Event::Blessed,
                13 => Event::RolledBack,
                14 => Event::Failed(problem(ProblemKind::Updater)),
                _ => Event::Tick,
            };
            device.wait();
            let context = Context { now: device.now, jitter: Duration::from_secs(9), rules: &rules };
            if let Ok(outcome) = step(&device.record, event, &context) {
                device.record = outcome.record;
            }
            let text = serde_json::to_string(&device.record).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), &device.record);
        }
    }
}
