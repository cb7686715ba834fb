//! Polling and mirroring real repositories.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod common;
#[path = "common/http.rs"]
mod http;

use common::Sandbox;
use edgewright_model::error::ErrorClass;
use edgewright_source::{Mirror, SourceError};
use http::serve;

#[tokio::test]
async fn polls_and_mirrors_follow_all_changes_of_branches() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up stream").await;
    let remote = upstream.remote();
    let refs = sandbox.git.poll(&remote).await.unwrap();
    assert_eq!(refs.default_branch.as_deref(), Some("main"));
    let (_, first) = refs.branch(&remote, None).unwrap();

    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("mirror.git"), remote.clone());
    let tree = mirror.read_tree(&first).await.unwrap();
    assert_eq!(tree.entries.len(), 1);

    // A branch turns into a folder of branches, history is rewritten, the default branch is renamed.
    upstream.git(&["branch", "topic"]).await;
    mirror.fetch().await.unwrap();
    upstream.git(&["branch", "-D", "topic"]).await;
    upstream.git(&["branch", "topic/one"]).await;
    upstream.git(&["commit", "--amend", "--quiet", "-m", "rewritten"]).await;
    upstream.git(&["branch", "-m", "main", "trunk"]).await;
    let refs = sandbox.git.poll(&remote).await.unwrap();
    let (name, rewritten) = refs.branch(&remote, None).unwrap();
    assert_eq!((name.as_str(), refs.branches.len()), ("trunk", 2));
    mirror.ensure(&rewritten).await.unwrap();
    let repository = mirror.repository();
    assert!(!repository.is_ancestor(&first, &rewritten).await.unwrap());
    assert!(repository.has(&first).await.unwrap(), "a commit that a force-push removed stays readable");
    assert!(matches!(repository.resolve("main").await, Err(SourceError::UnknownRevision { .. })));
    assert_eq!(repository.resolve("trunk").await.unwrap(), rewritten);
    for odd in ["", "--all", "nope", "trunk:README", "a\nb"] {
        assert!(matches!(repository.resolve(odd).await, Err(SourceError::UnknownRevision { .. })), "{odd}");
    }
    let info = repository.commit_info(&rewritten).await.unwrap();
    assert_eq!((info.author.as_str(), info.subject.as_str()), ("Ann Author", "rewritten"));
    assert_eq!(info.committed_at.to_string(), "2026-01-02T03:04:05Z");

    let error = refs.branch(&remote, Some("main")).unwrap_err();
    assert!(error.to_string().ends_with("has no branch `main`; it has `topic/one`, `trunk`"), "{error}");
    let never = "0123456789012345678901234567890123456789".parse().unwrap();
    assert!(matches!(mirror.ensure(&never).await, Err(SourceError::CommitGone { .. })));
    mirror.maintain().await.unwrap();
    assert!(mirror.repository().has(&first).await.unwrap());
}

#[tokio::test]
async fn a_mirror_survives_kills_and_damage() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    upstream.write("images/a/image.yaml", b"from: scratch\n");
    let first = upstream.commit("second").await;
    let folder = sandbox.path("mirror.git");
    let mirror = Mirror::new(sandbox.git.clone(), folder.clone(), upstream.remote());
    mirror.fetch().await.unwrap();

    // Killed in the middle of a fetch.
    for lock in ["HEAD.lock", "packed-refs.lock", "refs/heads/main.lock", "shallow.lock", "config.lock"] {
        std::fs::write(folder.join(lock), "").unwrap();
    }
    std::fs::write(folder.join("objects/tmp_obj_x"), "half").unwrap();
    let next = upstream.commit("third").await;
    mirror.ensure(&next).await.unwrap();
    assert!(!folder.join("HEAD.lock").exists() && !folder.join("objects/tmp_obj_x").exists());

    // Every object emptied, as after a loss of power; HEAD gone; the folder a file.
    let empty = |folder: &std::path::Path| {
        for fan in std::fs::read_dir(folder.join("objects")).unwrap() {
            for object in std::fs::read_dir(fan.unwrap().path()).unwrap() {
                let object = object.unwrap().path();
                std::fs::remove_file(&object).unwrap();
                std::fs::write(&object, "").unwrap();
            }
        }
    };
    empty(&folder);
    assert_eq!(mirror.read_tree(&next).await.unwrap().entries.len(), 2);
    std::fs::remove_file(folder.join("HEAD")).unwrap();
    assert_eq!(mirror.read_tree(&first).await.unwrap().entries.len(), 2);
    // A missing tree of an existing commit.
    let tree = mirror.repository();
    let blob = upstream.git(&["rev-parse", "HEAD:images/a"]).await;
    let loose = tree.folder().join("objects").join(&blob[..2]).join(&blob[2..]);
    if loose.exists() {
        std::fs::remove_file(loose).unwrap();
        assert_eq!(mirror.read_tree(&first).await.unwrap().entries.len(), 2);
    }
}

