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

/// Mode and owner of the entries after the step, by path.
fn taken_over(entries: &[Entry], delete: &[&str], base: &Index) -> (Vec<String>, Vec<String>) {
    let delete: Vec<String> = delete.iter().map(|path| (*path).to_owned()).collect();
    let mut entries = entries.to_vec();
    let notes = replaced::take_over(&mut entries, &delete, base);
    assert!(entries.iter().all(|entry| entry.xattrs.is_empty()), "{entries:?}");
    let show =
        |e: &Entry| format!("{} {:o} {}:{}", String::from_utf8_lossy(&e.path), e.mode, e.user, e.group);
    (entries.iter().map(show).collect(), notes)
}

#[test]
fn what_is_replaced_passes_its_mode_and_owner_on() {
    use edgewright_model::order::{DECLARED_MODE, DECLARED_OWNER};

    const KEYFILE: &str = "etc/NetworkManager/system-connections/uplink.nmconnection";
    let owned = |path: &str, kind, mode, user, group| Entry { user, group, ..entry(path, kind, mode) };
    let mut layer = LayerIndex::default();
    for described in [
        owned(KEYFILE, Kind::File, 0o600, 0, 0),
        owned("etc/app.conf", Kind::File, 0o640, 0, 42),
        owned("usr/bin/tool", Kind::File, 0o4755, 0, 0),
        Entry { link: b"etc/app.conf".to_vec(), ..entry("etc/same.conf", Kind::HardLink, 0o644) },
        owned("var/lib/app", Kind::Directory, 0o2750, 7, 8),
        entry("usr/sbin", Kind::Directory, 0o755),
        owned("usr/sbin/run", Kind::File, 0o700, 0, 0),
        link("sbin", "usr/sbin"),
        link("etc/link", "app.conf"),
    ] {
        layer.record(&described);
    }
    let base = Index::merge([&layer]);
    let declared = |mut entry: Entry, names: &[&str]| {
        entry.xattrs.extend(names.iter().map(|name| ((*name).to_owned(), Vec::new())));
        entry
    };
    let table = [
        (file(KEYFILE), format!("{KEYFILE} 600 0:0")),
        (declared(file(KEYFILE), &[DECLARED_MODE]), format!("{KEYFILE} 644 0:0")),
        (file("etc/app.conf"), "etc/app.conf 640 0:42".to_owned()),
        (file("etc/same.conf"), "etc/same.conf 640 0:42".to_owned()),
        (declared(file("etc/app.conf"), &[DECLARED_OWNER]), "etc/app.conf 640 0:0".to_owned()),
        (entry("etc/app.conf", Kind::File, 0o755), "etc/app.conf 750 0:42".to_owned()),
        (file("usr/bin/tool"), "usr/bin/tool 4755 0:0".to_owned()),
        (file("sbin/run"), "sbin/run 700 0:0".to_owned()),
        (entry("var/lib/app", Kind::Directory, 0o755), "var/lib/app 2750 7:8".to_owned()),
        (
            declared(entry("var/lib/app", Kind::Directory, 0o700), &[DECLARED_MODE, DECLARED_OWNER]),
            "var/lib/app 700 0:0".to_owned(),
        ),
        // Nothing is replaced, or something of another kind.
        (file("etc/new"), "etc/new 644 0:0".to_owned()),
        (file("etc/link"), "etc/link 644 0:0".to_owned()),
    ];
    for (entry, expected) in table {
        assert_eq!(taken_over(&[entry], &[], &base).0, [expected]);
    }
    let again = Entry { link: b"etc/app.conf".to_vec(), ..entry("etc/other", Kind::HardLink, 0o644) };
    let both = taken_over(&[file("etc/app.conf"), again], &[], &base).0;
    assert_eq!(both, ["etc/app.conf 640 0:42", "etc/other 640 0:42"], "names of one file agree");
    for delete in ["etc/app.conf", "etc/"] {
        assert_eq!(taken_over(&[file("etc/app.conf")], &[delete], &base).0, ["etc/app.conf 644 0:0"]);
    }
    let below = taken_over(&[file("etc/app.conf/x")], &["etc/app.conf"], &base).0;
    assert_eq!(below, ["etc/app.conf/x 644 0:0"]);
    let (_, notes) = taken_over(&[file("etc/ssh/a_key"), file(KEYFILE)], &[], &base);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("can read `/etc/ssh/a_key`: it has mode 0644"), "{notes:?}");
    // A second layer's file counts, and a removed one does not.
    let mut second = LayerIndex::default();
    second.record(&owned("etc/app.conf", Kind::File, 0o644, 0, 0));
    second.record(&file("usr/bin/.wh.tool"));
    let base = Index::merge([&layer, &second]);
    assert_eq!(taken_over(&[file("etc/app.conf")], &[], &base).0, ["etc/app.conf 644 0:0"]);
    assert_eq!(taken_over(&[file("usr/bin/tool")], &[], &base).0, ["usr/bin/tool 644 0:0"]);
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
