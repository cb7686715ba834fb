//! The server under demonstration: a child of ours on a free port, asked through the command line like a user
//! would.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::place::Place;
use super::story::Story;
use crate::command::Run;

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often we look whether a run got further.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    place: &'a Place,
    program: PathBuf,
    tools: PathBuf,
    child: Child,
    /// `127.0.0.1:PORT`: API and registry.
    pub(crate) address: String,
}

impl<'a> Server<'a> {
    /// Starts it on the demo's data folder, polling the demo's source every second.
    pub(crate) fn start(program: PathBuf, place: &'a Place, tools: &Path) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        // It must not outlive us, however we end.
        let child = Run::as_root("setpriv")?
            .args(["--pdeathsig", "TERM", "--"])
            .args(serve(&program, place, tools, &address))
            .start_logged(&place.log)?;
        std::fs::write(&place.pid, child.id().to_string())?;
        let mut server = Self { place, program, child, address, tools: tools.to_owned() };
        let deadline = Instant::now() + START_LIMIT;
        while !server.cli(&["status"]).succeeds() {
            server.must_live()?;
            if Instant::now() > deadline {
                bail!("the server does not respond at {}; {}", server.address, server.log_tail());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(server)
    }

    /// Its folders.
    pub(crate) const fn place(&self) -> &'a Place {
        self.place
    }

    /// The command line that starts this server again.
    pub(crate) fn command_line(&self) -> String {
        serve(&self.program, self.place, &self.tools, &self.address).join(" ")
    }

    /// The number of its process; with sudo, that of sudo's.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// A command of `edgewright` that asks this server.
    pub(crate) fn cli(&self, words: &[&str]) -> Run {
        Run::new(&self.program).args(words).args(["--server", &self.url()])
    }

    /// A command of the operator, whose token only the server's user may read.
    pub(crate) fn operator(&self, words: &[&str]) -> anyhow::Result<Run> {
        let command = Run::as_root(&self.program)?.args(words).args(["--server", &self.url()]);
        Ok(command.arg("--token-file").arg(self.place.data.join("operator-token")))
    }

    /// Its answer as data.
    pub(crate) fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        let command = self.cli(words).arg("--json");
        let line = command.line();
        serde_json::from_str(&command.answer()?).with_context(|| format!("`{line}` printed no JSON"))
    }

    /// The address for people and for `--server`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the run of a commit is over, showing its progress. Returns the document of `run show`.
    pub(crate) fn wait_for_run(
        &mut self,
        commit: &str,
        limit: Duration,
        story: &Story,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + limit;
        let mut shown = BTreeMap::new();
        loop {
            self.must_live()?;
            let runs = self.json(&["runs"])?;
            let run = runs["runs"].as_array().into_iter().flatten().find(|run| run["commit"] == commit);
            if let Some(number) = run.and_then(|run| run["number"].as_u64()) {
                let view = self.json(&["run", "show", &number.to_string()])?;
                show_changes(&view, &mut shown, story);
                if matches!(text(&view["state"]), "passed" | "failed" | "cancelled" | "superseded") {
                    return Ok(view);
                }
            }
            if Instant::now() > deadline {
                bail!("the run of commit {commit} did not end in {limit:?}; {}", self.log_tail());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn must_live(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended with {status}; {}", self.log_tail()),
        }
    }

    fn log_tail(&self) -> String {
        const SHOWN: usize = 15;
        let log = std::fs::read_to_string(&self.place.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        format!("the end of {}:\n{tail}", self.place.log.display())
    }

    /// Waits until it ends by itself: the user presses Ctrl-C, which reaches it, too.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.place.stop_server() {
            eprintln!("warning: the demo's server may still run: {error:#}");
        }
        // It has ended by now; this only takes the zombie away.
        self.child.wait().ok();
    }
}

/// The words of `edgewright serve`.
fn serve(program: &Path, place: &Place, tools: &Path, address: &str) -> Vec<String> {
    let source = format!("file://{}", place.source.display());
    let (program, data) = (program.display().to_string(), place.data.display().to_string());
    let tools = tools.display().to_string();
    let words = [
        "serve", "--data", &data, "--tools", &tools, "--listen", address, "--source", &source, "--poll", "1s",
    ];
    std::iter::once(program).chain(words.map(str::to_owned)).collect()
}

/// Prints each node's state once, when it changes.
fn show_changes(view: &Value, shown: &mut BTreeMap<String, String>, story: &Story) {
    for node in view["nodes"].as_array().into_iter().flatten() {
        let state = match (text(&node["state"]), text(&node["phase"])) {
            ("waiting" | "reused" | "retired", _) => continue,
            ("running", "") => "running".to_owned(),
            ("running", phase) => format!("running ({phase})"),
            (state, _) => state.to_owned(),
        };
        let name = format!("{} {}", text(&node["action"]), text(&node["node"]));
        if shown.get(&name) != Some(&state) {
            story.progress(&format!("{name}: {state}"));
            shown.insert(name, state);
        }
    }
}

/// A text in JSON; empty where there is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
