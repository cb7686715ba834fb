//! External registries get what channels hold: Debian's `docker-registry`, which knows no referrers, and
//! another registry of ours.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use edgewright_api::{ReleaseView, TargetView};
use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::client::Credentials;
use edgewright_oci::{Client, image};

use crate::server::Server;
use crate::world::{Repository, edgewright, until};

/// A registry of Debian's; killed when dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) address: String,
    client: Client,
}

impl DockerRegistry {
    /// On a free port, with its blobs in `folder`; with a file of users, only they may do anything.
    pub(crate) async fn start(folder: &Path, users: Option<&Path>) -> Self {
        // Free a moment ago, and others ask for ports by the same way.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(folder, users, port).await
    }

    pub(crate) async fn start_on(folder: &Path, users: Option<&Path>, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let auth = users.map_or(String::new(), |users| {
            format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", users.display())
        });
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
             http: {{addr: \"{address}\"}}\n{auth}",
            folder.join("blobs").display()
        );
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.yml"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a server that is to be killed, not awaited")]
        let child = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let credentials = match users {
            Some(_) => Credentials::Basic { user: "edge".to_owned(), password: "wright".to_owned() },
            None => Credentials::Anonymous,
        };
        let client = Client::with_url(&format!("http://{address}"), credentials).unwrap();
        let registry = Self { child, address, client };
        let any: RepoName = "a".parse().unwrap();
        until("the registry", async || registry.client.has_blob(&any, &Digest::of("")).await.ok()).await;
        registry
    }

    /// The digest of a tag, where it is there.
    async fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        let (repository, tag) = (repository.parse().unwrap(), tag.parse().unwrap());
        let head = self.client.head_manifest(&repository, &Reference::Tag(tag)).await.unwrap();
        head.map(|head| head.digest.unwrap().to_string())
    }

    /// Every byte of an image and its referrers, verified; gives the referrers' types.
    async fn whole(&self, repository: &str, digest: &str) -> Vec<String> {
        let repository: RepoName = repository.parse().unwrap();
        let mut todo: Vec<Digest> = vec![digest.parse().unwrap()];
        let mut types = Vec::new();
        while let Some(digest) = todo.pop() {
            let manifest =
                self.client.pull_manifest(&repository, &Reference::Digest(digest.clone())).await.unwrap();
            if image::is_index(&manifest) {
                todo.extend(image::manifests(&manifest.bytes).unwrap().into_iter().map(|child| child.digest));
            } else {
                let layers = image::layers(&manifest.bytes).unwrap();
                for blob in layers.iter().chain([&image::config(&manifest.bytes).unwrap()]) {
                    self.client.pull_blob_bytes(&repository, &blob.digest, 1 << 24).await.unwrap();
                }
            }
            for referrer in self.client.referrers(&repository, &digest, None).await.unwrap() {
                types.push(referrer.artifact_type.unwrap());
                todo.push(referrer.digest);
            }
        }
        types.sort();
        types
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn settings(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("edgewright.toml");
    fs::write(&path, text).unwrap();
    path
}

/// Waits for a target's only channel to be in a state.
pub(crate) async fn target(server: &Server, state: &str) -> TargetView {
    until(state, async || {
        let found = server.client.targets().await.unwrap().pop()?;
        (found.state == state).then_some(found)
    })
    .await
}

const PROVENANCE: &str = "application/vnd.edgewright.provenance.v1+json";
const CHECK_SET: &str = "application/vnd.edgewright.check-set.v1+json";
const VERDICT: &str = "application/vnd.edgewright.verdict.v1+json";

/// Where the variants of the release are copied to, in their order.
const COPIES: [&str; 3] = ["team/plants-base", "team/plants-hmi-a", "team/plants-hmi-b"];

/// Each variant has its tag there, and all that refers to it, by the fallback of the distribution
/// specification.
async fn assert_copied(there: &DockerRegistry, release: &ReleaseView) {
    for (entry, name) in release.entries.iter().zip(COPIES) {
        let digest = entry.digest.to_string();
        assert_eq!(there.tag(name, "stable").await, Some(digest.clone()), "{name}");
        let types = there.whole(name, &digest).await;
        let expected =
            if name.ends_with("base") { vec![CHECK_SET, PROVENANCE, VERDICT] } else { vec![PROVENANCE] };
        assert_eq!(types, expected, "{name}");
        // The fallback is a tag with an index.
        assert!(there.tag(name, &digest.replace(':', "-")).await.is_some(), "{name}");
    }
}

#[tokio::test]
async fn channels_are_copied_to_a_registry_without_referrers() {
    if !edgewright_testkit::has(&["docker-registry", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a", "b"]).await;
    // A lane whose verdict is posted by another program.
    repository.write(
        "images/base/image.yaml",
        "from: scratch\nsteps: [files: files/]\ntest: {lanes: [external]}\n",
    );
    let first = repository.commit("external").await;
    let there = DockerRegistry::start(&folder.path().join("there"), None).await;
    let text = format!(
        "[[source]]\nurl = \"{}\"\n[[targets]]\nname = \"harbor\"\nurl = \"http://{}\"\nrepository = \"team/{{source}}-{{image}}-{{site}}\"\n",
        repository.url(),
        there.address
    );
    let config = settings(folder.path(), &text);
    let config = ["--config", config.to_str().unwrap()];
    let server = Server::start(&folder.path().join("data"), &config).await;
    let digest = until("the base image", async || {
        let run = server.client.runs(None, 1).await.unwrap().pop()?;
        let run = server.client.run(run.number).await.unwrap();
        run.nodes.iter().find(|node| node.node == "base")?.digest.clone()
    })
    .await;
    let post = edgewright_api::VerdictPost {
        digest: digest.clone(),
        check_set: None,
        passed: true,
        message: None,
        url: None,
    };
    server.client.post_verdict(&post).await.unwrap();
    assert_eq!(server.ended(&first).await.run.release.map(|number| number.0), Some(1));
    let copied = target(&server, "copied").await;
    assert_eq!((copied.target.as_str(), copied.copied.unwrap().0, copied.failures), ("harbor", 1, 0));

    let release = server.release().await;
    assert_copied(&there, &release).await;

    // A verdict that comes later, without a release.
    let post = edgewright_api::VerdictPost { message: Some("seen twice".to_owned()), ..post };
    server.client.post_verdict(&post).await.unwrap();
    let base = release.entries[0].digest.to_string();
    until("the second verdict", async || {
        let types = there.whole(COPIES[0], &base).await;
        (types.iter().filter(|kind| *kind == VERDICT).count() == 2).then_some(())
    })
    .await;

    // One site's change: its tag moves, the others stay.
    repository.write("sites/a/files/etc/site", "changed\n");
    let second = repository.commit("second").await;
    server.builds(&second).await;
    until("the second release", async || {
        let found = server.client.targets().await.unwrap().pop()?;
        found.copied.is_some_and(|number| number.0 == 2).then_some(())
    })
    .await;
    let entry = &server.release().await.entries[1];
    assert_eq!(there.tag(COPIES[1], "stable").await, Some(entry.digest.to_string()));
    assert_ne!(release.entries[1].digest, entry.digest);

    let shown = edgewright(folder.path(), &["status"]).await.ends(0);
    assert!(shown.out.contains("harbor") && shown.out.contains("copied"), "{}", shown.out);
}

#[tokio::test]
async fn an_error_of_a_target_is_reported_and_copying_resumes_after_the_fix() {
    if !edgewright_testkit::has(&["docker-registry", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let users = folder.path().join("users");
    // edge:wright
    fs::write(&users, "edge:$2b$05$E8u9DHpJ1QpSA3QjYLpJ9eRUozEeSMHUp9c6cioqbKVMvyutqK3hi\n").unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "wrong\n").unwrap();
    let there = DockerRegistry::start(&folder.path().join("there"), Some(&users)).await;
    let text = format!(
        "[server]\non_change = \"reload\"\n[[source]]\nurl = \"{}\"\n[[target]]\nname = \"quay\"\nurl = \"http://{}\"\nrepository = \"team/{{image}}\"\n\
         user = \"edge\"\npassword_file = \"{}\"\n",
        repository.url(),
        there.address,
        secret.display()
    );
    let config = settings(folder.path(), &text);
    let config = ["--config", config.to_str().unwrap()];
    let data = folder.path().join("data");
    let server = Server::start(&data, &config).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    // The run does not care.
    assert_eq!(server.ended(&first).await.run.release.map(|number| number.0), Some(1));
    let failed = target(&server, "failed").await;
    let (error, hint) = (failed.error.unwrap(), failed.hint.unwrap());
    assert!(error.contains(&there.address) && error.contains("denied"), "{error}");
    assert!(hint.contains("password_file"), "{hint}");
    assert!(!error.contains("wrong"), "{error}");
    let shown = edgewright(folder.path(), &["status"]).await.ends(0);
    assert!(shown.out.contains("hint:") && shown.out.contains("password_file"), "{}", shown.out);
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("edgewright_target_backlog{target=\"quay\"} 1"), "{metrics}");

    // As for a token that Kubernetes renews in a Pod: no one sends a signal.
    fs::write(&secret, "wright\n").unwrap();
    target(&server, "copied").await;
    assert_eq!(
        there.tag("team/hmi", "stable").await,
        Some(server.release().await.entries[1].digest.to_string())
    );

    // A second site, and the template has no place for it.
    repository.site("b");
    let second = repository.commit("second").await;
    server.builds(&second).await;
    let failed = target(&server, "failed").await;
    let error = failed.error.unwrap();
    assert!(
        error.contains("`plants/hmi/a (stable)` and `plants/hmi/b (stable)` both become team/hmi:stable"),
        "{error}"
    );
    assert_eq!((failed.release.0, failed.copied.unwrap().0), (2, 1));

    // No registry is there: reported, and tried again.
    server.kill();
    drop(there);
    fs::write(config[1], text.replace("{image}", "{image}-{site}")).unwrap();
    let server = Server::start(&data, &config).await;
    let unreachable = until("the unreachable target", async || {
        let error = server.client.targets().await.unwrap().pop()?.error?;
        error.contains("cannot reach the registry").then_some(error)
    })
    .await;
    assert!(!unreachable.contains("wright"), "{unreachable}");
}

#[tokio::test]
async fn copying_resumes_after_the_server_is_killed() {
    if !edgewright_testkit::has(&["docker-registry", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sites: Vec<String> = (0..15).map(|site| format!("site-{site}")).collect();
    let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
    let repository = Repository::plants(folder.path().join("plants"), &sites).await;
    let there = DockerRegistry::start(&folder.path().join("there"), None).await;
    let text = format!(
        "[[source]]\nurl = \"{}\"\n[[target]]\nname = \"hub\"\nurl = \"http://{}\"\nrepository = \"team/os\"\ntag = \"{{image}}-{{site}}-{{channel}}\"\n",
        repository.url(),
        there.address
    );
    let config = settings(folder.path(), &text);
    let config = ["--config", config.to_str().unwrap()];
    let data = folder.path().join("data");
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    let mut server = Server::start(&data, &config).await;
    server.ended(&first).await;
    for kill in 0..6_u64 {
        tokio::time::sleep(Duration::from_millis(kill * 40)).await;
        server.kill();
        server = Server::start(&data, &config).await;
    }
    target(&server, "copied").await;
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for entry in &server.release().await.entries {
        let tag = format!("{}-stable", entry.variant.to_string().replace('/', "-"));
        let digest = entry.digest.to_string();
        assert_eq!(there.tag("team/os", &tag).await, Some(digest.clone()), "{tag}");
        assert_eq!(there.whole("team/os", &digest).await, [PROVENANCE], "{tag}");
        tags.insert(tag, digest);
    }
    assert_eq!(tags.len(), 16);
    assert_eq!(server.stop().await, Some(0));
}
