//! The node: one machine of a cluster, in namespaces and a cgroup of its own on this one.
//!
//! ```text
//!  host:  xtask ─▶ root/node/{components,control} ─▶ bash, process 1 of the node ─▶ etcd, kube-apiserver, …
//!         10.99.N.254 ◀────────── veth ──────────▶ 10.99.N.1
//!         slirp4netns ◀────────── tap0 ──────────▶ everything else
//! ```

pub(super) mod components;
mod network;
mod pki;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::build::Parts;
use super::place::Place;
use super::{cgroup, part};
use crate::command::Run;
pub(super) use network::Addresses;
pub(crate) use network::HOST_NAME;

/// How long the node may take until it takes orders.
const START_LIMIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);
/// Lines of a component's output that an error shows.
const TAIL_LINES: usize = 12;
const SCRIPT: &str = include_str!("node.sh");

/// How long a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until `cluster down`.
    Kept,
    /// No longer than this process, however it ends.
    Process,
}

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) addresses: Addresses,
}

impl Node {
    /// Starts an empty node at a place where none is.
    pub(super) fn start(place: &Place, parts: &Parts, lifetime: Lifetime) -> anyhow::Result<Self> {
        let node = Self { place: place.clone(), addresses: Addresses::choose(place)? };
        node.lay_files(parts)?;
        pki::make(place, &node.addresses)?;
        components::write(place, &node.addresses)?;
        let process = node.boot(lifetime)?;
        node.attach_network(process)?;
        Ok(node)
    }

    /// The node that runs at a place.
    pub(super) fn running(place: &Place) -> anyhow::Result<Option<Self>> {
        let file = place.file("node-address");
        if cgroup::first_process(place)?.is_none() || !file.is_file() {
            return Ok(None);
        }
        let node = std::fs::read_to_string(&file)?;
        let host = std::fs::read_to_string(place.file("host-address"))?;
        Ok(Some(Self { place: place.clone(), addresses: Addresses { node, host } }))
    }

    fn lay_files(&self, parts: &Parts) -> anyhow::Result<()> {
        let place = &self.place;
        std::fs::create_dir_all(place.folder())?;
        let root = place.file("root");
        std::fs::create_dir(&root)?;
        for tar in [parts.node.file("root.tar.zst"), parts.kubernetes.file("programs.tar.zst")] {
            extract(&tar, &root)?;
        }
        // What the host writes belongs to its user.
        let owner = std::fs::metadata(place.folder())?;
        for folder in ["", "components", "log", "pid", "ended", "registries", "pki"] {
            Run::as_root("install")?
                .args(["-d", "-o", &owner.uid().to_string(), "-g", &owner.gid().to_string()])
                .arg(place.exchange(folder))
                .run()?;
        }
        for pipe in ["control", "alive"] {
            Run::new("mkfifo").arg(place.exchange(pipe)).run()?;
        }
        for script in [place.file("node.sh"), place.exchange("node.sh")] {
            std::fs::write(script, SCRIPT)?;
        }
        std::fs::write(place.exchange("hosts"), self.addresses.hosts())?;
        for (name, text) in [("hosts", self.addresses.hosts()), ("resolv.conf", components::resolv_conf())] {
            let file = place.file(name);
            std::fs::write(&file, text)?;
            Run::as_root("install")?
                .args(["-m", "644", "-T"])
                .arg(&file)
                .arg(root.join("etc").join(name))
                .run()?;
        }
        std::fs::write(place.file("node-address"), &self.addresses.node)?;
        Ok(std::fs::write(place.file("host-address"), &self.addresses.host)?)
    }

    /// Starts process 1. Its id on the host.
    fn boot(&self, lifetime: Lifetime) -> anyhow::Result<u32> {
        let script = self.script("start", &[&self.place.cgroup()])?;
        let run = match lifetime {
            Lifetime::Kept => Run::new("setsid").args(script.words()),
            Lifetime::Process => Run::new("setpriv").args(["--pdeathsig", "KILL", "--"]).args(script.words()),
        };
        let log = self.place.file("node.log");
        let mut child = run.start_logged(&log)?;
        let deadline = Instant::now() + START_LIMIT;
        while !self.place.exchange("ready").exists() {
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the node does not start: {}", std::fs::read_to_string(&log)?.trim());
            }
            std::thread::sleep(PAUSE);
        }
        self.process()
    }

    fn process(&self) -> anyhow::Result<u32> {
        let gone = || format!("the node is not running: see {}", self.place.file("node.log").display());
        cgroup::first_process(&self.place)?.with_context(gone)
    }

    /// A function of the script, as root on the host.
    fn script(&self, function: &str, arguments: &[&str]) -> anyhow::Result<Run> {
        let script = Run::as_root("bash")?.arg(self.place.file("node.sh")).arg(function);
        Ok(script.arg(self.place.folder()).args(arguments))
    }

    /// A command inside of the node.
    pub(super) fn run(&self) -> anyhow::Result<Run> {
        Place::inside(self.process()?)
    }

    /// Starts a component.
    pub(super) fn start_component(&self, name: &str) -> anyhow::Result<()> {
        let file = self.place.exchange("ended").join(name);
        if file.exists() {
            Run::as_root("rm")?.arg(&file).run()?;
        }
        self.order("start", name)
    }

    /// Kills a component, and waits for its end.
    pub(super) fn kill_component(&self, name: &str) -> anyhow::Result<()> {
        self.order("stop", name)?;
        let deadline = Instant::now() + START_LIMIT;
        while self.ended(name)?.is_none() {
            if Instant::now() > deadline {
                bail!("{name} does not end");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn order(&self, verb: &str, name: &str) -> anyhow::Result<()> {
        // Without process 1, no one reads the pipe.
        self.process()?;
        let pipe = OpenOptions::new().write(true).open(self.place.exchange("control"));
        Ok(pipe?.write_all(format!("{verb} {name}\n").as_bytes())?)
    }

    /// With what status a component ended, if it ended.
    pub(super) fn ended(&self, name: &str) -> anyhow::Result<Option<String>> {
        match std::fs::read_to_string(self.place.exchange("ended").join(name)) {
            Ok(status) => Ok(Some(status.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All components that were started, with the status of those that ended.
    pub(super) fn components(&self) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.place.exchange("pid"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        names.into_iter().map(|name| Ok((name.clone(), self.ended(&name)?))).collect()
    }

    /// Waits for a component until it is ready. An error with the end of its output if it ends before.
    pub(super) fn wait_for(
        &self,
        name: &str,
        limit: Duration,
        mut is_ready: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !is_ready()? {
            if let Some(status) = self.ended(name)? {
                bail!("{name} ended with exit status {status}:\n{}", self.tail(name));
            }
            if Instant::now() > deadline {
                bail!("{name} is not ready after {} s:\n{}", limit.as_secs(), self.tail(name));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn tail(&self, name: &str) -> String {
        let log = self.place.exchange("log").join(format!("{name}.log"));
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "{}\nall of it: {}",
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"),
            log.display()
        )
    }
}

/// Ends the node of a place, if there is one, and removes everything of it.
pub(super) fn remove(place: &Place) -> anyhow::Result<()> {
    cgroup::remove(place)?;
    network::remove(place)?;
    part::remove(place.folder())
}

fn extract(tar: &Path, root: &Path) -> anyhow::Result<()> {
    Run::as_root("tar")?
        .args(["--extract", "--zstd", "--same-owner", "--file"])
        .arg(tar)
        .arg(format!("--directory={}", root.display()))
        .run()
}
