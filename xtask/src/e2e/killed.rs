//! A server that is killed while the machine of a lane runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::life::Life;
use crate::command::Run;
use crate::demo::story::say;

/// How long the lane may take until its machine runs: the image is built before.
const BEGIN_LIMIT: Duration = Duration::from_mins(30);
/// How long a machine may outlive its server.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Into the boot of the machine.
const INTO_BOOT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
/// What runs a machine.
const EMULATOR: &str = "qemu-system-";

impl Life<'_> {
    /// Kills the server once the machine of a lane of this commit runs. Nothing of it may stay.
    pub(super) fn kill_server_during(&mut self, commit: &str) -> anyhow::Result<()> {
        let server = self.device.server_process()?;
        let deadline = Instant::now() + BEGIN_LIMIT;
        while !family(server)?.iter().any(|process| process.arguments.contains(EMULATOR)) {
            ensure!(Instant::now() < deadline, "no lane of {commit} runs a machine");
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(INTO_BOOT);
        let family = family(server)?;
        // With sudo, the process that was started is not the server.
        let is_server = |process: &&Process| process.arguments.contains(" serve ");
        for process in family.iter().filter(is_server) {
            Run::as_root("kill")?.args(["-KILL", &process.number.to_string()]).run()?;
        }
        let deadline = Instant::now() + END_LIMIT;
        loop {
            let running = processes()?;
            let is_left = |process: &&Process| running.iter().any(|other| other.is_same(process));
            let left: Vec<&Process> = family.iter().filter(is_left).collect();
            if left.is_empty() {
                say(&format!("all {} processes have ended", family.len()));
                break;
            }
            ensure!(Instant::now() < deadline, "processes outlive their server: {left:#?}");
            std::thread::sleep(PAUSE);
        }
        self.device.stop_server();
        Ok(())
    }
}

#[derive(Debug)]
struct Process {
    number: u32,
    parent: u32,
    arguments: String,
}

impl Process {
    /// Its parent is another one once its own has ended.
    fn is_same(&self, other: &Self) -> bool {
        (self.number, &self.arguments) == (other.number, &other.arguments)
    }

    /// A line of `ps`.
    fn parse(line: &str) -> Option<Self> {
        let (number, rest) = line.trim_start().split_once(' ')?;
        let (parent, arguments) = rest.trim_start().split_once(' ')?;
        let (number, parent) = (number.parse().ok()?, parent.parse().ok()?);
        Some(Self { number, parent, arguments: arguments.trim().to_owned() })
    }
}

/// All processes that run.
fn processes() -> anyhow::Result<Vec<Process>> {
    let text = Run::new("ps").args(["-e", "-ww", "-o", "pid=,ppid=,args="]).output()?;
    text.lines().map(|line| Process::parse(line).with_context(|| format!("`ps` printed {line}"))).collect()
}

/// A process and its descendants.
fn family(root: u32) -> anyhow::Result<Vec<Process>> {
    let mut rest = processes()?;
    let mut found: Vec<Process> = Vec::new();
    loop {
        let is_of_it = |process: &Process| {
            process.number == root || found.iter().any(|member| member.number == process.parent)
        };
        let (new, others): (Vec<Process>, Vec<Process>) = rest.into_iter().partition(is_of_it);
        if new.is_empty() {
            return Ok(found);
        }
        found.extend(new);
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_this_process_and_not_its_parent() {
        let family = family(std::process::id()).unwrap();
        assert!(family.iter().any(|process| process.number == std::process::id()));
        assert!(!family.iter().any(|process| process.number == 1));
        let process = Process::parse("    7     1 edgewright serve --data x").unwrap();
        assert_eq!((process.number, process.parent), (7, 1));
        assert!(process.arguments.contains(" serve ") && Process::parse("x").is_none());
    }
}
