//! Crate arrows point one way: [`ARROWS`], compared with `cargo metadata`.
//!
//! Only what ships counts: a test may use a crate above its own (the builder's tests push to our registry).
//! The pure crates are held to more: no async, files, network, clock or environment, neither by dependency
//! nor by `std`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::files::rust_files;
use crate::command::Run;
use crate::workspace;

/// The crates that a crate may use besides `model`; and `process`, unless it is pure. [`ANY`] means every
/// library.
const ARROWS: [(&str, &[&str]); 28] = [
    ("model", &[]),
    ("plan", &[]),
    ("rollout", &[]),
    ("process", &[]),
    ("oci", &[]),
    ("checks", &[]),
    ("source", &[]),
    ("build", &["oci"]),
    // The programs that are brought into virtual machines, and the messages between them and the host.
    ("guest", &[]),
    ("vm", &["oci", "guest"]),
    ("provision", &["oci", "guest", "vm"]),
    ("lab", &["oci", "checks", "guest", "vm", "provision"]),
    ("sandbox", &[]),
    ("job", &["oci", "build", "lab", "sandbox", "vm"]),
    ("cluster", &["oci", "checks", "lab", "job"]),
    ("blobs", &[]),
    ("sqlite", &[]),
    ("registry", &["blobs", "oci", "sqlite"]),
    ("store", &["sqlite"]),
    (
        "control",
        &["plan", "rollout", "oci", "checks", "source", "build", "lab", "job", "blobs", "registry", "store"],
    ),
    ("api", &[]),
    // The composition opens the database that control works on, and hands control its git and its executor.
    ("server", &["control", "registry", "api", "store", "source", "job"]),
    ("agent", &["oci", "checks", "api"]),
    ("sim", &["rollout"]),
    ("load", &[]),
    ("testkit", ANY),
    ("fuzz", ANY),
    // The command itself: package `edgewright`.
    ("", ANY),
];
const ANY: &[&str] = &["*"];

/// Crates that know no clock, environment, network, files or async.
const PURE: [&str; 3] = ["model", "plan", "rollout"];
/// What a pure crate must not depend on, with tests or without.
const IMPURE_DEPENDENCIES: [&str; 12] = [
    "tokio",
    "tokio-util",
    "futures",
    "reqwest",
    "hyper",
    "axum",
    "sqlx",
    "rustix",
    "tempfile",
    "rand",
    "zstd",
    "tracing",
];
/// Words that a pure crate must not use outside its tests.
const IMPURE_WORDS: [&str; 8] = [
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "async fn",
];

/// Checks dependencies and sources of the workspace as it is.
pub(super) fn check() -> anyhow::Result<()> {
    let faults = [dependency_faults(&metadata()?)?, word_faults()?].concat();
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

fn metadata() -> anyhow::Result<Value> {
    let text = Run::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .cwd(workspace::root())
        .output()?;
    serde_json::from_str(&text).context("`cargo metadata` printed no JSON")
}

/// One line per arrow that the table does not allow.
fn dependency_faults(metadata: &Value) -> anyhow::Result<String> {
    let mut faults = String::new();
    for package in metadata["packages"].as_array().context("no packages in `cargo metadata`")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(own) = short_name(name) else { continue };
        let Some(allowed) = allowed(own) else {
            writeln!(
                faults,
                "crate `{name}` is in no row of the table in xtask/src/check/arrows.rs: add it there"
            )?;
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_for_tests = dependency["kind"] == "dev";
            match short_name(used) {
                Some(short) if !is_for_tests && !allowed.contains(short) && !allowed.contains("*") => {
                    writeln!(faults, "`{name}` must not use `{used}`: the arrow points the other way")?;
                }
                None if PURE.contains(&own) && IMPURE_DEPENDENCIES.contains(&used) && !is_for_tests => {
                    writeln!(faults, "`{name}` is pure and must not use `{used}`")?;
                }
                _ => {}
            }
        }
    }
    Ok(faults)
}

/// The row of a crate, completed by what everybody may use.
fn allowed(own: &str) -> Option<BTreeSet<&'static str>> {
    let (_, row) = ARROWS.iter().find(|(name, _)| *name == own)?;
    let mut allowed: BTreeSet<&str> = row.iter().copied().collect();
    allowed.insert("model");
    if !PURE.contains(&own) {
        allowed.insert("process");
    }
    Some(allowed)
}

/// `edgewright-plan` → `plan`, `edgewright` → ``, others none.
fn short_name(package: &str) -> Option<&str> {
    package.strip_prefix("edgewright").map(|rest| rest.strip_prefix('-').unwrap_or(rest))
}

/// One line per forbidden word in the sources of a pure crate, up to their tests.
fn word_faults() -> anyhow::Result<String> {
    let mut faults = String::new();
    for path in rust_files()? {
        let name = workspace::shown(&path);
        let is_pure = PURE.iter().any(|own| name.starts_with(&format!("crates/{own}/src/")));
        if !is_pure || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE_WORDS.into_iter().filter(|word| has_word(code, word)) {
                writeln!(faults, "{name}:{}: a pure crate must not say `{word}`", number + 1)?;
            }
        }
    }
    Ok(faults)
}

/// Whether the text contains the word, not only as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata with one package that uses one other.
    fn one(name: &str, used: &str, kind: Option<&str>) -> Value {
        serde_json::json!({"packages": [{"name": name, "dependencies": [{"name": used, "kind": kind}]}]})
    }

    #[test]
    fn the_workspace_keeps_its_arrows() {
        check().unwrap();
    }

    #[test]
    fn upward_arrows_and_impure_dependencies_are_found() {
        for (name, used, kind) in [
            ("edgewright-oci", "edgewright-registry", None),
            ("edgewright-model", "edgewright-plan", None),
            ("edgewright-plan", "edgewright-process", None),
            ("edgewright-lab", "edgewright-build", None),
            ("edgewright-build", "edgewright", None),
            ("edgewright-model", "edgewright-plan", Some("build")),
            ("edgewright-plan", "tokio", None),
            ("edgewright-unheard-of", "serde", None),
        ] {
            assert_ne!(dependency_faults(&one(name, used, kind)).unwrap(), "", "{name} -> {used}");
        }
    }

    #[test]
    fn downward_arrows_and_those_of_tests_are_allowed() {
        for (name, used, kind) in [
            ("edgewright-registry", "edgewright-blobs", None),
            ("edgewright-source", "edgewright-process", None),
            ("edgewright", "edgewright-server", None),
            ("edgewright-build", "edgewright-registry", Some("dev")),
            ("edgewright-oci", "tokio", None),
            ("xtask", "edgewright-model", None),
        ] {
            assert_eq!(dependency_faults(&one(name, used, kind)).unwrap(), "", "{name} -> {used}");
        }
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("use std::fs;", "std::fs"));
        assert!(has_word("std::fs::read(x)", "std::fs"));
        assert!(!has_word("std::fss", "std::fs"));
        assert!(!has_word("MyInstant", "Instant"));
    }
}
