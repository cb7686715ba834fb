//! `check`: all rules that can be checked without running tests. Every step runs, then the failed ones are
//! named.

mod arrows;
mod blocking;
mod columns;
mod deny;
mod docs;
mod files;
#[cfg(test)]
mod lints;
mod module_arrows;
mod modules;
mod references;
mod syntax;
mod words;

use std::time::Instant;

use anyhow::bail;

use crate::command::Run;
use crate::test::shown;
use crate::{generate, workspace};

type Step = (&'static str, fn() -> anyhow::Result<()>);

/// Quick ones first: a typo is reported after seconds, not minutes.
const STEPS: [Step; 12] = [
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("words", words::check),
    ("files", files::check),
    ("modules", modules::check),
    ("documents", docs::check),
    ("references", references::check),
    ("crate-arrows", arrows::check),
    ("module-arrows", module_arrows::check),
    ("blocking", blocking::check),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
    ("generated", generate::check),
    ("dependencies", deny::check),
];

/// Runs the named steps, or all of them.
pub(crate) fn run(names: &[&str]) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut failed = Vec::new();
    for (name, step) in selected(names)? {
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

fn selected(names: &[&str]) -> anyhow::Result<Vec<Step>> {
    let is_step = |name: &str| STEPS.iter().any(|(step, _)| *step == name);
    if let Some(unknown) = names.iter().find(|name| !is_step(name)) {
        bail!("unknown step `{unknown}`: write one of {}", STEPS.map(|(name, _)| name).join(", "));
    }
    Ok(STEPS.into_iter().filter(|(name, _)| names.is_empty() || names.contains(name)).collect())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    Run::new("cargo").args(arguments).cwd(workspace::root()).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_selected_by_name() {
        let names = |arguments: &[&str]| {
            selected(arguments).map(|steps| steps.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
        assert_eq!(names(&["files", "words"]).unwrap(), ["words", "files"]);
        assert!(names(&["word"]).unwrap_err().to_string().contains("unknown step `word`"));
    }
}
