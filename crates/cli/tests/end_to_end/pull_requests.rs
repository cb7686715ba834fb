//! Pull requests of a real git remote: what they change is built, tagged `pr-N`, shown in a comment, and
//! removed with their ref.

use std::fs;

use edgewright_api::RunView;
use edgewright_model::run::RunState;

use crate::server::Server;
use crate::systems::Upstream;
use crate::world::{Repository, edgewright, until};

/// A working repository, its bare remote and a server that follows that one, after the first release.
struct Forge {
    folder: tempfile::TempDir,
    repository: Repository,
    bare: String,
    server: Server,
}

impl Forge {
    async fn new(pull_requests: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::plants(folder.path().join("work"), &["a", "b"]).await;
        let bare = folder.path().join("plants.git").display().to_string();
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare]).await;
        repository.git(&["push", "--quiet", &bare, "main"]).await;
        let config = folder.path().join("edgewright.toml");
        let text = format!("[[source]]\nurl = \"{bare}\"\npull_requests = {pull_requests}\n");
        fs::write(&config, text).unwrap();
        let config = ["--config", config.to_str().unwrap()];
        let server = Server::start(&folder.path().join("data"), &config).await;
        let first = repository.git(&["rev-parse", "HEAD"]).await;
        assert_eq!(server.ended(&first).await.run.state, RunState::Passed);
        Self { folder, repository, bare, server }
    }

    async fn push(&self, what: &str) {
        self.repository.git(&["push", "--quiet", "--force", &self.bare, what]).await;
    }

    /// A commit on a detached head whose parent is `from` and changes a site.
    async fn change(&self, from: &str, text: &str) -> String {
        self.repository.git(&["checkout", "--quiet", "--detach", from]).await;
        self.repository.write("sites/a/files/etc/site", text);
        self.repository.commit(text).await
    }

    async fn comment(&self, run: &RunView) -> String {
        let number = run.run.number.to_string();
        edgewright(self.folder.path(), &["run", "show", &number, "--comment"]).await.ends(0).out
    }

    /// The digest of the site's image by a tag.
    async fn tag(&self, tag: &str) -> Option<String> {
        let access = edgewright_model::order::RegistryAccess {
            url: format!("http://{}", self.server.address),
            token: None,
        };
        let client = edgewright_oci::Client::new(&access).unwrap();
        let repository = "plants/hmi/a".parse().unwrap();
        let head = client.head_manifest(&repository, &tag.parse().unwrap()).await.unwrap();
        head.map(|head| head.digest.unwrap().to_string())
    }

    /// The commits that became runs.
    async fn ran(&self) -> Vec<String> {
        let runs = self.server.client.runs(None, 100).await.unwrap();
        runs.into_iter().map(|run| run.commit).collect()
    }
}

#[tokio::test]
async fn a_pull_request_is_built_tagged_commented_and_closed() {
    if !edgewright_testkit::has(&["curl"]) {
        return;
    }
    let forge = Forge::new("true").await;
    let stable = forge.tag("stable").await;
    let first = forge.change("main", "first try\n").await;
    forge.push("HEAD:refs/pull/7/head").await;
    let run = forge.server.builds(&first).await;
    assert_eq!((run.run.state, run.run.release), (RunState::Passed, None));
    assert_eq!((run.run.branch.as_str(), run.run.counts.build), ("refs/pull/7/head", 1), "{run:#?}");
    assert_eq!(run.error, None);
    let tagged = forge.tag("pr-7").await;
    assert!(tagged.is_some() && tagged != stable, "{tagged:?}");
    assert_eq!(forge.tag("stable").await, stable);

    let comment = forge.comment(&run).await;
    for part in [
        "### ✅ Edgewright run 2 passed",
        "Plan: ",
        "| `hmi/a` | build |",
        &format!("- `{}/plants/hmi/a:pr-7`", forge.server.address),
    ] {
        assert!(comment.contains(part), "{part}: {comment}");
    }
    // What it does not change has no tag of it.
    assert!(!comment.contains("plants/hmi/b"), "{comment}");
    assert_eq!(forge.server.get("/api/v1/runs/2/comment.md").await.trim(), comment.trim());

    // It moves, and breaks.
    let second = forge.change(&first, "second try\n").await;
    forge.push("HEAD:refs/pull/7/head").await;
    forge.server.builds(&second).await;
    assert_ne!(forge.tag("pr-7").await, tagged);
    forge.repository.write("sites/a/site.yaml", "id: [\n");
    let broken = forge.repository.commit("broken").await;
    forge.push("HEAD:refs/pull/7/head").await;
    let run = forge.server.builds(&broken).await;
    assert_eq!(run.run.state, RunState::Failed);
    let comment = forge.comment(&run).await;
    assert!(comment.contains("❌") && comment.contains("site.yaml"), "{comment}");

    // Its ref disappears: so do its tags, and a new server does not know it either.
    forge.push(":refs/pull/7/head").await;
    forge.server.poll().await;
    until("the end of the pull request", async || forge.tag("pr-7").await.is_none().then_some(())).await;
    assert_eq!(forge.tag("stable").await, stable);
}

