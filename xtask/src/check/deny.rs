//! Licences, bans and sources of dependencies, by cargo-deny; the rules are in `deny.toml`.
//!
//! Advisories need a clone of the RustSec database, so they are a command of their own: `cargo deny check
//! advisories`.

use std::path::PathBuf;

use crate::command::Run;
use crate::workspace;

/// What `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Checks the whole workspace, with all features.
pub(super) fn check() -> anyhow::Result<()> {
    let program = installed()?;
    Run::new(program)
        .args([
            "--locked",
            "--all-features",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ])
        .cwd(workspace::root())
        .run()
}

/// Builds cargo-deny into the cache folder once. Unoptimised: that takes a third of the time, and it runs for
/// a second.
fn installed() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("cargo-deny").join(VERSION);
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        println!("check: building cargo-deny {VERSION} once, a minute or two");
        Run::new("cargo")
            .args(["install", "--quiet", "--locked", "--force", "--debug", "--no-default-features"])
            .args(["--version", VERSION, "cargo-deny", "--root"])
            .arg(&folder)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .run()?;
    }
    Ok(program)
}
