//! What happens to branches and files: bursts of commits, errors and their repair, force-pushes, branches
//! that come and go.

use edgewright_model::run::RunState;

use crate::server::Server;
use crate::world::{Repository, until};

#[tokio::test]
async fn of_ten_commits_in_a_second_only_the_newest_runs() {
    let folder = tempfile::tempdir().unwrap();
    let sites: Vec<String> = (0..12).map(|site| format!("site-{site}")).collect();
    let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
    let repository = Repository::plants(folder.path().join("plants"), &sites).await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    until("the first run's jobs", async || {
        let runs = server.client.runs(None, 1).await.unwrap();
        runs.iter().any(|run| run.state == RunState::Running).then_some(())
    })
    .await;
    let mut newest = String::new();
    for number in 0..10 {
        repository.write("images/hmi/files/etc/hmi", format!("{number}\n"));
        newest = repository.commit(&format!("number {number}")).await;
        server.poll().await;
    }
    let last = server.ended(&newest).await;
    assert_eq!(last.run.state, RunState::Passed);
    let runs = server.client.runs(None, 100).await.unwrap();
    let mut passed: Vec<&str> = Vec::new();
    for run in &runs {
        assert!(matches!(run.state, RunState::Passed | RunState::Superseded), "{run:?}");
        if run.state == RunState::Passed {
            passed.push(&run.commit);
        }
    }
    // The newest, and the one that was being worked on; a second one where the machine was quick.
    assert!(passed.len() <= 4 && passed[0] == newest && passed.contains(&first.as_str()), "{runs:#?}");
    let release = server.release().await;
    assert_eq!((release.commit.as_str(), release.channels.len()), (newest.as_str(), 1));
}

#[tokio::test]
async fn an_error_blocks_only_its_image_until_it_is_fixed() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a", "b"]).await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&first).await.run.state, RunState::Passed);
    let before = server.end_state().await;

    // An image that cannot be read: its variants stay as they are, the others are built.
    repository.write("images/hmi/image.yaml", "from: base\nper: site\nsteps: [files: files/\n");
    repository.write("images/base/files/etc/base", "newer base\n");
    let broken = repository.commit("broken").await;
    let run = server.builds(&broken).await;
    assert_eq!(run.run.state, RunState::Failed);
    assert!(
        run.diagnostics
            .iter()
            .any(|found| found.file.as_ref().is_some_and(|file| file.as_str() == "images/hmi/image.yaml")),
        "{run:#?}"
    );
    let release = server.release().await;
    let origins: Vec<_> =
        release.entries.iter().map(|entry| format!("{} {:?}", entry.variant, entry.origin)).collect();
    assert_eq!(origins, ["base New", "hmi/a Carried", "hmi/b Carried"]);
    assert!(release.entries[1].reason.contains("image hmi has errors"), "{}", release.entries[1].reason);

    // A source that cannot be read at all: nothing moves.
    repository.write("edgewright.yaml", "edgewright: 1\nname: [plants\n");
    let unreadable = repository.commit("unreadable").await;
    let run = server.builds(&unreadable).await;
    assert_eq!((run.run.state, run.run.release), (RunState::Failed, None));
    assert!(!run.diagnostics.is_empty(), "{run:#?}");
    assert_eq!(server.release().await.commit, broken);

    // The repair, with nothing else changed: the same bytes as before.
    repository.git(&["checkout", "--quiet", &first, "--", "."]).await;
    let repaired = repository.commit("repaired").await;
    let run = server.builds(&repaired).await;
    assert_eq!((run.run.state, run.run.counts.build), (RunState::Passed, 0), "{run:#?}");
    assert_eq!(server.end_state().await.digests(), before.digests());
}

#[tokio::test]
async fn a_force_push_back_to_an_older_commit_gives_the_old_digests() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    server.ended(&first).await;
    let before = server.end_state().await;
    repository.write("sites/a/files/etc/site", "changed\n");
    let second = repository.commit("second").await;
    server.builds(&second).await;
    assert_ne!(server.end_state().await.digests(), before.digests());

    repository.git(&["reset", "--quiet", "--hard", &first]).await;
    server.poll().await;
    let release = until("the third release", async || {
        Some(server.release().await).filter(|release| release.number.0 == 3)
    })
    .await;
    // The channel follows the branch, wherever it is put; nothing is built for it.
    assert_eq!((release.commit.as_str(), release.channels.len()), (first.as_str(), 1));
    assert_eq!(server.end_state().await.digests(), before.digests());
    let run = server.run(release.run).await;
    assert_eq!((run.run.state, run.run.counts.build), (RunState::Passed, 0));
}

