//! Releases on their way to devices: runs with simulated jobs, a clock that a test sets, and devices that
//! ask and report as the registry passes it on. Everything else is real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{OPERATOR, World};
use edgewright_control::ControlError;
use edgewright_control::approvals::NotCounted;
use edgewright_control::context::OperationContext;
use edgewright_control::rollouts::{Evidence, RolloutChoice, RolloutOrder, RolloutState, Rung};
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::{ChannelName, DeviceId};
use edgewright_model::principal::Principal;
use edgewright_model::run::{ReleaseNumber, RunState};
use edgewright_process::Clock;
use edgewright_store::audit::{AuditSelection, NewAuditEntry};
use edgewright_store::channels::{ChannelChange, ChannelRow, Pin};
use edgewright_store::fleet::{DeviceChange, DeviceState, Image};
use edgewright_store::fleet_enrol::{EnrolmentRule, NewDevice};
use edgewright_store::fleet_evidence::FleetNotes;

const SOURCE: &str = "edgewright: 1
name: plant-os
platforms: [linux/amd64]
channels:
  stable: {follows: default-branch, rollout: careful}
  plain: {follows: default-branch}
rollouts:
  careful:
    stages:
      - {name: canary, per_site: 1, soak: 1h, ended: 100}
      - {name: half, percent: 50, approval: true, ended: 100}
    group: pair
";

/// Devices `a1` to `a5` at plant-a and `b1` to `b5` at plant-b; 1 and 2 of each site are a pair.
const DEVICES: [&str; 10] = ["a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3", "b4", "b5"];

struct Fleet {
    world: World,
    clock: Clock,
}

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn stable() -> RolloutChoice {
    RolloutChoice::Channel(None, "stable".parse().unwrap())
}

fn channel_name() -> ChannelName {
    "stable".parse().unwrap()
}

impl Fleet {
    /// Release 1 is complete on `stable`, and all devices confirmed it.
    async fn new() -> Self {
        let mut world = World::new().await;
        world.write("edgewright.yaml", SOURCE);
        for site in ["plant-a", "plant-b"] {
            let letter = site.chars().last().unwrap();
            let slots = (1..=5).map(|number| {
                let labels = if number <= 2 { ", labels: {pair: one}" } else { "" };
                format!("  - {{id: {letter}{number}, image: hmi, channel: stable{labels}}}\n")
            });
            let slots: String = slots.collect();
            let other = format!("  - {{id: {letter}9, image: gateway, channel: plain}}\n");
            world.write(&format!("sites/{site}/site.yaml"), &format!("id: {site}\nslots:\n{slots}{other}"));
        }
        world.commit("a fleet").await;
        assert_eq!(world.run().await.1, RunState::Passed);
        let clock = Clock::fixed(Clock::system().now());
        world.reopen(clock.clone()).await;
        let fleet = Self { world, clock };
        for name in DEVICES {
            fleet.enrol(name).await;
            fleet.confirm(name, 1).await;
        }
        fleet.advance().await;
        assert_eq!(fleet.channel().await.completed, Some(ReleaseNumber(1)));
        fleet
    }

    fn entry() -> NewAuditEntry {
        NewAuditEntry {
            actor: "operator:test".parse().unwrap(),
            operation: "device.enrol".to_owned(),
            object: String::new(),
            before: None,
            after: None,
            request: None,
        }
    }

    async fn enrol(&self, name: &str) {
        let (source, store, now) = (self.world.source, &self.world.store, self.clock.now());
        let site = if name.starts_with('a') { "plant-a" } else { "plant-b" };
        let hash = Digest::of(name);
        let rule = EnrolmentRule {
            source,
            site: site.parse().unwrap(),
            slot: Some(name.parse().unwrap()),
            labels: [].into(),
            serials: [].into(),
            uses: 1,
            needs_approval: false,
            replaces: None,
            expires_at: now + Duration::from_hours(1),
        };
        store.add_enrolment_token(&hash, &rule, &Self::entry(), now).await.unwrap();
        let token = store.enrolment_token(&hash).await.unwrap().unwrap();
        let new = NewDevice {
            token: token.id,
            attempt: None,
            id: device(name),
            source,
            site: rule.site,
            slot: name.parse().unwrap(),
            is_waiting: false,
            serial: None,
            credential: Digest::of(format!("credential of {name}")),
            replaces: None,
        };
        store.enrol(&new, &Self::entry(), now).await.unwrap();
    }

