//! What default branches declare apart from images, and the channels that follow from it; jobs are simulated,
//! everything else is real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::time::Duration;

use common::{OPERATOR, World};
use edgewright_job::Behaviour;
use edgewright_model::run::{ReleaseNumber, RunNumber, RunState};
use edgewright_store::audit::AuditSelection;
use edgewright_store::channels::{ChannelChange, ChannelRow, Pin};

const SOURCE: &str = "edgewright: 1\nname: plant-os\nplatforms: [linux/amd64]\n";

impl World {
    fn declare(&self, more: &str) {
        self.write("edgewright.yaml", &format!("{SOURCE}{more}"));
    }

    async fn channel(&self, name: &str) -> ChannelRow {
        let channels = self.store.channels(self.source).await.unwrap();
        channels.into_iter().find(|channel| channel.name.as_str() == name).unwrap()
    }

    /// What the tag of a channel answers.
    async fn held(&self, name: &str) -> Option<u32> {
        self.channel(name).await.completed.map(|release| release.0)
    }

    async fn change(&self, channel: &str, change: ChannelChange) {
        let channel = channel.parse().unwrap();
        self.control.change_channel(&OPERATOR, None, &channel, &change).await.unwrap();
    }

    /// Starts a run whose job of plant-a hangs, and waits until it does.
    async fn hang(&self) -> (RunNumber, edgewright_process::OwnedTask<RunState>) {
        let before = self.executor.ran().len();
        self.executor.script("hmi/plant-a", [Behaviour::Hang, Behaviour::Succeed]);
        let run = self.poll().await.unwrap();
        let control = self.control.clone();
        let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await.unwrap() });
        let started = async {
            while !self.orders(before).iter().any(|order| order.contains("hmi/plant-a")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), started).await.unwrap();
        (run, driving)
    }

    /// Sites with their slots, as `NAME(ID): SLOT=VARIANT@CHANNEL …`, with `-` where they are gone.
    async fn sites(&self) -> Vec<String> {
        let sites = self.store.sites(self.source).await.unwrap();
        let mark = |gone: bool| if gone { "-" } else { "" };
        let shown = sites.iter().map(|site| {
            let slots = site.slots.iter().map(|slot| {
                let variant = slot.variant.as_ref().map_or("?".to_owned(), ToString::to_string);
                let channel = slot.channel.as_ref().map(|channel| format!("@{channel}")).unwrap_or_default();
                format!("{}{}={variant}{channel}", mark(slot.removed_at.is_some()), slot.id)
            });
            let slots: Vec<String> = slots.collect();
            format!("{}{}({}): {}", mark(site.removed_at.is_some()), site.name, site.id, slots.join(" "))
        });
        shown.collect()
    }
}

#[tokio::test]
async fn sites_slots_and_policies_are_taken_over_at_every_poll_whatever_runs_do() {
    let world = World::new().await;
    world.poll().await.unwrap();
    let first = [
        "plant-a(plant-a): one=hmi/plant-a two=gateway/plant-a",
        "plant-b(plant-b): one=hmi/plant-b two=gateway/plant-b",
    ];
    assert_eq!(world.sites().await, first);

    // While the first run waits: a slot gets a channel, a site goes, a policy comes, and an image breaks.
    world.declare(
        "channels: {stable: {follows: default-branch, rollout: slow}}\nrollouts: {slow: {stages: [{name: all}]}}\n",
    );
    let slots =
        "slots:\n  - {id: one, image: hmi, channel: stable}\n  - {id: three, image: gateway, name: Press}\n";
    world.write("sites/plant-a/site.yaml", &format!("id: plant-a\nlabels: {{region: north}}\n{slots}"));
    world.write("images/gateway/image.yaml", "from: nothing-like-it\nnonsense: 1\n");
    std::fs::remove_dir_all(world.folder.path().join("repository/sites/plant-b")).unwrap();
    world.commit("second").await;
    world.poll().await.unwrap();
    let second = [
        "plant-a(plant-a): one=hmi/plant-a@stable three=? -two=gateway/plant-a",
        "-plant-b(plant-b): -one=hmi/plant-b -two=gateway/plant-b",
    ];
    assert_eq!(world.sites().await, second);
    let policies = world.store.rollout_policies(world.source).await.unwrap();
    assert_eq!(policies.keys().map(ToString::to_string).collect::<Vec<_>>(), ["slow"]);

    // A site that has errors stays as it is, and so does everything while the source's own file has.
    world.write("sites/plant-a/site.yaml", "id: [");
    world.commit("a broken site").await;
    world.poll().await.unwrap();
    assert_eq!(world.sites().await, second);
    assert_eq!(world.store.inventory_state(world.source).await.unwrap().error, None);
    world.write("edgewright.yaml", "name: [");
    world.commit("a broken source").await;
    world.poll().await.unwrap();
    assert_eq!(world.sites().await, second);
    let state = world.store.inventory_state(world.source).await.unwrap();
    assert!(state.error.unwrap().contains("edgewright.yaml"));

    // It comes back.
    world.declare("");
    world.write("sites/plant-a/site.yaml", "id: plant-a\nslots: [{id: two, image: hmi}]\n");
    world.commit("fixed").await;
    world.poll().await.unwrap();
    assert_eq!(world.sites().await[0], "plant-a(plant-a): -one=hmi/plant-a@stable -three=? two=hmi/plant-a");
    assert_eq!(world.store.inventory_state(world.source).await.unwrap().error, None);

    // Its folder is renamed: the id keeps the name, and with it the image that its devices follow.
    let before = world.sites().await;
    let site = |name: &str| world.folder.path().join("repository/sites").join(name);
    std::fs::rename(site("plant-a"), site("moved")).unwrap();
    world.commit("renamed").await;
    world.poll().await.unwrap();
    assert_eq!(world.sites().await, before);
}

