//! Devices as they are operated: enrolment, ten clients with ten credentials, and a restored backup.

use std::path::{Path, PathBuf};

use edgewright_api::{DeviceState, DeviceView};
use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_process::Command;

use crate::server::Server;
use crate::world::{Ended, Repository, edgewright, until};

/// A device: its id, and the folder with its files.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    files: PathBuf,
}

impl Device {
    /// Enrols the device of a slot, as an operator does for a machine that is being installed.
    pub(crate) async fn enrol(folder: &Path, slot: &str) -> Self {
        let files = folder.join(slot.replace('/', "-"));
        let out = files.to_str().unwrap();
        let identity =
            edgewright(folder, &["device", "enrol", slot, "--out", out, "--json"]).await.ends(0).json();
        Self { id: identity["device"].as_str().unwrap().parse().unwrap(), files }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.files.join(name).to_str().unwrap().to_owned()
    }

    /// Its credentials, for a server that has another port since it was started again.
    fn credentials(&self, server: &Server) -> String {
        let text = std::fs::read_to_string(self.file("auth.json")).unwrap();
        let written: serde_json::Value = serde_json::from_str(&text).unwrap();
        let credential = written["auths"].as_object().unwrap().values().next().unwrap();
        let address = format!("{}/device", server.address);
        let moved = serde_json::json!({ "auths": { address: credential } });
        let file = self.file("auth-now.json");
        std::fs::write(&file, moved.to_string()).unwrap();
        file
    }

    /// What the device is answered with under a name; none if it is rejected.
    pub(crate) async fn asks(&self, server: &Server, name: &str) -> Option<Digest> {
        let image = format!("docker://{}/device/{name}", server.address);
        let auth = self.credentials(server);
        let command = Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", "--authfile"]);
        let finished = command.args([auth, image]).run_status().await.unwrap();
        (finished.code() == Some(0)).then(|| Digest::of(&finished.output.stdout))
    }

    /// Pulls what it is answered with, as the device's policy permits it.
    async fn pulls(&self, server: &Server) {
        let from = format!("docker://{}/device/self:current", server.address);
        let to = format!("oci:{}:x", self.file("layout"));
        let (auth, policy) = (self.file("auth.json"), self.file("policy.json"));
        let arguments =
            ["--policy", &policy, "copy", "--src-tls-verify=false", "--src-authfile", &auth, &from, &to];
        let finished = Command::new("skopeo").args(arguments).run_status().await.unwrap();
        assert_eq!(finished.code(), Some(0), "{:?}", finished.output.stderr_tail);
    }

    pub(crate) async fn shown(&self, server: &Server) -> DeviceView {
        server.client.device(&self.id).await.unwrap()
    }
}

/// Changes a device.
pub(crate) async fn change(folder: &Path, device: &Device, arguments: &[&str]) -> Ended {
    let all = [&["device", arguments[0], device.id.as_str()], &arguments[1..]].concat();
    edgewright(folder, &all).await
}

/// The digest of a variant in the newest release.
pub(crate) async fn released(server: &Server, variant: &str) -> Digest {
    let entries = server.release().await.entries;
    entries.into_iter().find(|entry| entry.variant.to_string() == variant).unwrap().digest
}

/// A source whose site `a` has so many slots.
pub(crate) async fn plants(folder: &Path, slots: usize) -> Repository {
    let repository = Repository::plants(folder.join("plants"), &["a"]).await;
    let slots: Vec<String> = (0..slots).map(|slot| format!("{{id: press-{slot}, image: hmi}}")).collect();
    repository.write("sites/a/site.yaml", format!("id: s-a\nslots: [{}]\n", slots.join(", ")));
    repository.commit("slots").await;
    repository
}

