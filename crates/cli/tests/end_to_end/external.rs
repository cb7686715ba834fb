//! Devices read blobs in external registries: skopeo, podman and curl, redirected or through the server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use edgewright_model::Digest;
use edgewright_model::reference::Reference;
use edgewright_oci::{Descriptor, image};
use edgewright_process::{Command, Finished};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::devices::{Device, change, plants};
use crate::server::Server;
use crate::targets::{DockerRegistry, settings, target};
use crate::world::{Repository, edgewright, until};

/// The bytes of the large file: more than the buffers of a connection take, so that a download lasts.
const SIZE: usize = 24 * 1024 * 1024;

/// One slot, whose image has a large layer.
async fn large(folder: &Path) -> Repository {
    let repository = plants(folder, 1).await;
    repository.write("images/hmi/files/etc/large", edgewright_testkit::noise(SIZE));
    repository.site("b");
    repository.commit("large").await;
    repository
}

/// A server whose releases are copied to a target, and the device of its only slot.
async fn serve(folder: &Path, repository: &Repository, keys: &str) -> (Server, Device) {
    let text = format!(
        "[[source]]\nurl = \"{}\"\n[[target]]\nname = \"hub\"\nrepository = \"team/{{image}}-{{site}}\"\nreferrers = false\n{keys}",
        repository.url(),
    );
    let config = settings(folder, &text);
    let server = Server::start(&folder.join("data"), &["--config", config.to_str().unwrap()]).await;
    let commit = repository.git(&["rev-parse", "HEAD"]).await;
    server.ended(&commit).await;
    target(&server, "copied").await;
    until("the channel's release", async || server.client.channels(None).await.unwrap().pop()?.release).await;
    let device = Device::enrol(folder, "press-0").await;
    (server, device)
}

/// The layers of a variant in the release.
async fn layers(server: &Server, variant: &str) -> Vec<Descriptor> {
    let client = edgewright_oci::Client::new(&server.registry()).unwrap();
    let entries = server.release().await.entries;
    let entry = entries.into_iter().find(|entry| entry.variant.to_string() == variant).unwrap();
    let index = client.pull_manifest(&entry.repository, &Reference::Digest(entry.digest)).await.unwrap();
    let child = Reference::Digest(image::manifests(&index.bytes).unwrap().remove(0).digest);
    let manifest = client.pull_manifest(&entry.repository, &child).await.unwrap();
    image::layers(&manifest.bytes).unwrap()
}

/// The blob of the large file.
async fn large_blob(server: &Server) -> Digest {
    let layers = layers(server, "hmi/a").await;
    layers.into_iter().max_by_key(|layer| layer.size).unwrap().digest
}

/// A blob that is only in the image of the other site.
async fn other_blob(server: &Server) -> Digest {
    let own = layers(server, "hmi/a").await;
    let others = layers(server, "hmi/b").await;
    others.into_iter().find(|layer| !own.contains(layer)).unwrap().digest
}

/// The files of all blobs are lost, as after a backup was restored.
fn lose_blobs(server: &Server) {
    let blobs = server.data.join("registry/blobs");
    fs::remove_dir_all(&blobs).unwrap();
    fs::create_dir(&blobs).unwrap();
}

/// Pulls what a device is offered by skopeo, with its policy, into a new layout.
async fn pull(device: &Device, server: &Server, to: &str) -> Finished {
    let from = format!("docker://{}/device/self:current", server.address);
    let to = format!("oci:{}:x", device.file(to));
    let (auth, policy) = (device.file("auth.json"), device.file("policy.json"));
    let arguments =
        ["--policy", &policy, "copy", "--src-tls-verify=false", "--src-authfile", &auth, &from, &to];
    Command::new("skopeo").args(arguments).run_status().await.unwrap()
}

