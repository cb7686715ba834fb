//! Fifty agents over HTTP, from their enrolment through a good release, a bad one that the gate stops twice,
//! and its repair.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use futures::future::join_all;
use serde_json::Value;

use crate::devices::{released, serve};
use crate::rollouts::{json, plants, release};
use crate::server::Server;
use crate::simulated::Simulated;
use crate::world::{edgewright, until};

const DEVICES: usize = 50;
/// How many get a release first.
const CANARIES: usize = 3;
/// How many may have a release that they have neither confirmed nor left.
const IN_FLIGHT: usize = 6;
const POLICY: &str = "channels: {stable: {follows: default-branch, rollout: careful}}
rollouts:
  careful:
    in_flight: 6
    stages: [{name: canary, count: 3, ended: 100}, {name: half, percent: 50, approval: true, ended: 100}]
";

struct Fleet<'a> {
    folder: &'a Path,
    devices: Vec<Simulated>,
}

impl<'a> Fleet<'a> {
    /// All devices of a site at the same time, with one token.
    async fn enrol(folder: &'a Path, server: &Server) -> Self {
        let made = json(folder, &["device", "enrol", "s-a", "--any-slot", "--uses", "50"]).await;
        let token = made["token"].as_str().unwrap();
        let enrol = async |number: usize| {
            Simulated::enrol(server, token, &folder.join(format!("devices/{number}"))).await
        };
        Self { folder, devices: join_all((0..DEVICES).map(enrol)).await }
    }

    /// Each device asks once.
    async fn check(&mut self) {
        join_all(self.devices.iter_mut().map(Simulated::check)).await;
    }

    /// All devices ask again and again until the rollout is in a state.
    async fn check_until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            self.check().await;
            let shown = json(self.folder, &["rollout", "show", "stable"]).await;
            holds(&shown).then_some(shown)
        })
        .await
    }

    /// The canaries take the release, and its next stage waits for an operator, who approves it.
    async fn pass_the_canaries(&mut self, new: &Digest) {
        let stages = self.stages().await;
        let shown = self.check_until("the canaries", |shown| shown["stage"] == "half").await;
        assert!(shown["explanation"].as_str().unwrap().contains("waits for an approval"), "{shown:#}");
        let canaries: BTreeSet<&DeviceId> =
            stages.iter().filter(|(_, stage)| *stage == "canary").map(|(device, _)| device).collect();
        assert_eq!(canaries.len(), CANARIES);
        self.check().await;
        let with_new = self.devices.iter().filter(|device| device.answers.contains(new));
        assert_eq!(with_new.map(|device| &device.id).collect::<BTreeSet<_>>(), canaries);
        json(self.folder, &["rollout", "approve", "stable"]).await;
    }

    /// The devices take an approved release to its end: those after the last stage come last.
    async fn complete(&mut self, new: &Digest) {
        let stages = self.stages().await;
        until("the end of the rollout", async || {
            self.check().await;
            let (last, others): (Vec<_>, Vec<_>) =
                self.devices.iter().partition(|device| !is_staged(&stages[&device.id]));
            if last.iter().any(|device| device.answer() == new) {
                let early = others.iter().find(|device| !device.has_confirmed(new));
                assert!(early.is_none(), "{} of a stage has not ended", early.unwrap().id);
            }
            let shown = json(self.folder, &["rollout", "show", "stable"]).await;
            (shown["state"] == "complete").then_some(())
        })
        .await;
        let shown = json(self.folder, &["rollout", "show", "stable"]).await;
        assert_eq!((&shown["healthy"], &shown["failed"]), (&DEVICES.into(), &0.into()), "{shown:#}");
        for device in &self.devices {
            assert!(device.has_confirmed(new), "{}: {:?}", device.id, device.answers);
        }
    }

    /// The stage of each device in the newest rollout.
    async fn stages(&self) -> BTreeMap<DeviceId, String> {
        self.explained("stage").await
    }

    /// A field of each device in the newest rollout.
    async fn explained(&self, field: &str) -> BTreeMap<DeviceId, String> {
        let explained = json(self.folder, &["rollout", "explain", "stable"]).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let devices = explained["devices"].as_array().unwrap().iter();
        devices.map(|one| (text(&one["device"]).parse().unwrap(), text(&one[field]))).collect()
    }

    /// The devices that were answered with a digest at any time.
    fn answered(&self, digest: &Digest) -> BTreeSet<DeviceId> {
        let answered = self.devices.iter().filter(|device| device.answers.contains(digest));
        answered.map(|device| device.id.clone()).collect()
    }
}

