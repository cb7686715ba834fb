//! `check`: all that can be said about the code without running its tests. Every step runs, then the failed ones are named.

mod arrows;
mod blocking;
mod deny;
mod docs;
mod files;
#[cfg(test)]
mod lints;
mod module_arrows;
mod modules;
mod references;
mod syntax;

use std::time::Instant;

use anyhow::bail;

use crate::command::Run;
use crate::test::shown;
use crate::{generate, workspace};

type Step = (&'static str, fn() -> anyhow::Result<()>);

/// Quick ones first, so that a typo is not answered after minutes.
const STEPS: [Step; 11] = [
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("file rules", files::check),
    ("module files", modules::check),
    ("documents", docs::check),
    ("references", references::check),
    ("crate arrows", arrows::check),
    ("module arrows", module_arrows::check),
    ("blocking calls in async code", blocking::check),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
    ("generated files", generate::check),
    ("licences, bans and sources of dependencies", deny::check),
];

/// Runs every step.
pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let began = Instant::now();
        let outcome = step();
        let took = shown(began.elapsed());
        match outcome {
            Ok(()) => println!("check: {name}: ok ({took})"),
            Err(error) => {
                println!("check: {name}: FAILED ({took})\n{error:#}");
                failed.push(name);
            }
        }
    }
    println!("check: done in {}", shown(started.elapsed()));
    if failed.is_empty() { Ok(()) } else { bail!("check failed: {}", failed.join(", ")) }
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    Run::new("cargo").args(arguments).cwd(workspace::root()).run()
}