/// The same by podman, under the device's own name, into a new storage; gives the digest of the index.
async fn podman_pull(device: &Device, server: &Server) -> String {
    let storage = tempfile::tempdir().unwrap();
    let path = |name: &str| storage.path().join(name).to_str().unwrap().to_owned();
    let (root, run, tmp) = (path("root"), path("run"), path("tmp"));
    let base = ["--root", &root, "--runroot", &run, "--tmpdir", &tmp, "--storage-driver", "vfs"];
    let (auth, policy) = (device.file("auth.json"), device.file("policy.json"));
    let name = format!("{}/device/{}:current", server.address, device.id);
    let pull = ["pull", "--quiet", "--tls-verify=false", "--authfile", &auth, "--signature-policy", &policy];
    let command = Command::new("podman").args(base).args(pull).args([name.as_str()]);
    let finished = command.run_status().await.unwrap();
    assert_eq!(finished.code(), Some(0), "{:?}", finished.output.stderr_tail);
    let show = ["image", "inspect", "--format", "{{.Digest}}", &name];
    Command::new("podman").args(base).args(show).run().await.unwrap().text().trim().to_owned()
}

/// `USER:PASSWORD` of a device.
fn login(device: &Device) -> String {
    let text = fs::read_to_string(device.file("auth.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entry = file["auths"].as_object().unwrap().values().next().unwrap();
    let auth = entry["auth"].as_str().unwrap();
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, auth).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// curl with a device's credentials and more arguments: the exit code, and what it printed.
async fn curl(device: &Device, server: &Server, blob: &Digest, more: &[&str]) -> (i32, String) {
    let url = format!("http://{}/v2/device/self/blobs/{blob}", server.address);
    let login = login(device);
    let command = Command::new("curl").args(["--silent", "--user", &login, &url]).args(more.iter().copied());
    let finished = command.run_status().await.unwrap();
    (finished.code().unwrap_or(-1), String::from_utf8_lossy(&finished.output.stdout).into_owned())
}

/// Passes on one connection, and notes what its client sends.
async fn relay(client: TcpStream, to: String, log: Arc<Mutex<Vec<u8>>>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            log.lock().unwrap().extend_from_slice(&buffer[..count]);
            let Ok(()) = to_server.write_all(&buffer[..count]).await else { return };
        }
    };
    tokio::select! {
        () = there => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Connections to a registry, with what clients sent.
struct Relay {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let log = Arc::clone(&seen);
        #[expect(clippy::disallowed_methods, reason = "it ends with its test")]
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, to.clone(), Arc::clone(&log)));
            }
        });
        Self { address, seen, task }
    }

    /// The requests since the last call.
    fn requests(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.seen.lock().unwrap())).into_owned()
    }

    /// All connections end, and none is accepted.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn is_skipped() -> bool {
    !edgewright_testkit::has(&["docker-registry", "skopeo", "podman", "curl"])
}

