//! Times inside a running server, from the moment at which the poller is woken.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use super::server::Server;
use super::{clear, sample};
use crate::bench::measure::Cost;
use crate::bench::report::median;
use crate::command::Run;

/// Sites and images of (a): 100 × 10 variants.
const SITES: usize = 100;
const IMAGES: usize = 10;
/// Commits measured.
const COMMITS: usize = 5;

/// (a) Milliseconds from the wake-up to the end of a run that has nothing to do.
pub(super) fn unrelated_commit(edgewright: &Path, root: &Path) -> anyhow::Result<f64> {
    let root = root.join("thousand");
    clear(&root)?;
    let source = root.join("source");
    thousand(&source)?;
    let (server, mut watch) = Server::start(edgewright, &root, &source)?;
    watch.until_passed(1)?;
    let mut times = Vec::new();
    for number in 0..COMMITS {
        std::fs::write(source.join("README.md"), number.to_string())?;
        sample::commit(&source, "words")?;
        let began = Instant::now();
        server.poll()?;
        watch.until_passed(number + 2)?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    drop(server);
    clear(&root)?;
    println!(
        "(a) {SITES} sites × {IMAGES} images, a commit that changes no image: decided after {times:.0?} ms"
    );
    Ok(median(&times))
}

/// What one round of ours cost.
pub(super) struct OurRound {
    pub(super) first: Cost,
    pub(super) site: Cost,
    /// (b) From the wake-up until the changed site's manifests were read by tag, once the run was over.
    pub(super) readable_ms: f64,
}

/// (b), (c) From nothing to the end of a first build with tests; then, without tests, one site's change.
pub(super) fn round(edgewright: &Path, root: &Path) -> anyhow::Result<OurRound> {
    clear(root)?;
    let source = root.join("source");
    sample::write(&source)?;
    let began = Instant::now();
    let (server, mut watch) = Server::start(edgewright, root, &source)?;
    watch.until_passed(1)?;
    let first = Cost { wall: began.elapsed().as_secs_f64(), cpu: server.cpu()? };

    sample::without_tests(&source)?;
    server.poll()?;
    watch.until_passed(2)?;

    let (before, cpu) = (server.digests()?, server.cpu()?);
    sample::change_site(&source, "changed")?;
    let began = Instant::now();
    server.poll()?;
    watch.until_passed(3)?;
    let site = Cost { wall: began.elapsed().as_secs_f64(), cpu: server.cpu()? - cpu };
    let after = server.digests()?;
    let readable_ms = began.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(after.iter().zip(&before).all(|(now, before)| now != before), "a tag did not move");
    drop(server);
    clear(root)?;
    Ok(OurRound { first, site, readable_ms })
}

/// A source of files-only images: what is measured does not depend on their size.
fn thousand(source: &Path) -> anyhow::Result<()> {
    let write = |path: String, text: &str| -> anyhow::Result<()> {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().context("a path has a folder")?)?;
        Ok(std::fs::write(path, text)?)
    };
    write("edgewright.yaml".into(), "edgewright: 1\nname: thousand\n")?;
    let mut slots = String::from("slots:\n");
    for image in 0..IMAGES {
        let yaml = "from: scratch\nper: site\nsteps: [{files: files/}]\ntest: none\n";
        write(format!("images/role-{image}/image.yaml"), yaml)?;
        write(format!("images/role-{image}/files/etc/role"), &image.to_string())?;
        writeln!(slots, "  - {{id: slot-{image}, image: role-{image}}}")?;
    }
    for site in 0..SITES {
        write(format!("sites/site-{site}/site.yaml"), &format!("id: site-{site}\n{slots}"))?;
        write(format!("sites/site-{site}/files/etc/site"), &site.to_string())?;
    }
    Run::new("git").args(["init", "--quiet", "--initial-branch=main"]).arg(source).run()?;
    sample::commit(source, "first")
}