/// A server that has released the newest commit of a source.
pub(crate) async fn serve(folder: &Path, repository: &Repository) -> Server {
    let server = Server::start(&folder.join("data"), &["--source", repository.url()]).await;
    let commit = repository.git(&["rev-parse", "HEAD"]).await;
    server.ended(&commit).await;
    // Slots are in memory after the next pass of the reconciler.
    until("the channel's release", async || server.client.channels(None).await.unwrap().pop()?.release).await;
    server
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn ten_clients_with_ten_credentials_each_get_what_is_for_them() {
    if !edgewright_testkit::has(&["skopeo", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), plants(folder.path(), 10).await);
    let server = serve(folder, &repository).await;
    let first = released(&server, "hmi/a").await;
    let mut devices = Vec::new();
    for slot in 0..10 {
        devices.push(Device::enrol(folder, &format!("s-a/press-{slot}")).await);
    }
    let mode = std::os::unix::fs::PermissionsExt::mode;
    let auth = std::fs::metadata(devices[0].file("auth.json")).unwrap();
    assert_eq!(mode(&auth.permissions()) & 0o777, 0o600);

    for device in &devices {
        assert_eq!(device.asks(&server, "self:current").await, Some(first.clone()), "{}", device.id);
        assert_eq!(device.asks(&server, &format!("{}:current", device.id)).await, Some(first.clone()));
    }
    // Nothing of other devices, nothing without credentials.
    assert_eq!(devices[0].asks(&server, &format!("{}:current", devices[1].id)).await, None);
    let anonymous = anonymous_status(&server, "device/self/manifests/current").await;
    assert_eq!(anonymous, 401);

    // A pull with the device's own policy; the registry sees how far it came, and no further.
    devices[0].pulls(&server).await;
    let shown = until("a download", async || {
        let shown = devices[0].shown(&server).await;
        let is_there = shown.evidence.iter().any(|fact| fact.step == "downloaded");
        is_there.then_some(shown)
    })
    .await;
    let steps: Vec<_> =
        shown.evidence.iter().map(|fact| (fact.step.as_str(), fact.basis.as_str(), &fact.digest)).collect();
    assert!(steps.contains(&("offered", "observed", &first)), "{steps:?}");
    assert!(steps.contains(&("downloaded", "observed", &first)), "{steps:?}");
    assert!(!steps.iter().any(|(step, ..)| matches!(*step, "booted" | "healthy" | "failed")), "{steps:?}");
    // One that has only asked has downloaded nothing.
    let asked = devices[1].shown(&server).await;
    assert!(asked.evidence.iter().all(|fact| fact.step == "offered"), "{:?}", asked.evidence);
    // The beacon: the booted digest, looked up under another name.
    assert_eq!(devices[0].asks(&server, &format!("self/healthy@{first}")).await, Some(first.clone()));
    until("a healthy device", async || {
        (devices[0].shown(&server).await.device.confirmed.as_ref() == Some(&first)).then_some(())
    })
    .await;

    // Held, pinned and revoked while the next release comes.
    change(folder, &devices[1], &["hold", "--reason", "repair"]).await.ends(0);
    change(folder, &devices[2], &["pin", "1", "--reason", "compares"]).await.ends(0);
    change(folder, &devices[3], &["revoke", "--reason", "stolen"]).await.ends(0);
    assert_eq!(devices[3].asks(&server, "self:current").await, None, "revoked at once");
    repository.write("images/hmi/files/etc/hmi", "second\n");
    let commit = repository.commit("second").await;
    server.poll().await;
    server.ended(&commit).await;
    let second = released(&server, "hmi/a").await;
    assert_ne!(first, second);
    until("the second release for a device", async || {
        (devices[4].asks(&server, "self:current").await.as_ref() == Some(&second)).then_some(())
    })
    .await;
    for (number, device) in devices.iter().enumerate() {
        let expected = match number {
            1 | 2 => Some(&first),
            3 => None,
            _ => Some(&second),
        };
        assert_eq!(device.asks(&server, "self:current").await.as_ref(), expected, "device {number}");
    }
    change(folder, &devices[1], &["release"]).await.ends(0);
    change(folder, &devices[2], &["unpin"]).await.ends(0);
    for device in &devices[1..3] {
        assert_eq!(device.asks(&server, "self:current").await, Some(second.clone()));
    }
    let listed = edgewright(folder, &["devices"]).await.ends(0);
    assert!(listed.out.contains("revoked") && listed.out.contains("stolen"), "{}", listed.out);

    // What was decided and answered survives a kill.
    server.kill();
    let server = Server::start(&folder.join("data"), &["--source", repository.url()]).await;
    assert_eq!(devices[4].asks(&server, "self:current").await, Some(second));
    assert_eq!(devices[3].asks(&server, "self:current").await, None);
    assert_eq!(devices[3].shown(&server).await.device.state, DeviceState::Revoked);
}

/// The status of a request without credentials.
async fn anonymous_status(server: &Server, path: &str) -> u16 {
    let url = format!("http://{}/v2/{path}", server.address);
    let arguments = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
    let finished = Command::new("curl").args(arguments).run().await.unwrap();
    finished.text().trim().parse().unwrap()
}

#[tokio::test]
async fn tokens_enrol_as_often_as_permitted_and_a_replacement_retires() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), plants(folder.path(), 3).await);
    let server = serve(folder, &repository).await;
    let made = async |arguments: &[&str]| {
        let all = [&["device", "enrol"], arguments, &["--json"]].concat();
        edgewright(folder, &all).await
    };
    let anonymous = edgewright_api::Client::new(&format!("http://{}", server.address)).unwrap();
    let enrol = async |token: &str, attempt: Option<&str>, serial: Option<&str>| {
        let post = edgewright_api::EnrolPost {
            token: token.to_owned(),
            attempt: attempt.map(str::to_owned),
            slot: None,
            serial: serial.map(str::to_owned),
        };
        anonymous.enrol(&post).await
    };
    let token = |ended: Ended| ended.ends(0).json()["token"].as_str().unwrap().to_owned();

    // For one slot: one device, and the same one for a repeated exchange.
    let single = token(made(&["press-0"]).await);
    let first = enrol(&single, Some("attempt"), None).await.unwrap();
    let again = enrol(&single, Some("attempt"), None).await.unwrap();
    assert_eq!(first.device, again.device);
    assert_ne!(first.credential, again.credential);
    assert!(enrol(&single, Some("other"), None).await.unwrap_err().to_string().contains("used already"));
    assert!(enrol("ewenr_unknown", None, None).await.is_err());
    let occupied = made(&["press-0"]).await;
    assert!(occupied.code == 4 && occupied.errors.contains("has a device already"), "{occupied:?}");

    // For a site: by serial number, with an approval, for two devices.
    let arguments =
        ["s-a", "--any-slot", "--uses", "2", "--approval", "--serial", "SN-1", "--serial", "SN-2"];
    let site = token(made(&arguments).await);
    assert!(enrol(&site, None, Some("SN-3")).await.unwrap_err().to_string().contains("serial"));
    let second = enrol(&site, None, Some("SN-1")).await.unwrap();
    let third = enrol(&site, None, Some("SN-2")).await.unwrap();
    assert_eq!((second.slot.as_str(), third.slot.as_str()), ("press-1", "press-2"));
    assert!(enrol(&site, None, Some("SN-1")).await.is_err(), "no use is left");
    assert_eq!(second.state, DeviceState::Waiting);
    let view = server.client.device(&second.device).await.unwrap();
    assert_eq!(view.device.offer, None, "{}", view.reason);
    edgewright(folder, &["device", "approve", second.device.as_str()]).await.ends(0);
    assert!(server.client.device(&second.device).await.unwrap().device.offer.is_some());

    // A replacement retires the device of the slot, and ends its credential.
    let replace = edgewright(folder, &["device", "replace", "press-0", "--json"]).await;
    let new = enrol(&token(replace), None, None).await.unwrap();
    assert_eq!(new.slot.as_str(), "press-0");
    let old = server.client.device(&first.device).await.unwrap().device;
    assert_eq!(old.state, DeviceState::Retired);

    // A rotated credential: both are valid for a while, and only for the device itself.
    let as_device = |credential: &str| {
        let client = edgewright_api::Client::new(&format!("http://{}", server.address)).unwrap();
        client.with_token(Some(credential.to_owned()))
    };
    let rotated = as_device(&new.credential).rotate_device(&new.device).await.unwrap();
    assert!(rotated.old_until.is_some());
    for credential in [&new.credential, &rotated.credential] {
        as_device(credential).rotate_device(&new.device).await.unwrap();
        assert!(as_device(credential).rotate_device(&third.device).await.is_err(), "another device");
    }
    assert!(as_device(&again.credential).rotate_device(&first.device).await.is_err(), "retired");
    let trail = edgewright(folder, &["audit"]).await.ends(0);
    for operation in ["device.enrol", "device.approve", "device.rotate"] {
        assert!(trail.out.contains(operation), "{operation}: {}", trail.out);
    }
}

