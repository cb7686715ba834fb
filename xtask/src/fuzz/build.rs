//! The programs of fuzz targets: instrumented for coverage, in a target folder of their own.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::command::{Run, is_installed};
use crate::test::{host, shown};
use crate::workspace;

/// LLVM's coverage for libFuzzer: what cargo-fuzz asks for with `--sanitizer none`, on any toolchain.
const FLAGS: [&str; 7] = [
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// The folder of all that fuzzing makes.
pub(super) fn folder() -> PathBuf {
    workspace::target().join("fuzz")
}

/// Builds the programs of all targets; their folder.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    if !is_installed("c++") {
        bail!("cannot build fuzz targets: libFuzzer needs a C++ compiler; run `cargo xtask setup`");
    }
    println!("fuzz: building the targets");
    let started = Instant::now();
    let host = host()?;
    // The same programs in every folder: where code is in them decides a little what is tried.
    let remapped = format!("--remap-path-prefix={}=/edgewright", workspace::root().display());
    let flags = [&FLAGS[..], &[&remapped]].concat();
    // With a target triple, build scripts and macros are not instrumented.
    Run::new("cargo")
        .args(["build", "--quiet", "--locked", "--package", "edgewright-fuzz", "--bins"])
        .args(["--features", "libfuzzer", "--profile", "fuzz", "--target", &host, "--target-dir"])
        .arg(folder())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .cwd(workspace::root())
        .run()
        .context("the fuzz targets do not compile")?;
    println!("fuzz: built in {}", shown(started.elapsed()));
    Ok(folder().join(host).join("fuzz"))
}