#[tokio::test]
async fn devices_are_redirected_to_a_registry_that_anyone_may_read() {
    if is_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), large(folder.path()).await);
    let there = DockerRegistry::start(&folder.join("there"), None).await;
    let relay = Relay::start(there.address.clone()).await;
    // Another host than the server's, as in production: clients do not send their credentials there.
    let url = format!("http://localhost:{}", relay.address.port());
    let (server, device) = serve(folder, &repository, &format!("url = \"{url}\"\n")).await;
    let blob = large_blob(&server).await;
    let write = ["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"];
    let offer = device.asks(&server, "self:current").await;
    assert_eq!(curl(&device, &server, &blob, &write).await.1, "200 ");
    // What was copied before is known after a reload.
    let config = folder.join("edgewright.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}devices = \"redirect\"\n")).unwrap();
    server.reload();
    until("a redirect", async || {
        curl(&device, &server, &blob, &write).await.1.starts_with("307 ").then_some(())
    })
    .await;
    relay.requests();

    let pulled = pull(&device, &server, "first").await;
    assert_eq!(pulled.code(), Some(0), "{:?}", pulled.output.stderr_tail);
    let requests = relay.requests();
    let get = format!("GET /v2/team/hmi-a/blobs/{blob} HTTP/1.1");
    assert!(requests.contains(&get), "{requests}");
    assert!(!requests.to_lowercase().contains("authorization"), "{requests}");
    // The server does not see how far it comes.
    let evidence = device.shown(&server).await.evidence;
    assert!(evidence.iter().all(|fact| fact.step == "offered"), "{evidence:?}");
    let index = podman_pull(&device, &server).await;
    assert_eq!(Some(index.parse().unwrap()), offer);
    assert!(relay.requests().contains(&get));

    let location = format!("{url}/v2/team/hmi-a/blobs/{blob}");
    for more in [&[][..], &["--head"], &["--range", "1000-1999"]] {
        let (code, shown) = curl(&device, &server, &blob, &[&write, more].concat()).await;
        assert_eq!((code, shown), (0, format!("307 {location}")), "{more:?}");
    }
    let part = device.file("part");
    let (code, _) =
        curl(&device, &server, &blob, &["--location", "--range", "1000-1999", "--output", &part]).await;
    assert_eq!((code, fs::read(&part).unwrap().len()), (0, 1000));

    // Content of other devices is not there for it, whether the target has it or not.
    let other = other_blob(&server).await;
    let (_, shown) = curl(&device, &server, &other, &write).await;
    assert_eq!(shown, "404 ");
    // Without the registry, devices get the copy of the server.
    relay.end().await;
    until("a pull without the registry", async || {
        let pulled = pull(&device, &server, "second").await;
        (pulled.code() == Some(0)).then_some(())
    })
    .await;
    assert_eq!(server.stop().await, Some(0));
}

/// edge:wright, as a file of users and as `Authorization: Basic`.
const USERS: &str = "edge:$2b$05$E8u9DHpJ1QpSA3QjYLpJ9eRUozEeSMHUp9c6cioqbKVMvyutqK3hi\n";
const BASIC: &str = "ZWRnZTp3cmlnaHQ=";

