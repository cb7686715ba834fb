//! The picture of a terminal session in the README, `docs/images/session.svg`: a real session, drawn.
//!
//! Where the picture is not up to date, the test fails. To draw it again:
//! `EDGEWRIGHT_UPDATE=1 cargo test -p edgewright --test session`.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod stable;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_process::Command;

/// What is typed, in this order. The shell has `edgewright` on its path.
const SESSION: [&str; 5] = [
    "edgewright run",
    "echo panel=24 >> sites/plant-b/files/etc/panel.conf",
    "git commit --quiet --all --message \"Larger panel at plant-b\"",
    "edgewright run",
    "edgewright image list",
];

/// The source of the session: files alone, so that it takes a second.
fn source(folder: &Path) {
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("edgewright.yaml", "edgewright: 1\nname: plants\n");
    write("images/base/image.yaml", "from: scratch\nsteps: [files: files/]\ntest: none\n");
    write("images/base/files/etc/motd", "Example Works\n");
    write("images/hmi/image.yaml", "from: base\nper: site\nsteps: [files: files/]\ntest: none\n");
    write("images/hmi/files/etc/hmi.conf", "port=8080\n");
    for site in ["plant-a", "plant-b", "plant-c"] {
        write(
            &format!("sites/{site}/site.yaml"),
            &format!("id: {site}\nslots: [{{id: panel, image: hmi}}]\n"),
        );
        write(&format!("sites/{site}/files/etc/panel.conf"), &format!("site={site}\n"));
    }
}

/// Runs a line as a user would; what it prints on standard output.
async fn shell(line: &str, folder: &Path, home: &Path) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_edgewright")).parent().unwrap();
    let mut command = Command::new("bash")
        .args(["-c", &format!("PATH=\"$0:$PATH\"; {line}")])
        .arg(bin)
        .cwd(folder)
        .env("HOME", home)
        .env("EDGEWRIGHT_DATA", home.join("data"))
        .env(edgewright_testkit::tools().0, edgewright_testkit::tools().1)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .deadline(Duration::from_mins(5));
    for role in ["AUTHOR", "COMMITTER"] {
        command = command.env(format!("GIT_{role}_NAME"), "Ann");
        command = command.env(format!("GIT_{role}_EMAIL"), "ann@example.org");
        command = command.env(format!("GIT_{role}_DATE"), "2026-01-05T08:00:00Z");
    }
    command.run().await.unwrap_or_else(|error| panic!("{line}: {error:?}")).text()
}

#[tokio::test]
async fn the_picture_of_a_session_is_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("plants");
    source(&folder);
    let first = "git init --quiet --initial-branch=main . && git add --all && git commit --quiet --message \"First sites\"";
    shell(first, &folder, home.path()).await;
    let mut session = String::new();
    for line in SESSION {
        let printed = shell(line, &folder, home.path()).await;
        session.extend(["$ ", line, "\n"]);
        if !printed.trim().is_empty() {
            session.extend([printed.trim_end(), "\n\n"]);
        }
    }
    let drawn = svg::draw(&stable::stable(session.trim_end()));

    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images/session.svg");
    if is_update() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &drawn).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == drawn,
        "docs/images/session.svg is not up to date: run `EDGEWRIGHT_UPDATE=1 cargo test -p edgewright --test session`\n{session}"
    );
}

#[expect(clippy::disallowed_methods, reason = "the one place where this test reads the environment")]
fn is_update() -> bool {
    std::env::var_os("EDGEWRIGHT_UPDATE").is_some()
}
