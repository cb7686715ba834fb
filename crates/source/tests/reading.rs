//! Reading trees, folders and contents; packing them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod common;

use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use common::Sandbox;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{ContentId, EntryKind, Tree, TreePath, is_lfs_pointer};
use edgewright_source::{Mirror, PackEntry, PackError, PackKind, SourceError, Worktree};
use jiff::Timestamp;

fn names(tree: &Tree) -> Vec<&str> {
    tree.entries.keys().map(TreePath::as_str).collect()
}

#[tokio::test]
async fn a_commit_is_read_with_what_planning_needs() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    upstream.write("edgewright.yaml", b"edgewright: 1\n");
    upstream.write("images/a/files/bin/tool", &vec![7; 300_000]);
    std::os::unix::fs::symlink("bin/tool", upstream.folder.join("images/a/files/link")).unwrap();
    upstream.write("images/a/files/empty.j2", b"");
    upstream.git(&["update-index", "--add", "--chmod=+x", "images/a/files/bin/tool"]).await;
    std::fs::set_permissions(
        upstream.folder.join("images/a/files/bin/tool"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let commit = upstream.commit("files").await;
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    // The second time from the cache.
    for _ in 0..2 {
        let tree = mirror.read_tree(&commit).await.unwrap();
        let entry = |path: &str| tree.entry(&path.parse().unwrap()).unwrap().clone();
        let content = |path: &str| tree.content(&path.parse().unwrap()).map(|bytes| bytes.to_vec());
        assert_eq!(content("edgewright.yaml").unwrap(), b"edgewright: 1\n");
        assert_eq!(content("images/a/files/link").unwrap(), b"bin/tool");
        assert_eq!(content("images/a/files/empty.j2").unwrap(), b"");
        assert_eq!(content("images/a/files/bin/tool"), None);
        assert_eq!(entry("images/a/files/bin/tool").kind, EntryKind::Executable);
        assert_eq!(entry("images/a/files/bin/tool").size, 300_000);
    }
    let id = mirror.read_tree(&commit).await.unwrap().entries[&"README".parse().unwrap()].content.clone();
    assert_eq!(mirror.repository().read(&id, 100).await.unwrap(), b"hello\n");

    upstream.write(std::str::from_utf8(b"tab\there").unwrap(), b"");
    let commit = upstream.commit("invalid").await;
    let tree = mirror.read_tree(&commit).await.unwrap();
    assert_eq!(tree.invalid.iter().map(|path| path.escaped.as_str()).collect::<Vec<_>>(), ["tab\\there"]);
}

#[tokio::test]
async fn small_files_are_loaded_if_git_lfs_is_used() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "4d".repeat(32));
    upstream.write("images/a/files/big", pointer.as_bytes());
    upstream.write("images/a/files/small", &[b'x'; 50]);
    let without = upstream.commit("without attributes").await;
    upstream.write("images/.gitattributes", b"big filter=lfs diff=lfs merge=lfs -text\n");
    let with = upstream.commit("with").await;
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    let read = async |commit| {
        let tree = mirror.read_tree(commit).await.unwrap();
        ["big", "small"].map(|name| {
            let path = format!("images/a/files/{name}").parse().unwrap();
            tree.content(&path).is_some_and(|bytes| is_lfs_pointer(bytes))
        })
    };
    assert_eq!(read(&without).await, [false, false]);
    assert_eq!(read(&with).await, [true, false]);
}

