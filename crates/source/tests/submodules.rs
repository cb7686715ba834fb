//! Pinned submodules of real repositories: relative and absolute addresses, private ones, those of commits
//! that are not trusted, checked-out ones of a working folder.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "common/backend.rs"]
mod backend;
mod common;

use common::{Sandbox, Upstream};
use edgewright_model::error::ErrorClass;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{EntryKind, Tree};
use edgewright_source::{Mirror, Remote, SourceError, Worktree};

const ON: &[u8] = b"edgewright: 1\nname: s\nsubmodules: true\n";

/// Records a commit as the submodule at a path, without a checkout.
async fn pin(upstream: &Upstream, path: &str, url: &str, commit: &str) {
    // Without the folder, git would take it for deleted.
    std::fs::create_dir_all(upstream.folder.join(path)).unwrap();
    let key = |name: &str| format!("submodule.{path}.{name}");
    upstream.git(&["config", "-f", ".gitmodules", &key("path"), path]).await;
    upstream.git(&["config", "-f", ".gitmodules", &key("url"), url]).await;
    upstream.git(&["add", "--all"]).await;
    upstream.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]).await;
    upstream.git(&["commit", "--quiet", "-m", "pin"]).await;
}

async fn head(upstream: &Upstream) -> CommitId {
    upstream.git(&["rev-parse", "HEAD"]).await.parse().unwrap()
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.entries.keys().map(edgewright_model::tree::TreePath::as_str).collect()
}

fn text(error: &SourceError) -> String {
    edgewright_model::error::Chain(error).to_string()
}

#[tokio::test]
async fn the_recorded_commit_is_read_and_not_the_branch() {
    let sandbox = Sandbox::new();
    let (inner, sub, up) =
        (sandbox.repository("inner").await, sandbox.repository("sub").await, sandbox.repository("up").await);
    inner.write("deep.yaml", b"deep: 1\n");
    let deep = inner.commit("deep").await;
    sub.write("files/run.sh", b"old\n");
    pin(&sub, "in ner", "../inner", deep.as_str()).await;
    let pinned = head(&sub).await;
    // It is in no branch any more.
    sub.write("files/run.sh", b"new\n");
    sub.git(&["commit", "--quiet", "--all", "--amend", "-m", "rewritten"]).await;
    up.write("edgewright.yaml", b"edgewright: 1\nname: s\n");
    pin(&up, "vendor/sub", "../sub", pinned.as_str()).await;
    let off = head(&up).await;
    up.write("edgewright.yaml", ON);
    up.git(&["commit", "--quiet", "--all", "-m", "on"]).await;
    let on = head(&up).await;

    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), up.remote());
    mirror.trust(["main".to_owned()].into());
    let tree = mirror.read_tree(&off).await.unwrap();
    assert_eq!(tree.entry(&"vendor/sub".parse().unwrap()).unwrap().kind, EntryKind::Submodule);
    let tree = mirror.read_tree(&on).await.unwrap();
    assert_eq!(
        paths(&tree),
        [
            ".gitmodules",
            "README",
            "edgewright.yaml",
            "vendor/sub/.gitmodules",
            "vendor/sub/README",
            "vendor/sub/files/run.sh",
            "vendor/sub/in ner/README",
            "vendor/sub/in ner/deep.yaml"
        ]
    );
    let script = tree.entry(&"vendor/sub/files/run.sh".parse().unwrap()).unwrap();
    assert_eq!(mirror.repository().read(&script.content, 100).await.unwrap(), b"old\n");
    assert!(
        tree.content(&"vendor/sub/in ner/deep.yaml".parse().unwrap()).is_some(),
        "what planning reads is loaded"
    );
    assert!(mirror.repository().reader().read(&on).await.is_none(), "the fast reader leaves it to the other");
    assert!(mirror.repository().reader().read(&off).await.is_some());

    // Everything is here: another mirror object needs neither the remotes nor trust.
    for name in ["inner", "sub", "up"] {
        std::fs::rename(sandbox.path(name), sandbox.path(&format!("{name}.gone"))).unwrap();
    }
    let again = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), up.remote());
    assert_eq!(paths(&again.read_tree(&on).await.unwrap()), paths(&tree));
    again.maintain().await.unwrap();
    assert_eq!(again.repository().read(&script.content, 100).await.unwrap(), b"old\n");
}

#[tokio::test]
async fn credentials_are_for_trusted_commits_and_their_own_host() {
    let sandbox = Sandbox::new();
    let (sub, up) = (sandbox.repository("sub").await, sandbox.repository("up").await);
    let pinned = sub.commit("more").await;
    up.write("edgewright.yaml", ON);
    pin(&up, "sub", "../sub", pinned.as_str()).await;
    let good = head(&up).await;
    sub.write("other", b"");
    let next = sub.commit("next").await;
    up.git(&["checkout", "--quiet", "-b", "fork"]).await;
    pin(&up, "sub", "../sub", next.as_str()).await;
    let bumped = head(&up).await;
    let other = sandbox.repository("private").await;
    other.write("secret", b"");
    let secret = other.commit("secret").await;
    pin(&up, "stolen", "../private", secret.as_str()).await;
    let stealing = head(&up).await;
    let address = backend::serve(sandbox.folder.path(), true);
    let remote = |text: &str| text.parse::<Remote>().unwrap();
    let private = remote(&format!("{}/up", address.replace("://", "://bob:s3cret@")));
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), private);

    // Before any branch is trusted, and then of a branch that is not.
    for commit in [&good, &stealing] {
        let error = mirror.read_tree(commit).await.unwrap_err();
        assert!(text(&error).contains("no trusted commit has a submodule at http://"), "{}", text(&error));
        assert_eq!(error.class(), ErrorClass::UserFault);
        assert!(!sandbox.path("m.git/modules").exists(), "nothing was fetched");
        mirror.trust(["main".to_owned()].into());
    }
    assert_eq!(mirror.read_tree(&good).await.unwrap().entries.len(), 4);
    // Its address is known now, but not for free.
    let error = mirror.read_tree(&bumped).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{}", text(&error));
    assert!(
        text(&error).starts_with("cannot fetch the submodule `sub`: access to http://"),
        "{}",
        text(&error)
    );
    assert!(!format!("{error:?}").contains("s3cret"));
    mirror.trust(["main".to_owned(), "fork".to_owned()].into());
    assert_eq!(mirror.read_tree(&bumped).await.unwrap().entries.len(), 5);

    // Another host: here another port.
    let elsewhere = backend::serve(sandbox.folder.path(), true);
    up.git(&["checkout", "--quiet", "main"]).await;
    pin(&up, "sub", &format!("{elsewhere}/private"), secret.as_str()).await;
    let error = mirror.read_tree(&head(&up).await).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{}", text(&error));
}

