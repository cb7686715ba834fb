//! A server of this host whose jobs run in the cluster.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::world::until;
use crate::command::Run;
use crate::http::Peer;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a server may take to end, and an answer to come.
const LIMIT: Duration = Duration::from_mins(1);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 20;

/// A running `edgewright serve`; it is killed with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: String,
    token: PathBuf,
    log: PathBuf,
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// As a service manager stops it.
    Term,
    /// As the kernel, or a power cut, ends it.
    Kill,
}

impl Server {
    /// Starts it, and waits until it answers. It ends with the thread that starts it, however that ends.
    pub(super) fn start(
        program: &Path,
        settings: &Path,
        (address, token, log): (&str, PathBuf, PathBuf),
    ) -> anyhow::Result<Self> {
        let child = Run::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(["serve", "--config"])
            .arg(settings)
            .start_logged(&log)?;
        let mut server = Self { child, address: address.to_owned(), token, log };
        until("the server answers", START_LIMIT, || {
            server.must_live()?;
            Ok(server.peer().ask("GET", "/readyz", LIMIT).is_ok())
        })
        .with_context(|| server.tail())?;
        Ok(server)
    }

    fn peer(&self) -> Peer<'_> {
        Peer { address: &self.address, token: &self.token }
    }

    /// The response to a request.
    pub(crate) fn ask(&self, method: &str, path: &str) -> anyhow::Result<String> {
        self.peer().ask(method, path, LIMIT)
    }

    /// A document.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let text = self.ask("GET", path)?;
        serde_json::from_str(&text).with_context(|| format!("the response of {path} is no JSON"))
    }

    /// An error, with the end of its output, if it has ended.
    pub(super) fn must_live(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended with {status}; {}", self.tail()),
        }
    }

    /// Ends it, and waits for that.
    pub(super) fn end(mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        if signal == Signal::Kill {
            self.child.kill()?;
            return Ok(self.child.wait()?);
        }
        Run::new("kill").args(["-TERM", &self.child.id().to_string()]).run()?;
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server does not stop; {}", self.tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The end of its output.
    pub(super) fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("the end of {}:\n{tail}", self.log.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
