//! A server under measurement: started, woken, asked, and its CPU time read.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::command::Run;
use crate::http::Peer;
use crate::setup;

/// How long a run may take.
const LIMIT: Duration = Duration::from_mins(20);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// The kernel's ticks per second in `/proc/PID/stat`: 100 on all of Linux's common platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running `edgewright serve`; it ends with this value.
pub(super) struct Server {
    child: Child,
    address: String,
    log: PathBuf,
    /// The file with the operator's token.
    token: PathBuf,
}

impl Server {
    /// Starts it on an empty data folder and follows its runs from its first response on.
    pub(super) fn start(edgewright: &Path, root: &Path, repository: &Path) -> anyhow::Result<(Self, Watch)> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let log = root.join("server.log");
        // The poll interval is out of the way: the bench wakes the poller as a webhook would.
        let child = Run::new(edgewright)
            .args(["serve", "--listen", &address, "--poll", "1h", "--data"])
            .arg(root.join("data"))
            .arg("--source")
            .arg(repository)
            .env("EDGEWRIGHT_TOOLS", setup::tool_image(edgewright)?)
            .start_logged(&log)?;
        let server = Self { child, address, log, token: root.join("data/operator-token") };
        for _ in 0..1500 {
            if let Ok(watch) = server.watch() {
                return Ok((server, watch));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server does not answer; see {}", server.log.display())
    }

    fn get(&self, path: &str) -> anyhow::Result<String> {
        self.ask("GET", path)
    }

    /// Wakes the poller, as a webhook would.
    pub(super) fn poll(&self) -> anyhow::Result<()> {
        // A source without a configured name has its folder's.
        self.ask("POST", "/api/v1/sources/source/poll").map(drop)
    }

    fn ask(&self, method: &str, path: &str) -> anyhow::Result<String> {
        self.peer().ask(method, path, ANSWER_WITHIN)
    }

    fn peer(&self) -> Peer<'_> {
        Peer { address: &self.address, token: &self.token }
    }

    /// Follows runs from now on: polling would take time from what is measured.
    fn watch(&self) -> anyhow::Result<Watch> {
        let events = self.peer().send("GET", "/api/v1/events", LIMIT)?;
        let mut watch = Watch { events: BufReader::new(events), log: self.log.clone() };
        let status = watch.line()?;
        if !status.contains(" 200 ") {
            bail!("events were answered with {status}");
        }
        Ok(watch)
    }

    /// CPU seconds of the server and of all jobs that ended.
    pub(super) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The program's name, in parentheses, may hold anything; fields count from behind it.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has a name in parentheses")?;
        let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    /// What the tags of plant-a's images answer.
    pub(super) fn digests(&self) -> anyhow::Result<Vec<String>> {
        ["hmi", "gateway"]
            .iter()
            .map(|role| self.get(&format!("/v2/bench/{role}/plant-a/manifests/stable")))
            .collect()
    }
}

/// The events of a server's runs.
pub(super) struct Watch {
    events: BufReader<TcpStream>,
    log: PathBuf,
}

impl Watch {
    /// Waits for the end of a run that had not ended when watching began; an error where it did not pass.
    pub(super) fn until_passed(&mut self, run: usize) -> anyhow::Result<()> {
        loop {
            let line = self.line()?;
            let Some(data) = line.strip_prefix("data:") else { continue };
            let moved: Value = serde_json::from_str(data)?;
            if moved["run"] == run {
                match moved["state"].as_str().unwrap_or_default() {
                    "passed" => return Ok(()),
                    "failed" | "cancelled" => bail!("run {run} did not pass; see {}", self.log.display()),
                    _ => {}
                }
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let length = self.events.read_line(&mut line).context("no event came in time")?;
        if length == 0 {
            bail!("the server ended; see {}", self.log.display());
        }
        Ok(line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = Run::new("kill").arg(self.child.id().to_string()).run();
        let _ = self.child.wait();
    }
}