    /// The image of a device in a release.
    async fn image(&self, name: &str, release: u32) -> Image {
        let variant = if name.starts_with('a') { "hmi/plant-a" } else { "hmi/plant-b" };
        let entries = self.world.store.entries(self.world.source, ReleaseNumber(release)).await.unwrap();
        let entry = entries.into_iter().find(|entry| entry.variant.to_string() == variant).unwrap();
        Image { repository: entry.repository, digest: entry.digest }
    }

    /// As the fleet's own rows have it.
    async fn confirm(&self, name: &str, release: u32) {
        let (image, now) = (self.image(name, release).await, self.clock.now());
        let notes = FleetNotes {
            seen: vec![(device(name), now)],
            confirmed: vec![(device(name), image, now)],
            ..FleetNotes::default()
        };
        self.world.store.write_fleet_notes(notes).await.unwrap();
    }

    async fn advance(&self) {
        self.world.control.advance_rollouts().await.unwrap();
    }

    async fn channel(&self) -> ChannelRow {
        let channels = self.world.store.channels(self.world.source).await.unwrap();
        channels.into_iter().find(|channel| channel.name == channel_name()).unwrap()
    }

    /// A commit that changes all images, its run and the beginning of its rollout.
    async fn release(&self, text: &str) {
        for site in ["plant-a", "plant-b"] {
            self.world.write(&format!("sites/{site}/files/etc/site"), &format!("{site} {text}"));
        }
        self.world.commit(text).await;
        assert_eq!(self.world.run().await.1, RunState::Passed);
        self.advance().await;
    }

    async fn state(&self) -> RolloutState {
        self.world.control.rollouts().state(&stable()).await.unwrap()
    }

    /// A poll of a device: which release it is answered with, `-` if the rollout does not decide about it.
    async fn poll(&self, name: &str) -> String {
        let (rollouts, id, now) = (self.world.control.rollouts(), device(name), self.clock.now());
        let Some(answer) = rollouts.answer(&id, now) else { return "-".to_owned() };
        if answer.is_first {
            assert!(rollouts.first_offer(&id, now).await.unwrap(), "{name}: {}", answer.reason);
            let again = rollouts.answer(&id, now).unwrap();
            assert!(again.is_new && !again.is_first && again.digest == answer.digest);
        }
        let newest = self.world.store.newest_release(self.world.source, "main").await.unwrap().unwrap();
        for release in (1..=newest.0).rev() {
            if self.image(name, release).await.digest == answer.digest {
                return release.to_string();
            }
        }
        panic!("{name} is answered with no release");
    }

