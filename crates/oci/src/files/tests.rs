use super::*;
use crate::index::LayerIndex;
use crate::layer::Kind;

fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
    Entry::new(path, kind, mode)
}

fn link(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..entry(path, Kind::Link, 0o777) }
}

fn base() -> Index {
    let mut layer = LayerIndex::default();
    for described in [
        entry("usr", Kind::Directory, 0o755),
        entry("usr/bin", Kind::Directory, 0o755),
        entry("usr/bin/sh", Kind::File, 0o755),
        link("bin", "usr/bin"),
        entry("tmp", Kind::Directory, 0o1777),
        entry("root", Kind::Directory, 0o700),
        entry("etc", Kind::Directory, 0o755),
        entry("etc/motd", Kind::File, 0o644),
        entry("etc/old", Kind::Directory, 0o750),
        entry("etc/old/x", Kind::File, 0o644),
        entry("var", Kind::Directory, 0o755),
        link("var/run", "/run"),
        entry("run", Kind::Directory, 0o755),
        link("up", "../../../etc"),
        link("loop-a", "loop-b"),
        link("loop-b", "loop-a"),
        link("dangling", "opt/none"),
    ] {
        layer.record(&described);
    }
    Index::merge([&layer])
}

/// `path mode` of directories and `path` of all else, in writing order.
fn shape(entries: &[Entry], delete: &[&str]) -> Result<Vec<String>, FilesError> {
    let delete: Vec<String> = delete.iter().map(|path| (*path).to_owned()).collect();
    let plan = plan(entries, &delete, &base())?;
    let shown = plan.operations.iter().map(|operation| match operation {
        Operation::Add(e) if e.kind == Kind::Directory => {
            format!("{}/ {:o}", String::from_utf8_lossy(&e.path), e.mode)
        }
        Operation::Add(e) => String::from_utf8_lossy(&e.path).into_owned(),
        Operation::Entry { path, .. } => path.clone(),
    });
    Ok(shown.collect())
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File, 0o644)
}

#[test]
fn entries_follow_the_images_links() {
    let table: [(&str, &[&str]); 8] = [
        ("bin/x", &["usr/ 755", "usr/bin/ 755", "usr/bin/x"]),
        ("tmp/x", &["tmp/ 1777", "tmp/x"]),
        ("root/a/b", &["root/ 700", "root/a/ 755", "root/a/b"]),
        ("var/run/x", &["run/ 755", "run/x"]),
        ("up/x", &["etc/ 755", "etc/x"]),
        ("dangling/x", &["opt/ 755", "opt/none/ 755", "opt/none/x"]),
        ("new", &["new"]),
        ("dangling", &["dangling"]),
    ];
    for (path, expected) in table {
        assert_eq!(shape(&[file(path)], &[]).unwrap(), expected, "{path}");
    }
    let both = shape(&[file("etc/a"), file("etc/b")], &[]).unwrap();
    assert_eq!(both, ["etc/ 755", "etc/a", "etc/b"], "parents are written once");
    let declared = shape(&[entry("bin", Kind::Directory, 0o700), file("bin/x")], &[]).unwrap();
    assert_eq!(declared, ["usr/ 755", "usr/bin", "usr/bin/x"]);
}

#[test]
fn conflicting_entries_are_rejected() {
    let message = |entries: &[Entry], delete: &[&str]| shape(entries, delete).unwrap_err().to_string();
    assert_eq!(
        message(&[file("etc")], &[]),
        "cannot copy `etc`: it is a file, but the image has a directory at `/etc`"
    );
    assert_eq!(
        message(&[file("etc/motd/x")], &[]),
        "cannot copy `etc/motd/x`: the image has a file at `/etc/motd`, not a directory"
    );
    assert!(message(&[entry("etc/motd", Kind::Directory, 0o755)], &[]).contains("has a file at `/etc/motd`"));
    assert_eq!(
        message(&[file("loop-a/x")], &[]),
        "cannot copy `loop-a/x`: the image's link `/loop-a` is circular"
    );
    assert!(message(&[file("etc/.wh.motd")], &[]).contains("mark deletions"));
    for bad in ["", "/", "..", "a/../b"] {
        assert!(message(&[], &[bad]).contains("cannot delete"), "{bad}");
    }
    let hard = Entry { link: b"etc/motd".to_vec(), ..entry("etc/copy", Kind::HardLink, 0o644) };
    assert!(message(&[hard], &[]).contains("not an earlier file of the same step"));
}