#[tokio::test]
async fn a_folder_is_read_and_not_changed() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    upstream.write(".gitignore", b"ignored\n");
    upstream.write("deep/kept.yaml", b"a: 1\n");
    let head = upstream.commit("more").await;
    let state = async || upstream.git(&["status", "--porcelain", "--untracked-files=all"]).await;

    let clean = Worktree::read(&sandbox.git, &upstream.folder).await.unwrap();
    assert_eq!(
        (clean.head.as_ref(), clean.branch.as_deref(), clean.dirty),
        (Some(&head), Some("main"), false)
    );
    assert_eq!(names(&clean.tree), [".gitignore", "README", "deep/kept.yaml"]);

    upstream.write("untracked.yaml", b"b: 2\n");
    upstream.write("ignored", b"");
    upstream.write("deep/kept.yaml", b"a: 2\n");
    std::fs::remove_file(upstream.folder.join("README")).unwrap();
    let listing = |folder: &str| {
        let mut names: Vec<_> = std::fs::read_dir(upstream.folder.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let (before, objects) = (state().await, listing(".git/objects"));
    let index = std::fs::read(upstream.folder.join(".git/index")).unwrap();
    let dirty = Worktree::read(&sandbox.git, &upstream.folder).await.unwrap();
    assert!(dirty.dirty);
    assert_eq!(names(&dirty.tree), [".gitignore", "deep/kept.yaml", "untracked.yaml"]);
    assert_eq!(dirty.tree.content(&"deep/kept.yaml".parse().unwrap()).unwrap()[..], *b"a: 2\n");
    assert_eq!(std::fs::read(upstream.folder.join(".git/index")).unwrap(), index);
    assert_eq!(listing(".git/objects"), objects);
    assert_eq!(state().await, before);
    let untracked = &dirty.tree.entries[&"untracked.yaml".parse().unwrap()].content;
    assert_eq!(dirty.repository.read(untracked, 100).await.unwrap(), b"b: 2\n");

    // A folder within a repository, a linked work tree, no repository at all, a bare one.
    let below = Worktree::read(&sandbox.git, &upstream.folder.join("deep")).await.unwrap();
    assert_eq!((names(&below.tree), below.dirty, below.head), (vec!["kept.yaml"], true, Some(head.clone())));
    upstream.git(&["worktree", "add", "--quiet", "../linked", "HEAD"]).await;
    let linked = Worktree::read(&sandbox.git, &sandbox.path("linked")).await.unwrap();
    assert_eq!((linked.tree.entries.len(), linked.dirty, linked.branch), (3, false, None));
    let clean_below = Worktree::read(&sandbox.git, &sandbox.path("linked/deep")).await.unwrap();
    assert!(!clean_below.dirty);
    std::fs::create_dir_all(sandbox.path("plain/sub")).unwrap();
    std::fs::write(sandbox.path("plain/sub/edgewright.yaml"), "x: 1\n").unwrap();
    let plain = Worktree::read(&sandbox.git, &sandbox.path("plain")).await.unwrap();
    assert_eq!((names(&plain.tree), plain.head, plain.dirty), (vec!["sub/edgewright.yaml"], None, true));
    assert!(matches!(
        Worktree::read(&sandbox.git, &upstream.folder.join(".git")).await,
        Err(SourceError::Bare { .. })
    ));
    assert!(matches!(
        Worktree::read(&sandbox.git, &sandbox.path("nowhere")).await,
        Err(SourceError::Io { .. })
    ));
    upstream.git(&["init", "--quiet", "../unborn"]).await;
    let unborn = Worktree::read(&sandbox.git, &sandbox.path("unborn")).await.unwrap();
    assert_eq!((unborn.tree.entries.len(), unborn.head, unborn.dirty), (0, None, true));
}

/// git notices by the index's own time that such a file may have changed.
#[tokio::test]
async fn a_change_in_the_second_of_its_commit_without_another_size_is_read() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("upstream").await;
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let next_second =
        || tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(second().subsec_nanos())));
    next_second().await;
    upstream.write("site.yaml", b"shift: 06:00");
    upstream.commit("first").await;
    upstream.write("site.yaml", b"shift: 05:30");
    next_second().await;
    let read = Worktree::read(&sandbox.git, &upstream.folder).await.unwrap();
    let path = "site.yaml".parse().unwrap();
    assert_eq!(read.tree.content(&path).unwrap()[..], *b"shift: 05:30");
}

/// A folder with a file of 5 MB, and a Git LFS pointer.
async fn folder_to_pack() -> (Sandbox, Worktree) {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    upstream.write("big", &vec![9; 5_000_000]);
    upstream.write("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n");
    upstream.commit("big").await;
    let worktree = Worktree::read(&sandbox.git, &upstream.folder).await.unwrap();
    (sandbox, worktree)
}

