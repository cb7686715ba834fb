//! Builds the static programs that are brought into machines, and puts them where the command embeds them:
//! `OUT_DIR/edgewright-checks`, `OUT_DIR/edgewright-guest`.
//!
//! It is a cargo in a cargo. The inner one has its own target folder, so that it never waits for the outer
//! one's lock, and none of the outer one's settings: `cargo clippy` must not lint here, `cargo test` must not
//! profile.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs: the check runner, and what is brought into virtual machines.
const BINARIES: [&str; 2] = ["edgewright-checks", "edgewright-guest"];

/// What the runner is made of, below the workspace's root.
const INPUTS: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "crates/checks/Cargo.toml",
    "crates/checks/src",
    "crates/guest/Cargo.toml",
    "crates/guest/src",
    "crates/model/Cargo.toml",
    "crates/model/src",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root =
        manifest.ancestors().nth(2).ok_or("crates/cli is not two folders below the workspace's root")?;
    let target = variable("TARGET")?.into_string().map_err(|_| "TARGET is not text")?;
    for input in INPUTS {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo:rerun-if-changed=build.rs");

    let folder = target_folder(&out, root).join("runner");
    build(root, &folder, &target)?;
    for binary in BINARIES {
        let built = folder.join(&target).join("runner").join(binary);
        fs::copy(&built, out.join(binary))
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "cargo talks to build scripts through the environment")]
fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

/// The outer target folder: it holds `OUT_DIR` and, since cargo marks it, a `CACHEDIR.TAG`.
fn target_folder(out: &Path, root: &Path) -> PathBuf {
    let marked = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| root.join("target"), Path::to_path_buf)
}

#[expect(clippy::disallowed_methods, reason = "a build script has no async runtime")]
fn build(root: &Path, folder: &Path, target: &str) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--profile", "runner"])
        .args(BINARIES.iter().flat_map(|binary| ["--package", binary, "--bin", binary]))
        .args(["--target", target])
        .arg("--target-dir")
        .arg(folder);
    for (name, _) in env::vars_os() {
        if !is_kept(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo could not build {BINARIES:?} for {target}: {status}; its messages are above")
            .into())
    }
}

/// Whether a variable is the user's (a proxy, a mirror, a linker) and not of the outer build.
fn is_kept(name: &str) -> bool {
    let outer = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PROFILE_",
        "DEP_",
        "CLIPPY_",
    ];
    let exact = [
        "CARGO",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "DEBUG",
        "HOST",
        "LLVM_PROFILE_FILE",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
    ];
    !exact.contains(&name) && !outer.iter().any(|prefix| name.starts_with(prefix))
}