#[test]
fn deletions_become_whiteouts_or_opaque_directories() {
    assert_eq!(shape(&[], &["etc/motd"]).unwrap(), ["etc/ 755", "etc/.wh.motd"]);
    assert_eq!(shape(&[], &["bin"]).unwrap(), [".wh.bin"], "a link itself is deleted, not its target");
    assert_eq!(shape(&[], &["bin/sh"]).unwrap(), ["usr/ 755", "usr/bin/ 755", "usr/bin/.wh.sh"]);
    assert_eq!(shape(&[], &["etc/old/x", "etc/old"]).unwrap(), ["etc/ 755", "etc/.wh.old"]);
    assert_eq!(shape(&[file("etc/motd")], &["etc/motd"]).unwrap(), ["etc/ 755", "etc/motd"]);
    assert_eq!(shape(&[file("etc/old")], &["etc/old"]).unwrap(), ["etc/ 755", "etc/old"]);
    assert_eq!(
        shape(&[file("etc/old/y")], &["etc/old"]).unwrap(),
        ["etc/ 755", "etc/old/ 755", "etc/old/.wh..wh..opq", "etc/old/y"]
    );
    assert_eq!(
        shape(&[file("etc/motd/x")], &["etc/motd"]).unwrap(),
        ["etc/ 755", "etc/motd/ 755", "etc/motd/x"]
    );
    assert_eq!(shape(&[], &["nowhere"]).unwrap(), [""; 0]);
    let plan = plan(&[], &["nowhere".to_owned()], &base()).unwrap();
    assert_eq!(plan.notes, ["`nowhere` was not deleted: it is not in the image"]);
}

#[test]
fn the_merged_index_equals_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let epoch = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let source = folder.path().join("entries");
    let mut writer = LayerWriter::create(&source, epoch).unwrap();
    for name in ["bin/x", "etc/old/y", "srv/www/index.html"] {
        let described = Entry { size: 2, ..file(name) };
        writer.append(&described, &mut &b"hi"[..]).unwrap();
    }
    let entries = writer.finish().unwrap();
    let mut tar = Vec::new();
    let blob = std::fs::File::open(&entries.path).unwrap();
    crate::layer::decompress(blob, crate::media::LAYER_ZSTD).unwrap().read_to_end(&mut tar).unwrap();

    let mut layers = Vec::new();
    for name in ["one", "two"] {
        let mut writer = LayerWriter::create(&folder.path().join(name), epoch).unwrap();
        let delete = ["etc/old".to_owned(), "etc/motd".to_owned()];
        write(&mut std::io::Cursor::new(&tar), &delete, &base(), &mut writer).unwrap();
        layers.push(writer.finish().unwrap());
    }
    assert_eq!(layers[0].digest, layers[1].digest);
    let blob = std::fs::File::open(&layers[0].path).unwrap();
    let (scanned, left) = LayerIndex::scan_blob(blob, crate::media::LAYER_ZSTD, 1_000_000, || false).unwrap();
    assert_eq!((scanned, left), (layers[0].index.clone(), 1_000_000 - layers[0].uncompressed_size));
    let mut merged = base();
    merged.apply(&layers[0].index);
    let there = ["usr/bin/x", "etc/old/y", "srv/www/index.html", "usr/bin/sh"];
    assert!(there.iter().all(|path| merged.get(path).is_some()));
    assert!(["etc/motd", "etc/old/x"].iter().all(|path| merged.get(path).is_none()));
}

#[test]
fn a_file_replaces_no_link_to_a_directory() {
    let error = shape(&[file("bin")], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot copy `bin`: it is a file, but the image has a link at `/bin` to the directory `/usr/bin`"
    );
    for path in ["var/run", "up"] {
        assert!(matches!(shape(&[file(path)], &[]), Err(FilesError::ReplacesLink { .. })), "{path}");
    }
    // Also below another link, and as a hard link.
    let hard = Entry { link: b"first".to_vec(), ..entry("bin", Kind::HardLink, 0o644) };
    assert!(matches!(shape(&[file("first"), hard], &[]), Err(FilesError::ReplacesLink { .. })));
    // A link may replace a link, and what is deleted may be replaced by anything.
    assert_eq!(shape(&[link("bin", "usr/other")], &[]).unwrap(), ["bin"]);
    assert_eq!(shape(&[file("bin")], &["bin"]).unwrap(), ["bin"]);
    assert_eq!(shape(&[entry("bin", Kind::Directory, 0o755)], &[]).unwrap(), ["usr/ 755", "usr/bin"]);
}

#[test]
fn a_file_replaces_no_directory_that_the_base_only_implies() {
    let mut layer = LayerIndex::default();
    layer.record(&entry("opt/app/bin", Kind::File, 0o755));
    layer.record(&link("app", "opt/app"));
    let base = Index::merge([&layer]);
    let error = plan(&[file("opt/app")], &[], &base).unwrap_err();
    assert!(matches!(error, FilesError::ReplacesDirectory { .. }), "{error}");
    let error = plan(&[file("app")], &[], &base).unwrap_err();
    assert!(matches!(error, FilesError::ReplacesLink { .. }), "{error}");
    assert_eq!(real_place(&base, "app/bin").as_deref(), Some("opt/app/bin"));
    assert_eq!(real_place(&base, "app/bin/x"), None);
}
