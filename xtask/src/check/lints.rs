//! Each lint of `clippy.toml` finds a violation: clippy, with our settings, on a crate that breaks them all.
//!
//! The libraries are stand-ins with the same paths. So this takes a second, and needs nothing from outside.

use std::fmt::Write as _;
use std::path::Path;

use crate::command::Run;
use crate::workspace;

/// Stand-ins for libraries, by crate.
const LIBRARIES: [(&str, &str); 2] = [
    (
        "tokio",
        "pub use task::spawn;
         pub mod task {
             pub fn spawn(_: ()) {}
             pub fn spawn_local(_: ()) {}
             pub struct JoinSet;
             impl JoinSet { pub fn spawn(&mut self, _: ()) {} }
         }
         pub mod runtime {
             pub struct Handle;
             impl Handle { pub fn spawn(&self, _: ()) {} }
         }
         pub mod sync { pub mod mpsc { pub fn unbounded_channel() {} } }",
    ),
    ("futures", "pub mod channel { pub mod mpsc { pub fn unbounded() {} } }"),
];

/// Calls that the lints must find.
const FORBIDDEN: [&str; 11] = [
    "tokio::spawn(())",
    "tokio::task::spawn(())",
    "tokio::task::spawn_local(())",
    "tokio::task::JoinSet.spawn(())",
    "tokio::runtime::Handle.spawn(())",
    "std::thread::spawn(|| ())",
    "tokio::sync::mpsc::unbounded_channel()",
    "std::sync::mpsc::channel::<u8>()",
    "futures::channel::mpsc::unbounded()",
    "std::process::Command::new(\"true\")",
    "std::env::var(\"A\")",
];

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A crate without a workspace around it.
fn write_crate(folder: &Path, name: &str, dependencies: &str, text: &str) {
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{dependencies}"
    );
    write(&folder.join("Cargo.toml"), &manifest);
    write(&folder.join("src/lib.rs"), text);
}

/// What clippy prints of a function with this body.
fn clippy(body: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut dependencies = String::new();
    for (name, text) in LIBRARIES {
        write_crate(&folder.path().join(name), name, "", text);
        writeln!(dependencies, "{name} = {{ path = \"../{name}\" }}").unwrap();
    }
    let place = folder.path().join("place");
    write_crate(
        &place,
        "place",
        &dependencies,
        &format!("#![deny(clippy::disallowed_methods)]\npub fn place() {{\n{body}}}\n"),
    );
    let run = Run::new("cargo")
        .args(["clippy", "--quiet", "--offline", "--message-format=short"])
        .cwd(&place)
        .env("CLIPPY_CONF_DIR", workspace::root())
        .env("CARGO_TARGET_DIR", folder.path().join("target"));
    match run.output() {
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn detached_spawns_and_unbounded_channels_are_refused() {
    let body = FORBIDDEN.map(|call| format!("    let _ = {call};\n")).concat();
    let output = clippy(&body);
    // The body starts on the third line.
    for (position, call) in FORBIDDEN.iter().enumerate() {
        let place = format!("src/lib.rs:{}:", position + 3);
        let found = output.lines().any(|line| line.contains(&place) && line.contains("disallowed method"));
        assert!(found, "{call} was not found in:\n{output}");
    }
    assert_eq!(clippy("    let _ = std::sync::mpsc::sync_channel::<u8>(4);\n"), "");
}