fn pack_entry(path: &str, mode: u32, kind: PackKind) -> PackEntry {
    PackEntry {
        path: path.to_owned(),
        mode,
        user: 0,
        group: 7,
        xattrs: std::collections::BTreeMap::new(),
        kind,
    }
}

fn content(worktree: &Worktree, path: &str) -> PackKind {
    let entry = &worktree.tree.entries[&path.parse().unwrap()];
    PackKind::Content(entry.content.clone(), entry.size)
}

fn epoch() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

#[tokio::test]
async fn archives_are_canonical() {
    let (_sandbox, worktree) = folder_to_pack().await;
    let long = format!("{}/end", "folder".repeat(30));
    let mut entries = vec![
        pack_entry("usr/bin/z", 0o4755, content(&worktree, "README")),
        pack_entry("etc/a", 0o600, PackKind::Bytes(Arc::from(*b"text"))),
        pack_entry("etc/big", 0o644, content(&worktree, "big")),
        pack_entry("etc/link", 0o777, PackKind::Link(long.clone())),
        pack_entry(&long, 0o644, content(&worktree, "README")),
        pack_entry("etc/dir", 0o750, PackKind::Directory),
        pack_entry(r"etc/dev-x\x2dy.device", 0o644, PackKind::Bytes(Arc::from(*b""))),
    ];
    let first = worktree.repository.pack(entries.clone(), epoch(), Vec::new()).await.unwrap();
    entries.reverse();
    let second = worktree.repository.pack(entries, epoch(), Vec::new()).await.unwrap();
    assert!(first == second);
    let digest = edgewright_model::Digest::of(&first).to_string();
    assert_eq!(
        digest, "sha256:0609341ed185a327564a6eed6914ee057bca6e970e53d9075364810152fbbb56",
        "a change here changes the digest of every context"
    );

    let mut archive = tar::Archive::new(&first[..]);
    let mut seen = Vec::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        let header = member.header();
        assert_eq!(
            (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
            (1_700_000_000, 0, 7)
        );
        seen.push((member.path().unwrap().display().to_string(), header.mode().unwrap(), bytes.len()));
    }
    let want = [
        ("etc/a", 0o600, 4),
        ("etc/big", 0o644, 5_000_000),
        (r"etc/dev-x\x2dy.device", 0o644, 0),
        ("etc/dir/", 0o750, 0),
        ("etc/link", 0o777, 0),
        (long.as_str(), 0o644, 6),
        ("usr/bin/z", 0o4755, 6),
    ];
    assert_eq!(seen, want.map(|(path, mode, size)| (path.to_owned(), mode, size)));
}

/// Attributes may hold any bytes; hard links come after their targets.
#[tokio::test]
async fn archives_have_attributes_and_hard_links() {
    let (_sandbox, worktree) = folder_to_pack().await;
    let mut file = pack_entry("z", 0o644, PackKind::Bytes(Arc::from(*b"text")));
    file.xattrs = [("security.capability".to_owned(), vec![1, 0, b'\n', 255])].into();
    let link = pack_entry("a", 0o644, PackKind::HardLink("z".to_owned()));
    let tar = worktree.repository.pack(vec![link.clone(), file], epoch(), Vec::new()).await.unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let kinds: Vec<_> = archive.entries().unwrap().map(|it| it.unwrap().header().entry_type()).collect();
    assert_eq!(kinds, [tar::EntryType::Regular, tar::EntryType::Link]);
    let record = b"34 SCHILY.xattr.security.capability=\x01\x00\n\xff\n";
    assert!(
        tar.windows(record.len() - 3).any(|window| window == &record[3..]),
        "the record is in the archive"
    );
    let dangling = worktree.repository.pack(vec![link], epoch(), Vec::new()).await.unwrap_err();
    assert!(dangling.to_string().contains("hard link"), "{dangling}");
}

