//! cargo-nextest, the runner that `.config/nextest.toml` configures: the machine's, or one of a fixed version
//! in the cache.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{Run, is_installed};
use crate::workspace;

/// What `.config/nextest.toml` is tried with.
const VERSION: &str = "0.9.148";

/// The runner, if there is one.
pub(super) fn installed() -> anyhow::Result<Option<PathBuf>> {
    if is_installed("cargo-nextest") {
        return Ok(Some("cargo-nextest".into()));
    }
    Ok(Some(folder()?.join("bin/cargo-nextest")).filter(|program| program.is_file()))
}

/// Builds the runner into the cache once. Unoptimised: it waits for the tests most of the time.
pub(crate) fn install() -> anyhow::Result<()> {
    if installed()?.is_some() {
        return Ok(());
    }
    println!("setup: building cargo-nextest {VERSION} once, two to three minutes on two cores");
    Run::new("cargo")
        .args(["install", "--quiet", "--locked", "--force", "--debug", "--no-default-features"])
        .args(["--features", "default-no-update", "--version", VERSION, "cargo-nextest", "--root"])
        .arg(folder()?)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .run()
        .context("cannot build cargo-nextest")
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::cache()?.join("tools").join(format!("nextest-{VERSION}")))
}