#[tokio::test]
async fn other_branches_say_nothing_about_channels_or_names() {
    let world = World::new().await;
    world.declare("channels: {stable: {follows: default-branch}, edge: {follows: {branch: develop}}}\n");
    world.commit("channels").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!((world.held("stable").await, world.held("edge").await), (Some(1), None));

    // `develop` claims the channel of the default branch for itself, and a new one.
    world.git(&["checkout", "--quiet", "-b", "develop"]).await;
    world.declare("channels: {stable: {follows: {branch: develop}}, mine: {follows: {branch: develop}}}\n");
    world.write("sites/plant-a/files/etc/site", "develop");
    world.commit("develop").await;
    world.git(&["checkout", "--quiet", "main"]).await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!((world.held("stable").await, world.held("edge").await), (Some(1), Some(2)));
    assert_eq!(world.store.channels(world.source).await.unwrap().len(), 2);

    // It claims another name.
    world.git(&["checkout", "--quiet", "develop"]).await;
    world.rename("other-os");
    world.commit("renamed").await;
    world.git(&["checkout", "--quiet", "main"]).await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let failure = world.store.run(run).await.unwrap().unwrap().failure.unwrap();
    assert!(failure.contains("only the default branch can rename a source"), "{failure}");
    let owned = world.store.source(world.source).await.unwrap().definition_name.unwrap();
    assert_eq!((owned.as_str(), world.held("edge").await), ("plant-os", Some(2)));
}

#[tokio::test]
async fn a_hold_during_a_run_holds_and_what_was_released_meanwhile_follows() {
    let world = World::new().await;
    world.run().await;
    world.write("images/base/files/etc/os", "new");
    world.commit("second").await;
    let (run, driving) = world.hang().await;
    world.change("stable", ChannelChange::Hold { reason: "a fault".to_owned() }).await;
    world.control.cancel(&OPERATOR, run).await.unwrap();
    assert_eq!(driving.await.unwrap(), RunState::Cancelled);
    let retried = world.control.retry(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(retried).await.unwrap(), RunState::Passed);
    assert_eq!(
        world.store.newest_release(world.source, "main").await.unwrap(),
        Some(ReleaseNumber(2)),
        "the release is made"
    );
    assert_eq!(world.held("stable").await, Some(1), "the channel stays");
    world.change("stable", ChannelChange::Resume).await;
    assert_eq!(world.held("stable").await, Some(2));
    let trail = AuditSelection {
        object: Some("plants/channels/stable".to_owned()),
        limit: 10,
        ..AuditSelection::default()
    };
    let trail = world.store.audit_trail(&trail).await.unwrap();
    let trail: Vec<String> =
        trail.iter().rev().map(|row| format!("{} {}", row.entry.actor, row.entry.operation)).collect();
    assert_eq!(
        trail,
        [
            "system:channels channel.move",
            "operator:command channel.hold",
            "operator:command channel.resume",
            "system:channels channel.move",
        ]
    );
}