#[tokio::test]
async fn unpackable_entries_are_rejected() {
    let (_sandbox, worktree) = folder_to_pack().await;
    let pack = async |entries| worktree.repository.pack(entries, epoch(), Vec::new()).await;
    let pointer = vec![
        pack_entry("etc/big", 0o644, content(&worktree, "pointer")),
        pack_entry("etc/z", 0o644, content(&worktree, "big")),
    ];
    let refused = pack(pointer).await.unwrap_err();
    assert!(matches!(refused, PackError::Pointer { path } if path == "etc/big"));
    for bad in ["/abs", "a/../b", "", "a//b", "./a"] {
        let result = pack(vec![pack_entry(bad, 0, PackKind::Directory)]).await;
        assert!(matches!(result, Err(PackError::Entry { .. })), "{bad}");
    }
    let entry = pack_entry("etc/dir", 0o750, PackKind::Directory);
    let twice = pack(vec![entry.clone(), entry]).await.unwrap_err();
    assert!(twice.to_string().ends_with("is packed twice"));
    let missing = PackKind::Content(ContentId::new(&"0".repeat(40)), 1);
    let gone = pack(vec![pack_entry("a", 0, missing)]).await.unwrap_err();
    assert!(matches!(gone, PackError::Source(SourceError::Damaged { .. })), "{gone:?}");
}

#[tokio::test]
async fn large_commits_are_read_in_a_moment() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let mut script = String::from("commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 0\n");
    for number in 0..20_000 {
        let text = format!("n: {number}\n");
        write!(script, "M 644 inline sites/s{}/f{number}.yaml\ndata {}\n{text}\n", number % 500, text.len())
            .unwrap();
    }
    upstream.git_with(&["fast-import", "--quiet", "--force"], script).await;
    let commit = upstream.git(&["rev-parse", "main"]).await.parse().unwrap();
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    mirror.fetch().await.unwrap();
    for pass in ["cold", "warm"] {
        let started = std::time::Instant::now();
        let tree = mirror.read_tree(&commit).await.unwrap();
        // Shown, not asserted: machines differ.
        eprintln!("20,000 files {pass}: {:?}", started.elapsed());
        assert_eq!((tree.entries.len(), tree.contents.len()), (20_000, 20_000));
    }
}

#[tokio::test]
async fn a_reader_reads_commits_that_are_added_after_its_start_as_git_does() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    mirror.fetch().await.unwrap();
    let reader = mirror.repository().reader();
    upstream.write("images/a/image.yaml", b"from: scratch\n");
    upstream.write("images/a/files/etc/deep/er/conf", b"x");
    upstream.write("images/a/files/large", &vec![1; 300_000]);
    for number in 0..600 {
        upstream.write(&format!("many/{number}"), number.to_string().as_bytes());
    }
    upstream.write("images/.gitattributes", b"pointer filter=lfs\n");
    upstream.write("images/a/files/pointer", &[b'p'; 130]);
    for invalid in ["many/\t/a", "images/a/\t", "\t"] {
        upstream.write(invalid, b"");
    }
    std::os::unix::fs::symlink("large", upstream.folder.join("images/a/files/link")).unwrap();
    let first = upstream.git(&["rev-parse", "HEAD"]).await;
    upstream.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},sub")]).await;
    let subjects = ["one line", "two\nlines of a subject\n\nand a body", "", "  blanks  ", "gr\u{fc}n"];
    for subject in subjects {
        let tree = upstream.git(&["write-tree"]).await;
        upstream.git(&["add", "images", "many"]).await;
        let tree = if subject.is_empty() { tree } else { upstream.git(&["write-tree"]).await };
        let commit = upstream.git_with(&["commit-tree", "-p", "HEAD", &tree], subject).await;
        upstream.git(&["update-ref", "refs/heads/main", &commit]).await;
        let commit = commit.parse().unwrap();
        mirror.fetch().await.unwrap();
        let read = reader.read(&commit).await.unwrap();
        assert_eq!(read.info, mirror.repository().commit_info(&commit).await.unwrap());
        let tree = mirror.read_tree(&commit).await.unwrap();
        assert_eq!((read.tree.entries, read.tree.contents), (tree.entries, tree.contents));
        assert_eq!(read.tree.invalid, tree.invalid);
    }
}