#[tokio::test]
async fn only_pull_requests_of_branches_into_a_branch_run() {
    let forge = Forge::new("{from = \"branches\", into = [\"main\"]}").await;
    // A release branch with a commit of its own.
    let release = forge.change("main", "release\n").await;
    forge.push("HEAD:refs/heads/release-1").await;

    let fork = forge.change("main", "from a fork\n").await;
    forge.push("HEAD:refs/pull/1/head").await;
    let for_release = forge.change(&release, "for the release\n").await;
    forge.push("HEAD:refs/heads/fix").await;
    forge.push("HEAD:refs/pull/2/head").await;
    let wanted = forge.change("main", "for main\n").await;
    forge.push("HEAD:refs/heads/feature").await;
    forge.push("HEAD:refs/pull/3/head").await;
    let run = forge.server.builds(&wanted).await;
    assert_eq!(run.run.branch, "refs/pull/3/head");
    let ran = forge.ran().await;
    assert!(!ran.contains(&fork) && !ran.contains(&for_release), "{ran:?}");

    // Someone with write access made the fork's commit a branch: now it runs.
    forge.repository.git(&["push", "--quiet", &forge.bare, &format!("{fork}:refs/heads/adopted")]).await;
    assert_eq!(forge.server.builds(&fork).await.run.branch, "refs/pull/1/head");
    assert!(!forge.ran().await.contains(&for_release));
}

/// A fork draws a random number in its build. Its merge has the same keys, and must not get the fork's bytes.
#[tokio::test]
async fn a_forks_build_is_not_released_after_its_merge() {
    if !edgewright_testkit::has_as_root(&["podman", "buildah", "mmdebstrap", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(folder.path()).await;
    let repository = Repository::make(folder.path().join("work")).await;
    repository.write("edgewright.yaml", "edgewright: 1\nname: dice\n");
    let from = upstream.from();
    let image = format!("from: {from}\nsteps: [containerfile: Containerfile]\ntest: none\n");
    repository.write("images/dice/image.yaml", image);
    let containerfile = |command: &str| format!("ARG BASE\nFROM ${{BASE}}\nRUN {command} > /etc/dice\n");
    repository.write("images/dice/Containerfile", containerfile("echo six"));
    repository.commit("first").await;
    let bare = folder.path().join("dice.git").display().to_string();
    repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare]).await;
    repository.git(&["push", "--quiet", &bare, "main"]).await;
    let config = folder.path().join("edgewright.toml");
    fs::write(&config, format!("[[source]]\nurl = \"{bare}\"\npull_requests = true\n")).unwrap();
    let server = Server::start(&folder.path().join("data"), &["--config", config.to_str().unwrap()]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&first).await.run.state, RunState::Passed);
    let client = edgewright_oci::Client::new(&server.registry()).unwrap();
    let dice = "dice/dice".parse().unwrap();
    let tag = async |tag: &str| {
        let head = client.head_manifest(&dice, &tag.parse().unwrap()).await.unwrap();
        head.map(|head| head.digest.unwrap().to_string())
    };
    let before = tag("stable").await;

    repository.write("images/dice/Containerfile", containerfile("head -c 16 /dev/urandom"));
    let commit = repository.commit("roll").await;
    repository.git(&["push", "--quiet", &bare, "HEAD:refs/pull/7/head"]).await;
    let fork = server.builds(&commit).await;
    assert_eq!((fork.run.state, fork.run.release), (RunState::Passed, None), "{fork:#?}");
    let forged = tag("pr-7").await;
    assert!(forged.is_some() && forged != before);
    assert_eq!(tag("stable").await, before);

    repository.git(&["push", "--quiet", &bare, "HEAD:main"]).await;
    server.poll().await;
    let merged = until("the run of the merge", async || {
        let runs = server.client.runs(None, 100).await.unwrap();
        let is_merge = |run: &edgewright_api::RunSummary| run.branch == "main" && run.commit == commit;
        runs.into_iter().find(|run| is_merge(run) && run.state.is_terminal())
    });
    let merged = merged.await;
    assert_eq!((merged.state, merged.counts.build), (RunState::Passed, 1), "it is built again");
    let stable = tag("stable").await;
    assert!(stable != before && stable != forged, "{stable:?} is not the fork's {forged:?}");
}