#[tokio::test]
async fn a_restored_backup_orders_no_downgrade() {
    if !edgewright_testkit::has(&["skopeo"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), plants(folder.path(), 1).await);
    let server = serve(folder, &repository).await;
    let device = Device::enrol(folder, "press-0").await;
    let first = device.asks(&server, "self:current").await.unwrap();
    edgewright(folder, &["backup", "old.tar"]).await.ends(0);
    repository.write("images/hmi/files/etc/hmi", "second\n");
    let commit = repository.commit("second").await;
    server.poll().await;
    server.ended(&commit).await;
    let second = until("the second release", async || {
        device.asks(&server, "self:current").await.filter(|digest| *digest != first)
    })
    .await;
    server.kill();

    // The database of before; the blobs are those of today.
    let restored = folder.join("restored");
    let arguments = ["restore", "old.tar", "--data", restored.to_str().unwrap()];
    edgewright(folder, &arguments).await.ends(0);
    let blobs = ["-a", "-T", "data/registry/blobs", "restored/registry/blobs"];
    Command::new("cp").args(blobs).cwd(folder).run().await.unwrap();
    let server = Server::start(&restored, &["--source", repository.url()]).await;
    let mut answers = std::collections::BTreeSet::new();
    until("a release that is newer than the backup", async || {
        let answer = device.asks(&server, "self:current").await;
        answers.extend(answer.clone());
        (answer.as_ref() == Some(&second)).then_some(())
    })
    .await;
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [second], "the first one would be a downgrade");
}