#[tokio::test]
async fn a_reader_returns_nothing_for_commits_that_it_cannot_read() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    // No mirror; a missing commit; another encoding.
    let commit = upstream.commit("second").await;
    assert!(mirror.repository().reader().read(&commit).await.is_none());
    mirror.fetch().await.unwrap();
    let gone = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    assert!(mirror.repository().reader().read(&gone).await.is_none());
    upstream.git(&["config", "i18n.commitEncoding", "ISO-8859-1"]).await;
    let encoded = upstream.commit("latin").await;
    mirror.fetch().await.unwrap();
    assert!(mirror.repository().reader().read(&encoded).await.is_none());
    assert!(mirror.repository().commit_info(&encoded).await.is_ok());
    assert!(mirror.repository().reader().read(&commit).await.is_some());
}

#[tokio::test]
async fn long_and_unsafe_texts_of_commits_are_cut_when_read() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    let tree = upstream.git(&["write-tree"]).await;
    let long = "x".repeat(20_000_000);
    let object = |name: &str, message: &str| {
        let person = format!("{name} <{name}@example.org> 1700000000 +0000");
        format!("tree {tree}\nauthor {person}\ncommitter Ann <a@b> 1700000000 +0000\n\n{message}\n")
    };
    let cases = [("Ann", long.as_str(), 3, 200), ("\x1b[31mAnn", "s", 8, 1), (&long, "s", 200, 0)];
    for (name, message, author, subject) in cases {
        let commit =
            upstream.git_with(&["hash-object", "-t", "commit", "-w", "--stdin"], object(name, message)).await;
        upstream.git(&["update-ref", "refs/heads/main", &commit]).await;
        mirror.fetch().await.unwrap();
        let commit = commit.parse().unwrap();
        let info = mirror.repository().commit_info(&commit).await.unwrap();
        assert_eq!((info.author.chars().count(), info.subject.chars().count()), (author, subject));
        assert!(info.email.chars().count() <= 200);
        assert!(!info.author.contains('\x1b'));
        // What has its beginning far inside is left to git.
        if let Some(read) = mirror.repository().reader().read(&commit).await {
            assert_eq!(read.info, info);
        } else {
            assert_eq!(author, 200);
        }
    }
}

#[tokio::test]
async fn trees_that_are_too_large_end_while_they_are_listed() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("m.git"), upstream.remote());
    let good: CommitId = upstream.git(&["rev-parse", "HEAD"]).await.parse().unwrap();
    let blob = upstream.git(&["rev-parse", "HEAD:README"]).await;
    let thousand = async |kind: &str, id: &str| {
        let line = |number| format!("{kind} {id}\tn{number}\n");
        upstream.git_with(&["mktree"], (0..1000).map(line).collect::<String>()).await
    };
    // A billion files, and a billion empty folders: three objects each.
    let empty = upstream.git_with(&["mktree"], "").await;
    let mut bombs = Vec::new();
    for (kind, id) in [("100644 blob", &blob), ("040000 tree", &empty)] {
        let first = thousand(kind, id).await;
        let second = thousand("040000 tree", &first).await;
        bombs.push((thousand("040000 tree", &second).await, "files and folders"));
    }
    // Folders of long names inside each other, each with a file.
    let path = vec!["d".repeat(250); 400].join("/");
    let import =
        format!("commit refs/heads/deep\ncommitter a <a@b> 1 +0000\ndata 0\nM 100644 {blob} {path}/f\n\n");
    upstream.git_with(&["fast-import", "--quiet"], import).await;
    bombs.push((upstream.git(&["rev-parse", "refs/heads/deep^{tree}"]).await, "129 components, at most 128"));
    for (tree, why) in bombs {
        let commit = upstream.git(&["commit-tree", &tree, "-m", "bomb"]).await;
        upstream.git(&["update-ref", "refs/heads/main", &commit]).await;
        mirror.fetch().await.unwrap();
        let id: CommitId = commit.parse().unwrap();
        let error = mirror.read_tree(&id).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::UserFault);
        let text = error.to_string();
        assert!(text.contains(&commit) && text.contains(why), "{text}");
        assert!(error.hint().is_some());
        assert!(mirror.repository().reader().read(&id).await.is_none());
        // Its subject and the other commits are read as usual.
        assert_eq!(mirror.repository().commit_info(&id).await.unwrap().subject, "bomb");
        assert_eq!(mirror.read_tree(&good).await.unwrap().entries.len(), 1);
    }
}