/// The file of a blob in the storage of a `docker-registry`.
fn stored(registry: &Path, blob: &Digest) -> PathBuf {
    let hex = blob.hex();
    registry.join(format!("blobs/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// The value of a counter.
async fn counter(server: &Server, name: &str) -> u64 {
    let metrics = server.get("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn lost_blobs_are_read_with_the_targets_credentials_and_verified() {
    if is_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), large(folder.path()).await);
    let (users, secret) = (folder.join("users"), folder.join("secret"));
    fs::write(&users, USERS).unwrap();
    fs::write(&secret, "wright\n").unwrap();
    let there_folder = folder.join("there");
    let there = DockerRegistry::start(&there_folder, Some(&users)).await;
    let keys = format!(
        "url = \"http://{}\"\ndevices = \"proxy\"\nuser = \"edge\"\npassword_file = \"{}\"\n",
        there.address,
        secret.display()
    );
    let (server, device) = serve(folder, &repository, &keys).await;
    let blob = large_blob(&server).await;
    let content = fs::read(stored(&there_folder, &blob)).unwrap();
    assert_eq!(pull(&device, &server, "own").await.code(), Some(0));
    assert_eq!(counter(&server, "edgewright_registry_proxied_bytes_total").await, 0, "the own copy is first");

    lose_blobs(&server);
    let pulled = pull(&device, &server, "proxied").await;
    assert_eq!(pulled.code(), Some(0), "{:?}", pulled.output.stderr_tail);
    podman_pull(&device, &server).await;
    let proxied = counter(&server, "edgewright_registry_proxied_bytes_total").await;
    assert!(proxied > 2 * content.len() as u64, "{proxied}");
    // The server saw all of it.
    until("the evidence of a download", async || {
        let evidence = device.shown(&server).await.evidence;
        evidence.iter().any(|fact| fact.step == "downloaded" && fact.basis == "observed").then_some(())
    })
    .await;

    // A download that is interrupted and resumed.
    let file = device.file("resumed");
    let (code, _) = curl(&device, &server, &blob, &["--range", "0-9999999", "--output", &file]).await;
    assert_eq!((code, fs::metadata(&file).unwrap().len()), (0, 10_000_000));
    let (code, _) = curl(&device, &server, &blob, &["--continue-at", "-", "--output", &file]).await;
    assert!(code == 0 && fs::read(&file).unwrap() == content);

    // Wrong content: no client completes, and no wrong byte arrives.
    let mut wrong = content.clone();
    wrong[content.len() - 9] ^= 1;
    fs::write(stored(&there_folder, &blob), &wrong).unwrap();
    let failed = pull(&device, &server, "wrong").await;
    assert_ne!(failed.code(), Some(0));
    let file = device.file("wrong-blob");
    let (code, _) = curl(&device, &server, &blob, &["--output", &file]).await;
    let received = fs::read(&file).unwrap();
    assert!(code == 18 && content.starts_with(&received), "{code}, {} bytes", received.len());
    assert!(server.log().contains("wrong content"), "{}", server.log());
    fs::write(stored(&there_folder, &blob), &content).unwrap();
    assert_eq!(pull(&device, &server, "repaired").await.code(), Some(0));

    // Without the target: an error to try again after.
    let port: u16 = there.address.rsplit_once(':').unwrap().1.parse().unwrap();
    drop(there);
    let (_, shown) = curl(&device, &server, &blob, &["--write-out", " %{http_code}"]).await;
    let (body, code) = shown.rsplit_once(' ').unwrap();
    let error: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((code, error["errors"][0]["code"].as_str()), ("503", Some("UNAVAILABLE")), "{shown}");
    assert!(!shown.contains(&format!(":{port}")), "{shown}");
    assert_ne!(pull(&device, &server, "away").await.code(), Some(0));
    let there = DockerRegistry::start_on(&there_folder, Some(&users), port).await;
    assert_eq!(pull(&device, &server, "back").await.code(), Some(0));

    // Revoked while it downloads: the rest does not come.
    let url = format!("http://{}/v2/device/self/blobs/{blob}", server.address);
    let (login, file) = (login(&device), device.file("revoked"));
    #[expect(clippy::disallowed_methods, reason = "it runs while the device is revoked")]
    let mut download = std::process::Command::new("curl")
        .args(["--silent", "--user", &login, "--limit-rate", "1M", "--output", &file, &url])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("the first bytes", async || fs::metadata(&file).ok().filter(|found| found.len() > 0).map(drop))
        .await;
    change(folder, &device, &["revoke", "--reason", "stolen"]).await.ends(0);
    let code = until("the end of the download", async || download.try_wait().unwrap()).await.code();
    let received = fs::read(&file).unwrap();
    assert!(code != Some(0) && received.len() < content.len(), "{code:?}, {} bytes", received.len());
    let (_, shown) =
        curl(&device, &server, &blob, &["--output", "/dev/null", "--write-out", "%{http_code}"]).await;
    assert_eq!(shown, "401");

    let log = server.log();
    assert!(log.contains("cutting a download"), "{log}");
    assert!(!log.contains(BASIC), "{log}");
    let shown = edgewright(folder, &["status", "--json"]).await.ends(0);
    assert!(!shown.out.contains(BASIC), "{}", shown.out);
    drop(there);
}

#[tokio::test]
async fn blobs_of_another_edgewright_are_read_with_a_token_of_its_token_service() {
    if is_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), large(folder.path()).await);
    let empty = Repository::plants(folder.join("empty"), &[]).await;
    let there = Server::start(&folder.join("there"), &["--source", empty.url()]).await;
    let keys = format!(
        "url = \"http://{}\"\ndevices = \"proxy\"\nuser = \"token\"\npassword_file = \"{}\"\n",
        there.address,
        there.data.join("operator-token").display()
    );
    let (server, device) = serve(folder, &repository, &keys).await;
    lose_blobs(&server);
    let pulled = pull(&device, &server, "layout").await;
    assert_eq!(pulled.code(), Some(0), "{:?}", pulled.output.stderr_tail);
    assert!(counter(&server, "edgewright_registry_proxied_bytes_total").await > SIZE as u64);
    assert!(!server.log().contains(&there.token()), "{}", server.log());
}
