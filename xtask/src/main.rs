//! Developer commands: `cargo xtask setup|check|test|generate|demo|bench`.
//!
//! This is the first thing that a fresh machine compiles, so it has few dependencies and knows no other crate of the workspace.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "developer commands talk to a terminal")]

mod bench;
mod check;
mod command;
mod demo;
mod generate;
mod json_documents;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "\
Developer commands of Edgewright.

Usage: cargo xtask COMMAND

Commands:
  setup         install the programs that tests and demo need (Debian; asks sudo where not root)
  check [STEP…] format, words, files, modules, documents, references, crate-arrows, module-arrows, blocking, clippy,
                generated, dependencies; without a step, all of them
  test [WHAT]   all tests, with real tools; WHAT is `unit` or `tools` for a part
  generate      write the files that follow from the code: docs/cli.md
  demo          a source, a server, a green run, a change, a refused change: about 5 minutes
  bench [NAME]  measure; without a name, list what there is";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["setup"] => setup::run().and_then(|()| setup::clients()),
        ["check", steps @ ..] => check::run(steps),
        ["test"] => test::run(test::Part::ALL),
        ["test", "unit"] => test::run(&[test::Part::Unit]),
        ["test", "tools"] => test::run(&[test::Part::Tools]),
        ["generate"] => generate::write(),
        ["demo"] => demo::run(),
        ["bench"] => {
            bench::list();
            Ok(())
        }
        ["bench", name] => bench::run(name),
        [] | ["help" | "--help" | "-h", ..] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown command: {}\n\n{USAGE}", words.join(" ")),
    }
}
