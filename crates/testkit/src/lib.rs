//! What a test needs from the machine: programs, root, examples of this workspace.
//!
//! A test whose needs are not met is skipped, with one line on standard error that no test runner captures.
//! With `EDGEWRIGHT_TESTS_REQUIRE` set, as `cargo xtask test` sets it, it fails instead.
//! `EDGEWRIGHT_TESTS_SKIPPED` names a file that gets a line for each skipped test.

pub mod bootc;
pub mod system;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes that do not compress, the same each time.
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// Whether these programs are installed; skips the test if not.
///
/// # Panics
/// If a program is missing and tests must not be skipped.
#[must_use]
pub fn has(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| program(name).is_none()).collect();
    missing.is_empty() || skip(&format!("needs {}: run `cargo xtask setup`", missing.join(", ")))
}

/// Whether the condition holds; skips the test if not, with what it needs.
///
/// # Panics
/// If it does not hold and tests must not be skipped.
#[must_use]
pub fn has_if(condition: bool, need: &str) -> bool {
    condition || skip(&format!("needs {need}"))
}

/// Whether this process is root and the programs are installed, as for containers; skips the test if not.
///
/// # Panics
/// If it is not and tests must not be skipped.
#[must_use]
pub fn has_as_root(programs: &[&str]) -> bool {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    has(programs) && has_if(is_root, "root: run it by `cargo xtask test tools`, which asks sudo")
}

/// An installed program. Debian keeps some in folders that are not on the `PATH` of ordinary users.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The tool image of sandboxes that `cargo xtask test` made, if this process is root; skips the test if not.
///
/// # Panics
/// If it is missing and tests must not be skipped.
#[must_use]
pub fn tool_image() -> Option<PathBuf> {
    let folder = variable("EDGEWRIGHT_TOOLS").map(PathBuf::from);
    let need = "a tool image: `edgewright tools update --tools DIR`, EDGEWRIGHT_TOOLS=DIR";
    let is_there = has_as_root(&[]) && has_if(folder.is_some(), need);
    folder.filter(|_| is_there)
}

/// The folder of the tool image for commands under test, as the variable that names it: the image that
/// `cargo xtask test` made, or the one of this machine, which the first sandboxed job makes.
#[must_use]
pub fn tools() -> (&'static str, PathBuf) {
    let folder =
        variable("EDGEWRIGHT_TOOLS").map_or_else(|| "/var/cache/edgewright/tools".into(), PathBuf::from);
    ("EDGEWRIGHT_TOOLS", folder)
}

/// oras: `EDGEWRIGHT_TESTS_ORAS`, the machine's, or what `cargo xtask setup` put into the cache. Skips the
/// test if it is none.
///
/// # Panics
/// If it is missing and tests must not be skipped.
#[must_use]
pub fn oras() -> Option<PathBuf> {
    let named = variable("EDGEWRIGHT_TESTS_ORAS").map(PathBuf::from);
    let cached = || cache().map(|cache| cache.join("edgewright/oras/trixie/usr/bin/oras"));
    let found = named.or_else(|| program("oras")).or_else(|| cached().filter(|file| file.is_file()));
    if found.is_none() {
        let _ = has(&["oras"]);
    }
    found
}

/// Builds an example of the workspace and gives its program: `cargo test --test NAME` alone does not build
/// it.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built("--example", name).join("examples").join(name)
}

/// Builds a program of another package and gives it: cargo names only those of the own package to a test.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    built("--bin", name).join(name)
}

/// Builds a target of the workspace; gives the folder of what was built.
fn built(kind: &str, name: &str) -> PathBuf {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    #[expect(clippy::disallowed_methods, reason = "testkit has no async runtime")]
    let mut command = Command::new(cargo);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    // Of the workspace: with the features of `cargo xtask test`, which has built it then.
    command.args(["build", "--quiet", "--locked", "--manifest-path", manifest, "--workspace"]);
    let status = command.args([kind, name]).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot build `{name}`");
    // `target/debug/deps/TEST-HASH` is this program.
    let test = std::env::current_exe().expect("a running program has a path");
    test.ancestors().nth(2).unwrap_or(Path::new("target/debug")).to_owned()
}

/// A variable that people set to steer a test, such as a seed.
#[must_use]
pub fn setting(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// Skips the running test; always false.
fn skip(reason: &str) -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(variable("EDGEWRIGHT_TESTS_REQUIRE").is_none(), "{test} {reason}");
    let line = format!("SKIPPED: {test}: {reason}\n");
    // Not by `eprintln!`, which libtest hides where a test passes.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = variable("EDGEWRIGHT_TESTS_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
    false
}

fn cache() -> Option<PathBuf> {
    let own = variable("XDG_CACHE_HOME").map(PathBuf::from);
    own.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))
}

#[expect(clippy::disallowed_methods, reason = "the switches of `cargo xtask test`")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        assert!(program("sh").is_some());
        assert!(program("no-such-program").is_none());
        assert!(has(&["sh"]) && has_if(true, "nothing"));
    }
}