    /// Polls of all devices that are answered with a release.
    async fn having(&self, release: u32) -> Vec<&'static str> {
        let mut having = Vec::new();
        for name in DEVICES {
            if self.poll(name).await == release.to_string() {
                having.push(name);
            }
        }
        having
    }

    async fn note(&self, name: &str, release: u32, evidence: Evidence) {
        let image = self.image(name, release).await;
        if evidence == Evidence::Reached(Rung::Healthy) {
            self.confirm(name, release).await;
        }
        let rollouts = self.world.control.rollouts();
        rollouts.note(&device(name), &image.digest, evidence, self.clock.now()).await.unwrap();
    }

    async fn healthy(&self, names: &[&str], release: u32) {
        for name in names {
            self.note(name, release, Evidence::Reached(Rung::Healthy)).await;
        }
    }

    async fn order(&self, order: RolloutOrder) -> Result<RolloutState, ControlError> {
        self.world.control.rollouts().order(&OPERATOR, &stable(), &order).await
    }

    /// Time passes; all devices ask meanwhile.
    async fn wait(&self, minutes: u64) {
        self.clock.advance(Duration::from_mins(minutes));
        self.advance().await;
    }

    /// What a server that was killed now would do.
    async fn kill(&mut self) {
        let plan =
            |state: RolloutState| (state.row, state.explanation, state.stages, state.counts, state.outcomes);
        let before = plan(self.state().await);
        let mut answers = BTreeMap::new();
        for name in DEVICES {
            answers.insert(name, self.world.control.rollouts().answer(&device(name), self.clock.now()));
        }
        self.world.reopen(self.clock.clone()).await;
        assert_eq!(plan(self.state().await), before);
        for name in DEVICES {
            let answer = self.world.control.rollouts().answer(&device(name), self.clock.now());
            assert_eq!(answer, answers[name], "{name}");
        }
    }

    async fn audited(&self) -> Vec<String> {
        let selection = AuditSelection { limit: 1000, ..AuditSelection::default() };
        let rows = self.world.store.audit_trail(&selection).await.unwrap();
        rows.into_iter().rev().map(|row| format!("{} {}", row.entry.actor, row.entry.operation)).collect()
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn a_release_goes_through_its_stages_and_a_kill_at_every_step_changes_nothing() {
    let mut fleet = Fleet::new().await;
    fleet.release("two").await;
    let channel = fleet.channel().await;
    assert_eq!((channel.target, channel.completed), (Some(ReleaseNumber(2)), Some(ReleaseNumber(1))));
    let state = fleet.state().await;
    assert_eq!((state.row.release, state.row.before), (ReleaseNumber(2), Some(ReleaseNumber(1))));
    assert_eq!(state.counts.members, 10);
    fleet.kill().await;

    // One device of each site; the others keep what they have.
    let canaries = fleet.having(2).await;
    assert_eq!(canaries.len(), 2, "{canaries:?}");
    assert!(canaries[0].starts_with('a') && canaries[1].starts_with('b'));
    assert_eq!(fleet.having(1).await.len(), 8);
    fleet.kill().await;
    fleet.note(canaries[0], 2, Evidence::Reached(Rung::Booted)).await;
    fleet.kill().await;
    fleet.healthy(&canaries[..1], 2).await;
    assert!(fleet.state().await.explanation.starts_with("canary: 1 of 2 confirmed"));
    // A report that comes twice, or late with less, changes nothing.
    let generation = fleet.state().await.row.generation;
    fleet.healthy(&canaries[..1], 2).await;
    fleet.note(canaries[0], 2, Evidence::Reached(Rung::Downloaded)).await;
    assert_eq!(fleet.state().await.row.generation, generation);
    fleet.healthy(&canaries[1..], 2).await;
    let soaking = fleet.state().await;
    assert!(soaking.explanation.contains("soak ends"), "{}", soaking.explanation);
    fleet.kill().await;
    assert_eq!(fleet.having(2).await, canaries);

    // The soak is over, and the next stage waits for an approval.
    fleet.wait(61).await;
    fleet.kill().await;
    let state = fleet.state().await;
    assert!(state.explanation.starts_with("half: 2 of"), "{}", state.explanation);
    assert!(state.explanation.contains("waits for an approval"), "{}", state.explanation);
    assert_eq!(fleet.having(2).await, canaries);
    fleet.order(RolloutOrder::Approve(None)).await.unwrap();
    let generation = fleet.state().await.row.generation;
    fleet.order(RolloutOrder::Approve(None)).await.unwrap();
    assert_eq!(fleet.state().await.row.generation, generation, "a second approval changes nothing");
    fleet.kill().await;

    // Half of the devices, never both of a pair at once.
    let mut healthy = canaries.clone();
    for _ in 0..12 {
        let having = fleet.having(2).await;
        let under_way: Vec<&str> = having.iter().copied().filter(|name| !healthy.contains(name)).collect();
        for pair in [["a1", "a2"], ["b1", "b2"]] {
            assert!(!pair.iter().all(|name| under_way.contains(name)), "{under_way:?}");
        }
        if let Some(name) = under_way.first() {
            fleet.healthy(&[*name], 2).await;
            healthy.push(*name);
            fleet.kill().await;
        }
    }
    assert_eq!(healthy.len(), 10, "half, then all others");
    let state = fleet.state().await;
    assert_eq!(state.row.state, "complete");
    let channel = fleet.channel().await;
    assert_eq!((channel.target, channel.completed), (Some(ReleaseNumber(2)), Some(ReleaseNumber(2))));
    assert!(matches!(fleet.order(RolloutOrder::Abort).await, Err(ControlError::RolloutOrder { .. })));

    let audited = fleet.audited().await;
    let count = |row: &str| audited.iter().filter(|other| *other == row).count();
    assert_eq!(count("operator:command rollout.approve"), 1, "{audited:#?}");
    assert!(count("system:rollouts rollout.move") >= 5, "{audited:#?}");
    let events = fleet.world.store.events_after(0, 10_000).await.unwrap();
    let states: Vec<String> = events
        .iter()
        .filter(|event| event.kind == "rollout")
        .map(|event| format!("{} {}", event.data["state"].as_str().unwrap(), event.data["stage"]))
        .collect();
    assert_eq!(states, ["active 0", "active 1", "active 2", "complete 2"]);
}

#[tokio::test]
async fn a_bad_release_is_stopped_and_rolled_back() {
    let mut fleet = Fleet::new().await;
    fleet.release("bad").await;
    let canaries = fleet.having(2).await;
    fleet.note(canaries[0], 2, Evidence::Reached(Rung::Booted)).await;
    fleet.note(canaries[0], 2, Evidence::Failed).await;
    assert_eq!(fleet.poll(canaries[0]).await, "1", "a device that failed gets what it had");
    fleet.note(canaries[1], 2, Evidence::Failed).await;
    let state = fleet.state().await;
    assert_eq!(state.row.state, "stopped");
    assert!(state.explanation.contains("too many of the first devices failed"), "{}", state.explanation);
    fleet.kill().await;
    assert_eq!(fleet.having(2).await, [""; 0]);
    fleet.wait(600).await;
    assert_eq!(fleet.state().await.row.state, "stopped");

    // A person thinks that they know better.
    fleet.order(RolloutOrder::Resume).await.unwrap();
    fleet.wait(61).await;
    fleet.order(RolloutOrder::Approve(Some("half".parse().unwrap()))).await.unwrap();
    let more = fleet.having(2).await;
    assert!(!more.is_empty(), "{:?}", fleet.state().await);
    fleet.healthy(&more[..1], 2).await;
    fleet.kill().await;

    // And back: a release with the former digests.
    let place = (None, &channel_name());
    let (_, channel) = fleet.world.control.roll_back(&OPERATOR, place, (None, "presses stop")).await.unwrap();
    assert_eq!((channel.target, channel.completed), (Some(ReleaseNumber(3)), Some(ReleaseNumber(1))));
    assert!(channel.hold.unwrap().contains("presses stop"));
    assert_eq!(fleet.image("a1", 3).await, fleet.image("a1", 1).await);
    let state = fleet.state().await;
    assert_eq!((state.row.release, state.row.kind.name()), (ReleaseNumber(3), "rollback"));
    // Only the device that runs the bad release has to change; all others are answered with what they had.
    assert_eq!(state.counts.members, 1, "{state:?}");
    assert!(state.is_urgent);
    fleet.kill().await;
    let answer = fleet.world.control.rollouts().answer(&device(more[0]), fleet.clock.now()).unwrap();
    assert!(answer.is_new && answer.digest == fleet.image(more[0], 1).await.digest);
    assert_eq!(fleet.having(2).await, [""; 0]);
    fleet.healthy(&more[..1], 3).await;
    assert_eq!(fleet.state().await.row.state, "complete");
    assert_eq!(fleet.channel().await.completed, Some(ReleaseNumber(3)));

    // The bad digests are not taken again, by promotion neither, until a person clears them.
    let bad = fleet.image("a1", 2).await.digest;
    let quarantine = fleet.world.store.quarantine().await.unwrap();
    assert!(quarantine.iter().any(|row| row.digest == bad));
    assert!(fleet.world.control.rollouts().is_quarantined(fleet.world.source, &bad));
    let resume = ChannelChange::Resume;
    fleet.world.control.change_channel(&OPERATOR, None, &channel_name(), &resume).await.unwrap();
    fleet.release("bad").await;
    assert_eq!(fleet.channel().await.target, Some(ReleaseNumber(3)));
    let newest = fleet.world.store.newest_release(fleet.world.source, "main").await.unwrap().unwrap();
    assert_eq!(newest, ReleaseNumber(4));
    let promoted = fleet.world.control.promote(&OPERATOR, place, (newest, "please")).await;
    assert!(matches!(promoted, Err(ControlError::Quarantined { .. })), "{promoted:?}");
    fleet.world.control.clear_quarantine(&OPERATOR, &bad).await.unwrap();
    let again = fleet.world.control.clear_quarantine(&OPERATOR, &bad).await;
    assert!(matches!(again, Err(ControlError::NotQuarantined { .. })));
    fleet.release("good").await;
    let newest = fleet.world.store.newest_release(fleet.world.source, "main").await.unwrap().unwrap();
    assert_eq!(fleet.channel().await.target, Some(newest));
}

#[tokio::test]
async fn a_newer_release_takes_the_place_of_one_on_the_way() {
    let mut fleet = Fleet::new().await;
    fleet.release("two").await;
    let canaries = fleet.having(2).await;
    fleet.healthy(&canaries[..1], 2).await;
    fleet.note(canaries[1], 2, Evidence::Reached(Rung::Downloaded)).await;
    let first = fleet.state().await.row.number;
    fleet.release("three").await;
    fleet.kill().await;
    let old = fleet.world.control.rollouts().state(&RolloutChoice::Number(first)).await.unwrap();
    assert_eq!(old.row.state, "superseded");
    let choice = RolloutChoice::Number(first);
    let paused = fleet.world.control.rollouts().order(&OPERATOR, &choice, &RolloutOrder::Pause).await;
    assert!(matches!(paused, Err(ControlError::RolloutOrder { .. })));
    let state = fleet.state().await;
    assert_eq!((state.row.release, state.row.stage, state.counts.members), (ReleaseNumber(3), 0, 10));
    // What ran the release before has it as what it returns to; what had only its bytes returns further.
    for (name, expected) in [(canaries[0], "2"), (canaries[1], "1")] {
        let devices = fleet.world.control.rollouts().devices(&stable(), Some(&device(name))).await.unwrap();
        let before = devices[0].before.clone().unwrap();
        assert_eq!(before, fleet.image(name, expected.parse().unwrap()).await.digest, "{name}");
    }
    let three = fleet.having(3).await;
    assert_eq!(three.len(), 2, "stage 0 again");
    for name in canaries.iter().filter(|name| !three.contains(name)) {
        let expected = if *name == canaries[0] { "2" } else { "1" };
        assert_eq!(fleet.poll(name).await, expected);
    }
}

#[tokio::test]
async fn devices_come_and_go_while_a_rollout_is_on_its_way() {
    let mut fleet = Fleet::new().await;
    let repair = DeviceState::Held { reason: "repair".to_owned() };
    let (store, now) = (fleet.world.store.clone(), fleet.clock.now());
    let hold = DeviceChange::State(repair.clone());
    store.change_device(&device("a3"), &DeviceState::Active, &hold, &Fleet::entry(), now).await.unwrap();
    fleet.release("two").await;
    assert_eq!(fleet.state().await.counts.members, 9, "a held device is no member");
    assert_eq!(fleet.poll("a3").await, "-");
    let retired = DeviceChange::State(DeviceState::Retired { reason: "scrap".to_owned() });
    store.change_device(&device("b4"), &DeviceState::Active, &retired, &Fleet::entry(), now).await.unwrap();
    let active = DeviceChange::State(DeviceState::Active);
    store.change_device(&device("a3"), &repair, &active, &Fleet::entry(), now).await.unwrap();
    fleet.advance().await;
    let state = fleet.state().await;
    assert_eq!(state.counts.members, 9, "one left, and one came: {state:?}");
    assert_eq!(fleet.poll("b4").await, "-");
    let devices = fleet.world.control.rollouts().devices(&stable(), None).await.unwrap();
    let stage_of = |name: &str| devices.iter().find(|one| one.device == device(name)).unwrap().stage.clone();
    assert_eq!(stage_of("a3"), "all other devices");
    fleet.kill().await;
    fleet.advance().await;
    assert_eq!(fleet.state().await.counts.members, 9);
}

#[tokio::test]
async fn mistakes_of_an_operator_are_errors_or_change_nothing() {
    let fleet = Fleet::new().await;
    fleet.release("two").await;
    let place = (None, &channel_name());
    let promote = async |release: u32| {
        let wanted = (ReleaseNumber(release), "now");
        fleet.world.control.promote(&OPERATOR, place, wanted).await
    };
    promote(2).await.unwrap();
    assert!(matches!(promote(1).await, Err(ControlError::NotForward { .. })));
    assert!(matches!(promote(9).await, Err(ControlError::NoRelease { .. })));
    for order in [RolloutOrder::Pause, RolloutOrder::Urgent] {
        let first = fleet.order(order.clone()).await.unwrap().row.generation;
        assert_eq!(fleet.order(order).await.unwrap().row.generation, first);
    }
    assert_eq!(fleet.having(2).await, [""; 0], "it is paused");
    let unknown = fleet.order(RolloutOrder::Approve(Some("canary".parse().unwrap()))).await;
    assert!(unknown.unwrap_err().to_string().contains("needs no approval"));
    fleet.order(RolloutOrder::Abort).await.unwrap();
    fleet.order(RolloutOrder::Abort).await.unwrap();
    let resumed = fleet.order(RolloutOrder::Resume).await.unwrap_err();
    assert_eq!(resumed.to_string(), "cannot resume rollout 1: it has ended: aborted");
    fleet.wait(1).await;
    assert_eq!(fleet.state().await.row.state, "aborted", "it does not begin again by itself");
    let hold = ChannelChange::Hold { reason: "a fault".to_owned() };
    fleet.world.control.change_channel(&OPERATOR, None, &channel_name(), &hold).await.unwrap();
    fleet.release("three").await;
    assert!(matches!(promote(3).await, Err(ControlError::ChannelStays { .. })));
    let plain = RolloutChoice::Channel(None, "plain".parse().unwrap());
    let missing = fleet.world.control.rollouts().state(&plain).await;
    assert!(matches!(missing, Err(ControlError::NoRollout { .. })));
}

#[tokio::test]
async fn a_backup_orders_no_downgrade_and_channels_without_devices_or_policy_move_at_once() {
    let mut fleet = Fleet::new().await;
    let plain = |channels: Vec<ChannelRow>| {
        channels.into_iter().find(|channel| channel.name.as_str() == "plain").unwrap().completed
    };
    fleet.enrol("a9").await;
    fleet.release("two").await;
    assert_eq!(plain(fleet.world.store.channels(fleet.world.source).await.unwrap()), Some(ReleaseNumber(2)));
    let answer = fleet.world.control.rollouts().answer(&device("a9"), fleet.clock.now()).unwrap();
    assert!(answer.is_new && !answer.is_first, "{answer:?}");
    let canaries = fleet.having(2).await;
    fleet.healthy(&canaries, 2).await;

    fleet.world.store.forget_positions().await.unwrap();
    fleet.world.reopen(fleet.clock.clone()).await;
    fleet.advance().await;
    for name in DEVICES {
        assert_eq!(fleet.poll(name).await, "-", "devices may be further than the backup");
    }
    // The next release is newer than all that the backup may have missed.
    fleet.release("three").await;
    assert_eq!(fleet.state().await.row.release, ReleaseNumber(3));
    assert_eq!(fleet.having(3).await.len(), 2);
}

#[tokio::test]
async fn a_stage_that_asks_for_two_approvals_begins_with_those_of_two_other_users() {
    let user = |name: &str, grant: &str| {
        let grants = [grant.parse().unwrap()].into();
        OperationContext::of_request(Principal::User { name: name.into(), grants }, None)
    };
    let mut fleet = Fleet::new().await;
    fleet.world.write("edgewright.yaml", &SOURCE.replace("approval: true", "approvals: 2"));
    fleet.release("two").await;
    let half = RolloutOrder::Approve(Some("half".parse().unwrap()));
    let approve = async |fleet: &Fleet, context: &OperationContext| {
        fleet.world.control.rollouts().order(context, &stable(), &half).await
    };
    for (grant, permitted) in [
        ("viewer", false),
        ("operator", false),
        ("approver:channel=plain", false),
        ("approver:source=plants,channel=stable", true),
    ] {
        let result = approve(&fleet, &user("anna", grant)).await;
        assert_eq!(result.is_ok(), permitted, "{grant}: {result:?}");
    }
    let anna = user("anna", "approver");
    let state = fleet.state().await;
    let given: Vec<String> = state.stages[1].approved_by.iter().map(ToString::to_string).collect();
    assert_eq!((state.stages[1].approvals, given), (2, vec!["user:anna".to_owned()]));
    assert!(state.stages[1].needs_approval);
    // Given again, also after a restart, it changes nothing.
    fleet.kill().await;
    assert_eq!(approve(&fleet, &anna).await.unwrap().row.generation, state.row.generation);

    // Neither the shared token nor who ordered the release counts, whichever role they have.
    let otto = user("otto", "admin");
    let pin = Pin { release: ReleaseNumber(2), reason: "the hall needs it".to_owned() };
    let pin = ChannelChange::Pin(pin);
    fleet.world.control.change_channel(&otto, None, &channel_name(), &pin).await.unwrap();
    for (context, why) in [(&OPERATOR, NotCounted::Shared), (&otto, NotCounted::OwnOrder)] {
        let error = approve(&fleet, context).await.unwrap_err();
        assert!(matches!(&error, ControlError::Approval { why: found, .. } if *found == why), "{error}");
        assert_eq!(error.class(), ErrorClass::Denied);
    }
    assert_eq!(fleet.state().await.row.generation, state.row.generation);
    // The stage is open before its second approval is there: it waits.
    let canaries = fleet.having(2).await;
    fleet.healthy(&canaries, 2).await;
    fleet.wait(61).await;
    let waiting = fleet.state().await;
    assert!(waiting.explanation.contains("1 of 2 approvals given"), "{}", waiting.explanation);
    assert_eq!(fleet.having(2).await, canaries);
    assert!(!approve(&fleet, &user("eva", "approver")).await.unwrap().stages[1].needs_approval);
    fleet.kill().await;
    assert!(fleet.having(2).await.len() > canaries.len());
    let audited = fleet.audited().await;
    let approvals: Vec<&String> = audited.iter().filter(|row| row.contains("rollout.approve")).collect();
    assert_eq!(approvals, ["user:anna rollout.approve", "user:eva rollout.approve"]);
}
