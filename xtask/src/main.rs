//! Developer commands: `cargo xtask setup|check|test|fuzz|generate|dist|image|demo|e2e|cluster|sim|bench`.
//!
//! This is the first program that a fresh machine compiles, so it has few dependencies and uses no other
//! crate of the workspace.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "developer commands talk to a terminal")]

mod bench;
mod check;
mod cluster;
mod command;
mod demo;
mod dist;
mod e2e;
mod fuzz;
mod generate;
mod http;
mod image;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "\
Developer commands of Edgewright.

Usage: cargo xtask COMMAND

Commands:
  setup         install the programs that tests and demo need (Debian; by sudo if not root)
  check [STEP…] format, words, files, modules, documents, references, crate-arrows, module-arrows, blocking, clippy,
                generated, dependencies; without a step, all of them
  test          run all tests, with real tools, then all fuzz targets; installs what they need
  test unit [FILTER]
                run unit tests: no root, no tools, nothing is installed
  test tools [FILTER]
                run the tests with real tools; FILTER is a part of a test's name
  test docs [FILTER]
                run the examples in documentation
  fuzz [TARGET…] [--seconds N | --seed N] [--keep]
                run fuzz targets, 60 seconds each; --seed repeats a search of as many inputs each time;
                --keep adds inputs that cover more to fuzz/corpus
  generate [PAGE…]
                write the generated pages of docs/reference, such as settings.md, and the chart of deploy/helm
  dist [image-parts]
                make a Debian package and a tarball, and the parts of device images with their programs, in target/dist
  image [--check] [--push REF]
                build Edgewright's own OCI image with Edgewright, into target/dist or a registry: about 3 minutes;
                --check: build it again from nothing, and compare; more options: docs/how-to/container-image.md
  demo          show a source, a server, a run, a change, and a change that fails: about 5 minutes
  demo --device show a device that takes an update and returns from a bad one: about 10 minutes
  demo --cluster
                show a source whose jobs run in a Kubernetes of this machine: about 4 minutes, the first time 15
  e2e device [--all]
                provision a device in a virtual machine, update it, break it, cut its power: about 15 minutes; --all: more ways
  e2e cuts [--count N] [--seed N]
                update a device in a virtual machine, and cut its power at N points (3): about 6 minutes, and a minute or
                two for each point
  e2e lanes     update a device by the lanes of runs: upgrade, rollback, downgrade, switch: about 25 minutes
  e2e rollout   a virtual machine takes rollouts, and is rolled back: about 15 minutes
  e2e stick     install a virtual machine from a USB stick, and start it: about 7 minutes
  e2e cluster [SCENARIO…]
                jobs on a real Kubernetes with Tekton, and what goes wrong there: about 4 minutes; --list: all scenarios
  cluster COMMAND
                a Kubernetes of this machine's own, with Tekton and KubeVirt: `cargo xtask cluster` lists the commands
  sim [--devices N] [--runs N] [--seed N]
                simulate rollouts with the engine that ships: about a minute with 10,000 devices
  bench [NAME]  run a measurement; without a name, list all";

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
        ["setup"] => setup::run().and_then(|()| setup::clients()).and_then(|()| test::nextest::install()),
        ["check", steps @ ..] => check::run(steps),
        ["test"] => test::run(test::Part::ALL, None).and_then(|()| fuzz::run(&["--seed", fuzz::CI_SEED])),
        ["test", part, filter @ ..] if filter.len() < 2 => {
            test::run(&[test_part(part)?], filter.first().copied())
        }
        ["fuzz", arguments @ ..] => fuzz::run(arguments),
        ["generate", pages @ ..] => generate::write(pages),
        ["dist", options @ ..] => dist::run(options),
        ["image", options @ ..] => image::run(options),
        ["demo"] => demo::run(),
        ["demo", "--device"] => e2e::demo(),
        ["demo", "--cluster"] => demo::cluster::run(),
        ["e2e", "device", options @ ..] => e2e::device(options),
        ["e2e", "cuts", options @ ..] => e2e::cuts(options),
        ["e2e", "lanes"] => e2e::lanes(),
        ["e2e", "rollout"] => e2e::rollout(),
        ["e2e", "stick"] => e2e::stick(),
        ["e2e", "cluster", options @ ..] => e2e::cluster::run(options),
        ["cluster", arguments @ ..] => cluster::run(arguments),
        ["sim", options @ ..] => bench::sim(options),
        ["bench"] => {
            bench::list();
            Ok(())
        }
        ["bench", name, parts @ ..] => bench::run(name, parts),
        [] | ["help" | "--help" | "-h", ..] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown command: {}\n\n{USAGE}", words.join(" ")),
    }
}

fn test_part(name: &str) -> anyhow::Result<test::Part> {
    Ok(match name {
        "unit" => test::Part::Unit,
        "tools" => test::Part::Tools,
        "docs" => test::Part::Docs,
        _ => bail!("unknown part of the tests `{name}`: write unit, tools or docs"),
    })
}