#[tokio::test]
async fn a_hold_in_git_takes_effect_at_the_next_poll_while_a_run_is_in_progress() {
    let world = World::new().await;
    world.run().await;
    world.write("images/base/files/etc/os", "new");
    world.commit("second").await;
    let (run, driving) = world.hang().await;
    world.declare("channels: {stable: {follows: default-branch, hold: until Monday}}\n");
    world.commit("held").await;
    world.poll().await.unwrap();
    assert_eq!(world.channel("stable").await.held(), Some("until Monday"));
    world.control.cancel(&OPERATOR, run).await.unwrap();
    driving.await.unwrap();
    let newest = world.store.open_runs().await.unwrap().pop().unwrap().number;
    assert_eq!(world.control.drive(newest).await.unwrap(), RunState::Passed);
    assert_eq!(world.held("stable").await, Some(1));
    world.declare("");
    world.commit("resumed").await;
    world.poll().await.unwrap();
    assert_eq!(world.held("stable").await, Some(2), "before its run");
}

#[tokio::test]
async fn a_channel_is_pinned_to_a_release_that_is_there_and_follows_again() {
    let world = World::new().await;
    world.run().await;
    world.write("sites/plant-a/files/etc/site", "new");
    world.commit("second").await;
    world.run().await;
    assert_eq!(world.held("stable").await, Some(2));
    let pin =
        |release| ChannelChange::Pin(Pin { release: ReleaseNumber(release), reason: "2 fails".to_owned() });
    let stable = "stable".parse().unwrap();
    let missing = world.control.change_channel(&OPERATOR, None, &stable, &pin(9)).await.unwrap_err();
    assert!(missing.to_string().contains("has no release 9"), "{missing}");
    world.change("stable", pin(1)).await;
    assert_eq!(world.held("stable").await, Some(1));
    world.write("sites/plant-a/files/etc/site", "newer");
    world.commit("third").await;
    world.run().await;
    assert_eq!(world.held("stable").await, Some(1));
    world.change("stable", ChannelChange::Unpin).await;
    assert_eq!(world.held("stable").await, Some(3));
    let nothing = "nothing".parse().unwrap();
    let unknown = world.control.change_channel(&OPERATOR, None, &nothing, &pin(1)).await.unwrap_err();
    assert!(unknown.to_string().contains("no channel `nothing`"), "{unknown}");
}

#[tokio::test]
async fn a_channel_with_after_takes_a_release_once_the_other_has_held_it_for_so_long() {
    let mut world = World::new().await;
    world.declare(
        "channels: {test: {follows: default-branch}, stable: {follows: {channel: test}, after: 24h}}\n",
    );
    world.commit("channels").await;
    world.run().await;
    assert_eq!((world.held("test").await, world.held("stable").await), (Some(1), None));
    world.later(23).await;
    let early = world.control.advance_channels().await.unwrap();
    assert_eq!((early.done, world.held("stable").await), (None, None));
    assert!(early.next.unwrap() <= Duration::from_hours(1));
    world.later(25).await;
    world.control.advance_channels().await.unwrap();
    assert_eq!(world.held("stable").await, Some(1));
}

#[tokio::test]
async fn another_branch_in_a_declaration_takes_effect_at_the_next_poll() {
    let world = World::new().await;
    world.declare("channels: {stable: {follows: default-branch}, edge: {follows: {branch: develop}}}\n");
    world.commit("channels").await;
    world.run().await;
    world.git(&["checkout", "--quiet", "-b", "develop"]).await;
    world.write("sites/plant-a/files/etc/site", "develop");
    world.commit("develop").await;
    world.git(&["checkout", "--quiet", "main"]).await;
    world.run().await;
    assert_eq!((world.held("stable").await, world.held("edge").await), (Some(1), Some(2)));
    // The build is red meanwhile.
    world.declare("channels: {stable: {follows: {branch: develop}}, edge: {follows: {branch: main}}}\n");
    world.write("images/hmi/image.yaml", "from: nothing-like-it\n");
    world.commit("swapped").await;
    world.poll().await.unwrap();
    assert_eq!((world.held("stable").await, world.held("edge").await), (Some(2), Some(1)));
}

#[tokio::test]
async fn a_commit_that_exceeds_a_limit_fails_its_run_and_polling_continues() {
    let world = World::new().await;
    world.run().await;
    world.write(&format!("{}f", "d/".repeat(200)), "x");
    world.commit("too deep").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let row = world.store.run(run).await.unwrap().unwrap();
    let why = row.failure.unwrap();
    assert!(why.contains(row.commit.as_str()) && why.contains("129 components, at most 128"), "{why}");
    assert!(row.diagnostics[0].hint.is_some());
    // It is decided: no later poll and no restart does it again, and the next commit is built.
    assert_eq!(world.poll().await, None);
    std::fs::remove_dir_all(world.folder.path().join("repository/d")).unwrap();
    world.declare("vars: {}\n");
    world.commit("fixed").await;
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
}
