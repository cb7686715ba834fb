//! `image`: Edgewright's own OCI image, built and tested by Edgewright from the source in `deploy/image`, as
//! an OCI archive in `target/dist` or in a registry.
//!
//! ```text
//! deploy/image ──┐ copy, with the program          edgewright run           edgewright serve, skopeo
//! edgewright ────┴─────────────▶ target/image/source ───────▶ target/image/data ───────▶ target/dist/….tar
//!                                  edgewright.lock ◀───────────── versions of the packages
//! ```
//!
//! Commit, lock and compiler decide about every byte. The lock of an image is beside it in `target/dist`:
//! with it, the same commit gives the same digest later, as long as Debian's mirrors have the packages.

mod build;
mod export;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use self::build::{Built, Place};
use self::export::Registry;
use crate::{dist, setup, workspace};

/// What is made, and from what.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// Compile without optimisation: for tests.
    is_dev: bool,
    /// A program that exists already; otherwise it is compiled.
    binary: Option<PathBuf>,
    /// A lock with the versions of packages; otherwise those of the image before, or the newest.
    lock: Option<PathBuf>,
    /// Take the newest packages.
    is_update: bool,
    /// Build it a second time from nothing, and compare.
    is_checked: bool,
    /// The reference to push it to, in place of an archive.
    push: Option<String>,
    /// That registry has no TLS.
    is_plain_http: bool,
    out: PathBuf,
}

impl Options {
    fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            is_dev: false,
            binary: None,
            lock: None,
            is_update: false,
            is_checked: false,
            push: None,
            is_plain_http: false,
            out: workspace::target().join("dist"),
        };
        let mut rest = arguments;
        loop {
            rest = match *rest {
                [] => break,
                ["--check", ref rest @ ..] => {
                    options.is_checked = true;
                    rest
                }
                ["--update", ref rest @ ..] => {
                    options.is_update = true;
                    rest
                }
                ["--plain-http", ref rest @ ..] => {
                    options.is_plain_http = true;
                    rest
                }
                ["--profile", profile @ ("dev" | "release"), ref rest @ ..] => {
                    options.is_dev = profile == "dev";
                    rest
                }
                ["--binary", file, ref rest @ ..] => {
                    options.binary = Some(file.into());
                    rest
                }
                ["--lock", file, ref rest @ ..] => {
                    options.lock = Some(file.into());
                    rest
                }
                ["--push", reference, ref rest @ ..] => {
                    options.push = Some(reference.to_owned());
                    rest
                }
                ["--out", folder, ref rest @ ..] => {
                    options.out = folder.into();
                    rest
                }
                _ => bail!(
                    "invalid arguments of image: `{}`; want --check, --update, --lock FILE, --push REF, \
                     --plain-http, --profile release|dev, --binary FILE, --out DIR",
                    rest.join(" ")
                ),
            };
        }
        ensure!(
            !(options.is_update && options.lock.is_some()),
            "--update takes the newest packages, and --lock those of a file: leave out one of them"
        );
        Ok(options)
    }
}

/// Makes the image, and prints where it is and its digest.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    setup::run()?;
    let program = match &options.binary {
        Some(binary) => binary.clone(),
        None => dist::compile(options.is_dev)?,
    };
    let place = Place::prepare(workspace::target().join("image"), &program)?;
    if let Some(lock) = &options.lock {
        place.use_lock(lock)?;
    } else {
        place.lock(options.is_update)?;
    }
    place.commit()?;
    let built = place.build("data")?;
    println!("image: {}", built.digest);
    if options.is_checked {
        check(&place, &built)?;
    }
    let registry = Registry::start(&place, &built)?;
    if let Some(reference) = &options.push {
        registry.push(reference, options.is_plain_http)?;
        println!("image: {reference}@{}", built.digest);
        return Ok(());
    }
    let name = format!("edgewright-image-{}", env!("CARGO_PKG_VERSION"));
    let archive = registry.archive(&options.out.join(format!("{name}.tar")))?;
    place.keep_lock(&options.out.join(format!("{name}.lock")))?;
    println!("image: {}", workspace::shown(&archive));
    Ok(())
}

/// The most bytes that [`publish`] keeps of earlier images.
const KEPT_LIMIT: u64 = 8 << 30;

/// Builds and tests the image of a program, and pushes it to a registry without TLS. Packages are those
/// of the image before, from the cache folder, if a checkout with the same schemas made it. Gives the digest.
pub(crate) fn publish(program: &Path, reference: &str) -> anyhow::Result<String> {
    let schemas = workspace::fingerprint(&workspace::SCHEMAS, None)?;
    let root = workspace::cache()?.join(format!("image-{schemas:016x}"));
    std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    // The kernel releases it, however this process ends.
    let lock = File::create(root.join("lock"))?;
    lock.lock()?;
    let place = Place::prepare(root, program)?;
    place.clear_above("data", KEPT_LIMIT)?;
    place.lock(false)?;
    place.commit()?;
    let built = place.build("data")?;
    Registry::start(&place, &built)?.push(reference, true)?;
    Ok(built.digest)
}

/// Builds it again, with nothing of the first time but its source and its lock.
fn check(place: &Place, built: &Built) -> anyhow::Result<()> {
    println!("image: building it again, to compare");
    place.clear("again")?;
    let again = place.build("again")?;
    ensure!(
        again.digest == built.digest,
        "the image is not reproducible: {} and {}; compare the layers in {} and {}",
        built.digest,
        again.digest,
        built.data.display(),
        again.data.display()
    );
    place.clear("again")?;
    println!("image: reproducible: two builds have the same digest");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_in_any_order() {
        let none = Options::parse(&[]).unwrap();
        assert_eq!((none.is_checked, none.is_dev, none.push.as_deref()), (false, false, None));
        let words = ["--push", "r.example/edgewright:1", "--check", "--profile", "dev", "--lock", "a.lock"];
        let options = Options::parse(&words).unwrap();
        assert_eq!((options.is_checked, options.is_dev), (true, true));
        assert_eq!(options.push.as_deref(), Some("r.example/edgewright:1"));
        assert_eq!(options.lock.as_deref(), Some("a.lock".as_ref()));
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_it() {
        for wrong in [&["--push"][..], &["--profile", "test"], &["x"], &["--update", "--lock", "a"]] {
            let error = Options::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong[0]), "{error}");
        }
    }
}
