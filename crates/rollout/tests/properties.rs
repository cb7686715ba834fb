//! What holds in every rollout, whatever happens in whatever order.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use edgewright_rollout::Engine;
use edgewright_rollout::fleet::Device;
use edgewright_rollout::gate::{Baseline, Outcomes};
use edgewright_rollout::policy::{Policy, Rate, Size, Stage};
use edgewright_rollout::reason::Reason;
use edgewright_rollout::state::{Event, Move, Order, Rung, Status};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const DEVICES: u32 = 24;
const GROUP: u32 = 3;

#[derive(Debug, Clone, Copy)]
enum Action {
    Poll(u32),
    Report(u32, Rung),
    Fail(u32),
    Wait(i64),
    /// A device leaves; whether it is gone.
    Leave(u32, bool),
    /// Another device comes.
    Join,
    Order(Order),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    // Some of them come later, or never.
    let device = 0..DEVICES + 3;
    let rung = prop_oneof![Just(Rung::Downloaded), Just(Rung::Booted), Just(Rung::Healthy)];
    let order = prop_oneof![
        Just(Order::Pause),
        Just(Order::Resume),
        Just(Order::Resume),
        Just(Order::Urgent),
        (0_u16..3).prop_map(|stage| Order::Approve { stage }),
        (0_u16..3).prop_map(|stage| Order::ApproveInPart { stage }),
        Just(Order::RollBack),
        Just(Order::Supersede),
        Just(Order::Abort),
    ];
    let action = prop_oneof![
        40 => device.clone().prop_map(Action::Poll),
        40 => (device.clone(), rung).prop_map(|(device, rung)| Action::Report(device, rung)),
        2 => device.clone().prop_map(Action::Fail),
        1 => (device, any::<bool>()).prop_map(|(device, is_gone)| Action::Leave(device, is_gone)),
        1 => Just(Action::Join),
        30 => (1_i64..5_000).prop_map(Action::Wait),
        1 => order.prop_map(Action::Order),
    ];
    proptest::collection::vec(action, 1..300)
}

fn stage(name: &str, size: Size, needs_approval: bool) -> Stage {
    Stage {
        name: name.parse().unwrap(),
        select: [].into(),
        size,
        ended: 90,
        soak: Duration::from_mins(20),
        needs_approval,
    }
}

fn policy() -> Policy {
    Policy {
        stages: vec![
            stage("canary", Size::Count(3), false),
            stage("half", Size::Percent(50), true),
            stage("sites", Size::PerSite(5), false),
        ],
        in_flight: 4,
        rate: Some(Rate { count: 6, period: Duration::from_hours(1) }),
        unavailable: 1,
        ..Policy::default()
    }
}

fn engine() -> Engine {
    let devices: Vec<Device> = (0..DEVICES)
        .map(|number| Device {
            id: format!("press-{number}"),
            labels: [].into(),
            site: number / 8,
            variant: number % 2,
            group: (number % 4 != 0).then_some(number / GROUP),
            patience: Duration::from_hours(2),
            seen: (number % 5 != 0).then(begin),
        })
        .collect();
    Engine::new(policy(), "rollout 1", Baseline::of(Outcomes::default()), &devices)
}

/// A device that comes later.
fn newcomer(number: u32) -> Device {
    Device {
        id: format!("late-{number}"),
        labels: [].into(),
        site: number % 3,
        variant: number % 2,
        group: None,
        patience: Duration::from_hours(2),
        seen: Some(begin()),
    }
}

fn begin() -> Timestamp {
    "2026-11-02T08:00:00Z".parse().unwrap()
}

/// A server that keeps the history, and moves after every event.
struct Server {
    engine: Engine,
    history: Vec<Event>,
    now: Timestamp,
    /// Devices that have the release and have not ended, and since when.
    open: Vec<(u32, Timestamp)>,
    left: BTreeSet<u32>,
    joined: u32,
}

impl Server {
    fn new() -> Self {
        let (history, open) = (Vec::new(), Vec::new());
        Self { engine: engine(), history, now: begin(), open, left: BTreeSet::new(), joined: 0 }
    }

    fn record(&mut self, event: Event) {
        self.engine.apply(&event);
        self.history.push(event);
    }

    fn act(&mut self, action: Action) {
        let at = self.now;
        let device = match action {
            Action::Poll(device)
            | Action::Report(device, _)
            | Action::Fail(device)
            | Action::Leave(device, _) => device,
            Action::Wait(_) | Action::Join | Action::Order(_) => 0,
        };
        if device >= DEVICES + self.joined {
            return;
        }
        match action {
            Action::Wait(seconds) => {
                self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
            }
            Action::Order(order) => self.record(Event::Ordered { order, at }),
            Action::Report(device, rung) => self.record(Event::Reached { device, rung, at }),
            Action::Fail(device) => self.record(Event::Failed { device, at }),
            Action::Leave(device, is_gone) => {
                self.record(Event::Left { device, is_gone, at });
                self.left.insert(device);
                // What is not gone counts in its group, whatever became of the release there.
                self.open.retain(|(other, _)| !is_gone || *other != device);
            }
            Action::Join => {
                self.engine.join(&newcomer(self.joined));
                self.joined += 1;
            }
            Action::Poll(device) => {
                self.record(Event::Seen { device, at });
                if self.engine.answer(device, at).is_first {
                    self.record(Event::Offered { device, at });
                    self.open.push((device, at));
                }
            }
        }
        match action {
            Action::Report(device, Rung::Healthy) | Action::Fail(device) => {
                self.open.retain(|(other, _)| *other != device);
            }
            _ => {}
        }
        for step in self.engine.advance(self.now) {
            self.record(Event::Moved { step, at: self.now });
        }
    }

