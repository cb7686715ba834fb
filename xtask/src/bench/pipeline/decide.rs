//! Times inside a running server, from the moment at which the poller is woken.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{clear, sample};
use crate::bench::report::median;
use crate::command::Run;

/// Sites and images of (a): 100 × 10 variants.
const SITES: usize = 100;
const IMAGES: usize = 10;
/// Commits measured.
const COMMITS: usize = 5;
/// How long a first build may take.
const LIMIT: Duration = Duration::from_mins(20);
/// How often we look.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// (a) Milliseconds from the wake-up to the end of a run that has nothing to do.
pub(super) fn unrelated_commit(edgewright: &Path, root: &Path) -> anyhow::Result<f64> {
    let root = root.join("thousand");
    clear(&root)?;
    let source = root.join("source");
    thousand(&source)?;
    let server = Server::start(edgewright, &root, &source)?;
    server.wait_for(1)?;
    let mut times = Vec::new();
    for number in 0..COMMITS {
        std::fs::write(source.join("README.md"), number.to_string())?;
        sample::commit(&source, "words")?;
        let began = Instant::now();
        server.poll()?;
        server.wait_for(number + 2)?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    drop(server);
    clear(&root)?;
    println!(
        "(a) {SITES} sites × {IMAGES} images, a commit that changes no image: decided after {times:.0?} ms"
    );
    Ok(median(&times))
}

/// (b) Milliseconds from the wake-up until the changed site's manifests can be read by tag.
pub(super) fn site_change(edgewright: &Path, root: &Path) -> anyhow::Result<f64> {
    let root = root.join("site");
    clear(&root)?;
    let source = root.join("source");
    sample::write(&source)?;
    sample::without_tests(&source)?;
    let server = Server::start(edgewright, &root, &source)?;
    server.wait_for(1)?;
    let mut times = Vec::new();
    for number in 0..COMMITS {
        let before = server.digests()?;
        sample::change_site(&source, &number.to_string())?;
        let began = Instant::now();
        server.poll()?;
        while server.digests()?.iter().zip(&before).any(|(now, before)| now == before) {
            if began.elapsed() > LIMIT {
                bail!("the site's images did not change");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        server.wait_for(number + 2)?;
    }
    drop(server);
    clear(&root)?;
    println!("(b) one site's change: readable after {times:.0?} ms");
    Ok(median(&times))
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

struct Server {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Server {
    fn start(edgewright: &Path, root: &Path, repository: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let log = root.join("server.log");
        // The poll interval is out of the way: the bench wakes the poller as a webhook would.
        let child = Run::new(edgewright)
            .args(["serve", "--listen", &address, "--poll", "1h", "--data"])
            .arg(root.join("data"))
            .arg("--source")
            .arg(repository)
            .start_logged(&log)?;
        let server = Self { child, address, log };
        for _ in 0..300 {
            if server.get("/readyz").is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the server does not answer; see {}", server.log.display())
    }

    fn get(&self, path: &str) -> anyhow::Result<String> {
        Run::new("curl").args(["-sf", &format!("http://{}{path}", self.address)]).output()
    }

    fn poll(&self) -> anyhow::Result<()> {
        // A source without a configured name has its folder's.
        let url = format!("http://{}/api/v1/sources/source/poll", self.address);
        Run::new("curl").args(["-sf", "-X", "POST", &url]).output().map(drop)
    }

    /// Waits for the end of a run; an error where it did not pass.
    fn wait_for(&self, run: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let runs: Value = serde_json::from_str(&self.get("/api/v1/runs?limit=1")?)?;
            let newest = &runs[0];
            if newest["number"] == run {
                match newest["state"].as_str().unwrap_or_default() {
                    "passed" => return Ok(()),
                    "failed" | "cancelled" => bail!("run {run} did not pass; see {}", self.log.display()),
                    _ => {}
                }
            }
            if Instant::now() > deadline {
                bail!("run {run} did not end; see {}", self.log.display());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// What the tags of plant-a's images answer.
    fn digests(&self) -> anyhow::Result<Vec<String>> {
        ["hmi", "gateway"]
            .iter()
            .map(|role| self.get(&format!("/v2/bench/{role}/plant-a/manifests/stable")))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = Run::new("kill").arg(self.child.id().to_string()).run();
        let _ = self.child.wait();
    }
}