#[tokio::test]
async fn branches_go_come_back_and_change_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("work"), &["a"]).await;
    repository.write(
        "edgewright.yaml",
        "edgewright: 1\nname: plants\nchannels:\n  stable: {follows: default-branch}\n  dev: {follows: {branch: dev}}\n",
    );
    let first = repository.commit("two channels").await;
    let bare = folder.path().join("plants.git");
    let bare = bare.to_str().unwrap();
    repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", bare]).await;
    let push = async |what: &str| drop(repository.git(&["push", "--quiet", "--force", bare, what]).await);
    push("main").await;
    let server = Server::start(&folder.path().join("data"), &["--source", bare]).await;
    assert_eq!(server.ended(&first).await.run.state, RunState::Passed);
    let passes = async |commit: &str| {
        let run = server.builds(commit).await;
        assert_eq!(run.run.state, RunState::Passed, "{run:#?}");
        run.run.branch
    };
    // The commits that `stable` and `dev` point to.
    let channels = async || {
        let releases = server.client.releases(None, 100).await.unwrap();
        let channels = server.client.channels(None).await.unwrap();
        let commit = |name: &str| {
            let number = channels.iter().find(|channel| channel.name.as_str() == name)?.release?;
            releases.iter().find(|release| release.number == number).map(|release| release.commit.clone())
        };
        (commit("stable"), commit("dev"))
    };
    let at = |stable: &str, dev: &str| (Some(stable.to_owned()), Some(dev.to_owned()));
    assert_eq!(channels().await, (Some(first.clone()), None));

    repository.git(&["checkout", "--quiet", "-b", "dev"]).await;
    repository.write("sites/a/files/etc/site", "on dev\n");
    let dev = repository.commit("dev").await;
    push("dev").await;
    assert_eq!(passes(&dev).await, "dev");
    assert_eq!(channels().await, at(&first, &dev));

    // A deleted branch: its channel stays where it is.
    push(":dev").await;
    repository.git(&["checkout", "--quiet", "main"]).await;
    repository.write("images/hmi/files/etc/hmi", "without dev\n");
    let without = repository.commit("without dev").await;
    push("main").await;
    passes(&without).await;
    assert_eq!(channels().await, at(&without, &dev));

    // It comes back elsewhere.
    repository.git(&["checkout", "--quiet", "-B", "dev"]).await;
    repository.write("sites/a/files/etc/site", "on dev again\n");
    let again = repository.commit("dev again").await;
    push("dev").await;
    passes(&again).await;
    assert_eq!(channels().await, at(&without, &again));

    // The default branch is another one: `stable` follows it, and comes back with it.
    repository.git(&["checkout", "--quiet", "-b", "trunk", "main"]).await;
    repository.write("images/base/files/etc/base", "trunk\n");
    let trunk = repository.commit("trunk").await;
    push("trunk").await;
    repository.git(&["--git-dir", bare, "symbolic-ref", "HEAD", "refs/heads/trunk"]).await;
    assert_eq!(passes(&trunk).await, "trunk");
    assert_eq!(channels().await, at(&trunk, &again));
    repository.git(&["--git-dir", bare, "symbolic-ref", "HEAD", "refs/heads/main"]).await;
    server.poll().await;
    until("the way back", async || (channels().await == at(&without, &again)).then_some(())).await;
}

#[tokio::test]
async fn a_missing_default_branch_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    server.ended(&first).await;
    // HEAD of the remote names a branch that is no more.
    repository.git(&["checkout", "--quiet", "--detach"]).await;
    repository.git(&["branch", "--quiet", "-m", "main", "other"]).await;
    repository.git(&["symbolic-ref", "HEAD", "refs/heads/main"]).await;
    server.poll().await;
    let error = until("the error", async || server.client.sources().await.unwrap().remove(0).error).await;
    assert!(error.contains("branch"), "{error}");
    assert_eq!(server.release().await.commit, first);
}