/// Whether a stage is one of the policy's.
fn is_staged(stage: &str) -> bool {
    ["canary", "half"].contains(&stage)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn fifty_agents_take_a_release_and_are_kept_from_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), plants(folder.path(), DEVICES, POLICY).await);
    let server = serve(folder, &repository).await;
    let first = released(&server, "hmi/a").await;
    let mut fleet = Fleet::enrol(folder, &server).await;
    let ids: BTreeSet<&DeviceId> = fleet.devices.iter().map(|device| &device.id).collect();
    assert_eq!(ids.len(), DEVICES, "each has its own identity");
    // Some were installed with it: they have nothing to update to, and confirm what they run.
    join_all(fleet.devices.iter_mut().step_by(5).map(Simulated::install)).await;
    fleet.check().await;
    for device in &fleet.devices {
        assert!(device.has_confirmed(&first), "{}: {:?}", device.id, device.answers);
    }
    until("the confirmations", async || {
        let listed = server.client.devices(None).await.unwrap();
        let confirmed = listed.iter().filter(|device| device.confirmed.as_ref() == Some(&first));
        (confirmed.count() == DEVICES).then_some(())
    })
    .await;

    // A good one reaches all of them, stage by stage. Two canaries run it before their agents know: a person
    // updated one, and installed the other. Without their own confirmation, no stage follows.
    let second = release(folder, &server, &repository, "second\n").await;
    let stages = fleet.stages().await;
    let mut canaries = fleet.devices.iter_mut().filter(|device| stages[&device.id] == "canary");
    let (updated, installed) = (canaries.next().unwrap(), canaries.next().unwrap());
    updated.update_by_hand().await;
    installed.install().await;
    for device in [updated, installed] {
        assert!(device.answer() == &second && !device.has_confirmed(&second));
    }
    fleet.pass_the_canaries(&second).await;
    fleet.complete(&second).await;
    for device in &fleet.devices {
        assert_eq!(device.answers, [first.clone(), second.clone()], "{}", device.id);
    }

    // A bad one works on its canaries alone: the gate stops it inside the next stage.
    let third = release(folder, &server, &repository, "third\n").await;
    let stages = fleet.stages().await;
    for device in fleet.devices.iter_mut().filter(|device| stages[&device.id] != "canary") {
        device.broken.insert(third.clone());
        // Of these, the server receives the results of the health checks and nothing after them.
        device.is_stuck = true;
    }
    fleet.pass_the_canaries(&third).await;
    // One was installed with it, and has no other image: its failure is reported, and the server takes it back.
    let installed = fleet.devices.iter_mut().find(|device| stages[&device.id] == "half").unwrap();
    installed.install().await;
    installed.check().await;
    let id = installed.id.clone();
    until("its failure", async || {
        let reasons = fleet.explained("reason").await;
        (reasons[&id] == "the device could not run this release").then_some(())
    })
    .await;
    let mut most = CANARIES;
    for time in ["first", "second"] {
        let shown = fleet.check_until("the gate", |shown| shown["state"] == "stopped").await;
        let explanation = shown["explanation"].as_str().unwrap();
        assert!(explanation.starts_with("half: 3 of 25 confirmed, "), "{explanation}");
        assert!(explanation.contains("stopped: too many of the first devices failed"), "{explanation}");
        // One that failed made room for another, before the one that stopped it.
        most += IN_FLIGHT + 1;
        let answered = fleet.answered(&third);
        assert!((CANARIES + 2..=most).contains(&answered.len()), "the {time} time: {}", answered.len());
        fleet.check().await;
        fleet.check().await;
        assert_eq!(fleet.answered(&third), answered, "no other device is offered it");
        let reasons = fleet.explained("reason").await;
        for device in &fleet.devices {
            let stage = stages[&device.id].as_str();
            let (first, second, third) = (first.clone(), second.clone(), third.clone());
            let is_answered = answered.contains(&device.id);
            let (expected, reason) = match stage {
                "canary" => (vec![first, second, third], "the device was offered this release before"),
                "half" if is_answered => {
                    (vec![first, second.clone(), third, second], "the device could not run this release")
                }
                _ => (
                    vec![first, second],
                    "the gate stopped the rollout: too many of the first devices failed",
                ),
            };
            assert_eq!(device.answers, expected, "{} of stage {stage}", device.id);
            assert_eq!(reasons[&device.id], reason, "{} of stage {stage}", device.id);
            assert!(device.has_confirmed(device.answer()), "{} of stage {stage}", device.id);
        }
        if time == "first" {
            // An operator does not believe it. The next ones do return to the image before.
            fleet.devices.iter_mut().for_each(|device| device.is_stuck = false);
            let resumed = json(folder, &["rollout", "resume", "stable"]).await;
            assert_eq!(resumed["state"], "active", "{resumed:#}");
        }
    }
    let aborted = json(folder, &["rollout", "abort", "stable"]).await;
    assert_eq!(aborted["state"], "aborted", "{aborted:#}");
    let with_third = fleet.answered(&third);
    fleet.check().await;
    assert_eq!(fleet.answered(&third), with_third);

    // The repair reaches all of them, from whatever they have.
    let fourth = release(folder, &server, &repository, "fourth\n").await;
    fleet.pass_the_canaries(&fourth).await;
    fleet.complete(&fourth).await;
    for device in &fleet.devices {
        let place =
            |digest: &Digest| [&first, &second, &third, &fourth].iter().position(|known| **known == *digest);
        let older = device.answers.windows(2).filter(|pair| place(&pair[1]) < place(&pair[0]));
        assert!(older.count() <= usize::from(device.broken.contains(&third)), "{:?}", device.answers);
    }
    assert_eq!(json(folder, &["channel", "show", "stable"]).await["release"], 4);
    let trail = edgewright(folder, &["audit", "--limit", "1000", "--json"]).await.ends(0).json();
    let operations: Vec<&str> =
        trail["entries"].as_array().unwrap().iter().map(|one| one["operation"].as_str().unwrap()).collect();
    let count = |name: &str| operations.iter().filter(|operation| **operation == name).count();
    // The token, and what was made of it.
    assert_eq!(count("device.enrol"), 1 + DEVICES);
    let orders = ["rollout.approve", "rollout.resume", "rollout.abort"].map(count);
    assert_eq!(orders, [3, 1, 1], "{operations:?}");
    edgewright(folder, &["audit", "verify"]).await.ends(0);
}