    /// The server after a kill: it reads its history again.
    fn again(&self) -> Engine {
        let mut engine = engine();
        for number in 0..self.joined {
            engine.join(&newcomer(number));
        }
        for event in &self.history {
            engine.apply(event);
        }
        engine.note_late(self.now);
        engine
    }
}

fn offered(engine: &Engine) -> Vec<bool> {
    (0..DEVICES).map(|device| engine.answer(device, begin()).reason == Reason::Given).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_killed_server_decides_as_before(actions in actions()) {
        let mut server = Server::new();
        for action in actions {
            server.act(action);
            prop_assert_eq!(format!("{:?}", server.again()), format!("{:?}", server.engine));
        }
    }

    #[test]
    fn bounds_and_stages_hold(actions in actions()) {
        let mut server = Server::new();
        let mut times = Vec::new();
        let mut is_urgent = false;
        for action in actions {
            let before = server.open.len();
            let status = server.engine.status().clone();
            server.act(action);
            is_urgent |= matches!(action, Action::Order(Order::Urgent));
            if server.open.len() <= before {
                continue;
            }
            // This device was offered the release for the first time.
            let (device, _) = *server.open.last().unwrap();
            prop_assert!(matches!(status, Status::Active | Status::Complete), "{status:?}");
            prop_assert!(!server.left.contains(&device), "a device that left");
            // Devices that are late do not hold up others.
            let patience = SignedDuration::from_hours(2);
            let lately = server.open.iter().filter(|(other, at)| {
                at.duration_until(server.now) <= patience && !server.left.contains(other)
            });
            prop_assert!(lately.count() <= 4);
            if device % 4 != 0 && device < DEVICES {
                let is_other = |other: u32| {
                    let is_grouped = !other.is_multiple_of(4) && other < DEVICES;
                    other != device && is_grouped && other / GROUP == device / GROUP
                };
                prop_assert_eq!(server.open.iter().find(|(other, _)| is_other(*other)), None);
            }
            times.push(server.now);
            if !is_urgent && times.len() > 6 {
                let hour = times[times.len() - 7].duration_until(server.now);
                prop_assert!(hour >= SignedDuration::from_hours(1), "seven devices in {hour}");
            }
        }
        // The stages, as they began: all devices that have it are in one that was open then.
        let mut open = 0;
        let mut approved = false;
        let first = engine();
        for event in &server.history {
            match event {
                Event::Moved { step: Move::Open { stage }, .. } => open = *stage,
                Event::Ordered { order: Order::Approve { stage: 1 }, .. } => approved = true,
                Event::Offered { device, at } => {
                    let Reason::Stage { own, .. } = first.answer(*device, *at).reason else { continue };
                    prop_assert!(own <= open, "a device of stage {own} while {open} is open");
                    prop_assert!(own != 1 || approved, "stage 1 was not approved");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_stop_ends_only_by_an_order(actions in actions()) {
        let mut server = Server::new();
        for action in actions {
            let before = server.engine.status().clone();
            server.act(action);
            let is_order = matches!(action, Action::Order(_));
            if matches!(before, Status::Stopped(_)) && !is_order {
                prop_assert_eq!(server.engine.status(), &before);
            }
            if before.is_final() && !matches!(action, Action::Order(Order::RollBack)) {
                prop_assert_eq!(server.engine.status(), &before);
            }
        }
    }

    /// Reports may come late, twice, and in another order: what is known in the end is the same.
    #[test]
    fn the_order_of_reports_does_not_matter(actions in actions(), seed in any::<u64>()) {
        let mut server = Server::new();
        for action in actions {
            server.act(action);
        }
        // Devices that come and go are rows of the server's own, in their order.
        let is_report = |event: &Event| matches!(event, Event::Reached { .. } | Event::Failed { .. } | Event::Seen { .. });
        let (mut reports, others): (Vec<Event>, Vec<Event>) = server.history.iter().cloned().partition(is_report);
        reports.extend(reports.clone());
        let mut random = edgewright_rollout::simulate::Random::new(seed);
        let mut keyed: Vec<(f64, Event)> = reports.into_iter().map(|event| (random.unit(), event)).collect();
        keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
        let engine = || {
            let mut engine = engine();
            for number in 0..server.joined {
                engine.join(&newcomer(number));
            }
            engine
        };
        let mut shuffled = engine();
        // A device reports after it was offered the release: that row is the server's own, and is first.
        for event in others.iter().chain(keyed.iter().map(|(_, event)| event)) {
            shuffled.apply(event);
        }
        let mut straight = engine();
        let straight_order = others.iter().chain(server.history.iter().filter(|event| is_report(event)));
        for event in straight_order {
            straight.apply(event);
        }
        for engine in [&mut shuffled, &mut straight] {
            engine.note_late(server.now);
        }
        prop_assert_eq!(format!("{shuffled:?}"), format!("{straight:?}"));
        prop_assert_eq!(offered(&shuffled), offered(&straight));
    }
}