#[tokio::test]
async fn addresses_that_may_not_be_fetched() {
    let sandbox = Sandbox::new();
    let (sub, up) = (sandbox.repository("sub").await, sandbox.repository("up").await);
    sub.write("own", b"");
    let pinned = sub.commit("own").await;
    up.write("edgewright.yaml", ON);
    let address = backend::serve(sandbox.folder.path(), false);
    let local = sandbox.path("sub").display().to_string();
    let marker = sandbox.path("ran");
    let command = format!("ext::touch {}", marker.display());
    let wrong = "0123456789012345678901234567890123456789";
    let mirror =
        Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), format!("{address}/up").parse().unwrap());
    mirror.trust(["main".to_owned()].into());
    for (url, commit, want) in [
        (local.as_str(), pinned.as_str(), "is a local path, but the repository is remote"),
        (&format!("file://{local}"), pinned.as_str(), "is a local path, but the repository is remote"),
        (&command, pinned.as_str(), "invalid repository address"),
        ("--upload-pack=touch", pinned.as_str(), "invalid repository address"),
        ("../../../sub", pinned.as_str(), "leads above its host"),
        ("git@127.0.0.2:sub", pinned.as_str(), "is another host for ssh"),
        ("../none", pinned.as_str(), "no repository at http://"),
        ("../sub", wrong, "is no longer in http://"),
    ] {
        pin(&up, "sub", url, commit).await;
        let error = mirror.read_tree(&head(&up).await).await.unwrap_err();
        assert!(text(&error).contains(want), "{url}: {}", text(&error));
        assert!(error.hint().is_some());
    }
    assert!(!marker.exists());
    pin(&up, "sub", "../sub", pinned.as_str()).await;
    up.git(&["rm", "--quiet", "--cached", ".gitmodules"]).await;
    up.git(&["commit", "--quiet", "-m", "no addresses"]).await;
    let error = mirror.read_tree(&head(&up).await).await.unwrap_err();
    assert!(
        text(&error).ends_with("the submodule `sub`: .gitmodules has no `url` for it"),
        "{}",
        text(&error)
    );

    // Definitions are in the repository itself.
    pin(&up, "images/sub", "../sub", pinned.as_str()).await;
    let tree = mirror.read_tree(&head(&up).await).await.unwrap();
    let kind = |path: &str| tree.entry(&path.parse().unwrap()).map(|entry| entry.kind);
    assert_eq!(kind("images/sub"), Some(EntryKind::Submodule));
    assert_eq!(kind("sub/README"), Some(EntryKind::File));
    for number in 0..65 {
        std::fs::create_dir_all(up.folder.join(format!("many/{number}"))).unwrap();
        up.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{pinned},many/{number}")]).await;
    }
    up.git(&["commit", "--quiet", "-m", "many"]).await;
    let error = mirror.read_tree(&head(&up).await).await.unwrap_err();
    assert!(matches!(error, SourceError::Submodule { .. }), "{}", text(&error));
}

#[tokio::test]
async fn a_working_folder_lends_what_is_checked_out() {
    let sandbox = Sandbox::new();
    let (sub, up) = (sandbox.repository("sub").await, sandbox.repository("up").await);
    sub.write("files/a", b"a\n");
    let pinned = sub.commit("a").await;
    up.write("edgewright.yaml", ON);
    pin(&up, "sub", "../sub", pinned.as_str()).await;
    let error = Worktree::read(&sandbox.git, &up.folder).await.unwrap_err();
    assert!(text(&error).contains(&format!("commit {pinned} is not checked out")), "{}", text(&error));
    assert!(error.hint().unwrap().contains("git submodule update --init"));

    up.git(&["-c", "protocol.file.allow=always", "submodule", "update", "--init", "--quiet"]).await;
    std::fs::rename(sandbox.path("sub"), sandbox.path("gone")).unwrap();
    let read = Worktree::read(&sandbox.git, &up.folder).await.unwrap();
    assert_eq!(paths(&read.tree), [".gitmodules", "README", "edgewright.yaml", "sub/README", "sub/files/a"]);
    assert!(!read.dirty);
    // As `run` does: a mirror fetches the folder's files from a temporary repository.
    let (_, commit) = read.publish(&sandbox.git).await.unwrap();
    let remote = Remote::from_path(read.repository.folder()).unwrap().displayed_as(&up.remote());
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), remote);
    assert_eq!(paths(&mirror.read_tree(&commit).await.unwrap()), paths(&read.tree));

    // And of a clean folder, directly.
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("n.git"), up.remote());
    mirror.trust(["main".to_owned()].into());
    assert_eq!(paths(&mirror.read_tree(&head(&up).await).await.unwrap()), paths(&read.tree));
}
