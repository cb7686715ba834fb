//! What a `files` step declares reaches the layer byte by byte: from git through plan, archive and job into
//! the registry.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::io::Read as _;
use std::path::Path;

use edgewright_oci::layer::{Kind, decompress, read_entries};
use edgewright_process::Command;

const IMAGE: &str = r#"
from: scratch
steps:
  - files:
      path: files
      directories: [var/lib/app, {path: srv/d, mode: "1750", owner: "5:6"}]
      xattrs: {usr/bin/ping: {security.capability: "0x01000002000A3D", user.note: "line\n=x"}}
      hard_links: {usr/bin/aping: usr/bin/ping}
      modes: {"usr/bin/*": "0755"}
test: none
"#;

async fn call(folder: &Path, program: &str, arguments: &[&str]) {
    let command = Command::new(program).args(arguments.iter().copied()).cwd(folder).env("HOME", folder);
    command.run().await.unwrap();
}

/// The zstd blobs of a registry, unpacked.
fn layers(folder: &Path) -> Vec<Vec<u8>> {
    let mut layers = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            layers.extend(self::layers(&entry.path()));
        } else {
            let mut tar = Vec::new();
            let file = std::fs::File::open(entry.path()).unwrap();
            let stream = decompress(file, edgewright_oci::media::LAYER_ZSTD);
            if stream
                .and_then(|mut it| it.read_to_end(&mut tar).map_err(edgewright_oci::layer::LayerError::Read))
                .is_ok()
            {
                layers.push(tar);
            }
        }
    }
    layers
}

#[tokio::test]
async fn directories_attributes_and_hard_links_reach_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join("src").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("edgewright.yaml", "edgewright: 1\nname: t\n");
    write("images/x/image.yaml", IMAGE);
    write("images/x/files/usr/bin/ping", "hi\n");
    call(folder.path(), "git", &["init", "--quiet", "src"]).await;
    let edgewright = env!("CARGO_BIN_EXE_edgewright");
    call(folder.path(), edgewright, &["run", "src", "--data", "data"]).await;

    let layers = layers(&folder.path().join("data/registry/blobs"));
    assert_eq!(layers.len(), 1);
    let mut seen = Vec::new();
    read_entries(&layers[0][..], |entry, _| {
        seen.push(entry);
        Ok(())
    })
    .unwrap();
    let find = |path: &str| seen.iter().find(|entry| entry.path == path.as_bytes()).unwrap();
    let directory = find("srv/d");
    assert_eq!(
        (directory.kind, directory.mode, directory.user, directory.group),
        (Kind::Directory, 0o1750, 5, 6)
    );
    assert_eq!((find("var/lib/app").kind, find("var/lib/app").mode), (Kind::Directory, 0o755));
    let ping = find("usr/bin/ping");
    assert_eq!(ping.xattrs["security.capability"], [1, 0, 0, 2, 0, b'\n', b'=']);
    assert_eq!(ping.xattrs["user.note"], b"line\n=x");
    let again = find("usr/bin/aping");
    // Extraction sets owner, mode and attributes again for every name.
    assert_eq!((again.kind, &again.link[..], again.mode), (Kind::HardLink, &b"usr/bin/ping"[..], ping.mode));
    assert_eq!(again.xattrs, ping.xattrs);
}