#[tokio::test]
async fn a_shallow_clone_can_be_a_source() {
    let sandbox = Sandbox::new();
    let origin = sandbox.repository("origin").await;
    origin.commit("second").await;
    let url = format!("file://{}", origin.folder.display());
    let shallow = sandbox.repository("shallow").await;
    shallow.git(&["fetch", "--quiet", "--depth=1", &url, "main"]).await;
    shallow.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]).await;
    let mut head = shallow.git(&["rev-parse", "HEAD"]).await.parse().unwrap();
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("mirror.git"), shallow.remote());
    for subject in ["second", "third"] {
        mirror.fetch().await.unwrap();
        assert_eq!(mirror.repository().commit_info(&head).await.unwrap().subject, subject);
        assert_eq!(mirror.read_tree(&head).await.unwrap().entries.len(), 1);
        head = shallow.commit("third").await;
    }
}

#[tokio::test]
async fn faults_of_remotes_have_class_and_hint() {
    let sandbox = Sandbox::new();
    let empty = sandbox.path("empty.git");
    sandbox.repository("any").await.git(&["init", "--quiet", "--bare", empty.to_str().unwrap()]).await;
    let remote = format!("{}", empty.display()).parse().unwrap();
    let refs = sandbox.git.poll(&remote).await.unwrap();
    let error = refs.branch(&remote, None).unwrap_err();
    assert!(matches!(error, SourceError::Empty { .. }) && error.hint().is_some());

    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://bob:s3cret@{}/x.git", listener.local_addr().unwrap())
    };
    let root = sandbox.path("any");
    for (address, class) in [
        (sandbox.path("missing").display().to_string(), ErrorClass::NotFound),
        (sandbox.path("home").display().to_string(), ErrorClass::NotFound),
        (closed, ErrorClass::Unavailable),
        (serve(&root, Some("404 Not Found")) + "/x.git", ErrorClass::NotFound),
        (serve(&root, Some("503 Service Unavailable")) + "/x.git", ErrorClass::Unavailable),
        (serve(&root, Some("403 Forbidden")) + "/x.git", ErrorClass::Denied),
        (serve(&root, Some("401 Unauthorized")) + "/x.git", ErrorClass::Denied),
        (serve(&root, None) + "/README", ErrorClass::NotFound),
    ] {
        let error = sandbox.git.poll(&address.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.class(), class, "{address}: {error:?}");
        assert!(error.hint().is_some() && !format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn http_is_polled_and_mirrored_with_and_without_credentials() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let bare = sandbox.path("served/plant.git");
    upstream.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]).await;
    upstream.git(&["--git-dir", bare.to_str().unwrap(), "update-server-info"]).await;
    let open = serve(&sandbox.path("served"), None);
    let closed = serve(&sandbox.path("served"), Some("401 Unauthorized"));
    let closed = closed.replace("http://", "http://bob:s3cret@");
    for (index, base) in [open, closed].into_iter().enumerate() {
        let remote = format!("{base}/plant.git").parse().unwrap();
        let refs = sandbox.git.poll(&remote).await.unwrap();
        let (name, commit) = refs.branch(&remote, None).unwrap();
        assert_eq!(name, "main");
        let mirror = Mirror::new(sandbox.git.clone(), sandbox.path(&format!("mirror-{index}.git")), remote);
        assert_eq!(mirror.read_tree(&commit).await.unwrap().entries.len(), 1);
        let config = std::fs::read_to_string(sandbox.path(&format!("mirror-{index}.git/config"))).unwrap();
        assert!(!config.contains("s3cret"));
    }
}
