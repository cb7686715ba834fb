//! Starts programs, and is the only module that does: clean environment, own process group, bounded output,
//! hard deadline.
//!
//! Not `edgewright_process`: that is async, and the runner is static and synchronous.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Maximum number of bytes kept from the start of a program's standard output; the rest is read and dropped.
const KEPT: usize = 1024 * 1024;
/// Number of bytes kept from the end of both streams, for messages.
const TAIL: usize = 4 * 1024;
/// Number of lines shown of that end.
const TAIL_LINES: usize = 20;
/// The interval at which a running program is polled.
const GLANCE: Duration = Duration::from_millis(10);
/// The time to wait for output after the program ended: a daemon that it started may hold the pipes open.
const DRAIN: Duration = Duration::from_millis(500);
/// The search path for programs, independent of the caller's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that ended or was ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit status; `None` if it was killed at its deadline.
    pub(crate) status: Option<ExitStatus>,
    /// The start of its standard output.
    pub(crate) stdout: Vec<u8>,
    /// The last lines of both streams, standard output first.
    pub(crate) tail: Vec<String>,
}

impl Ended {
    /// The exit code; a signal gives 128 + its number, as shells do.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)))
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a program until it ends, at most for `budget`; then its whole process group is killed.
pub(crate) fn run(argv: &[String], budget: Duration) -> io::Result<Ended> {
    let start = Instant::now();
    let mut child = spawn(argv)?;
    let stdout = child.stdout.take().map(|pipe| Capture::start(pipe, KEPT));
    let stderr = child.stderr.take().map(|pipe| Capture::start(pipe, 0));

    let ended = loop {
        if has_ended(&child)? {
            break true;
        }
        if start.elapsed() >= budget {
            break false;
        }
        std::thread::sleep(GLANCE.min(budget.saturating_sub(start.elapsed())));
    };
    // Before the child is reaped, its process group's number cannot be reused.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let status = child.wait()?;

    let drained = Instant::now() + DRAIN;
    let (kept, mut tail) = stdout.map(|capture| capture.finish(drained)).unwrap_or_default();
    let (_, errors) = stderr.map(|capture| capture.finish(drained)).unwrap_or_default();
    tail.extend(errors);
    let excess = tail.len().saturating_sub(TAIL_LINES);
    tail.drain(..excess);
    Ok(Ended { status: ended.then_some(status), stdout: kept, tail })
}

#[expect(clippy::disallowed_methods, reason = "the runner is static and synchronous")]
fn spawn(argv: &[String]) -> io::Result<Child> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program"))?;
    std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("SYSTEMD_COLORS", "0")])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Whether the child ended, without reaping it.
fn has_ended(child: &Child) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(Pid::from_child(child)), options) {
        Ok(status) => Ok(status.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Start and end of a stream, collected by a thread.
#[derive(Debug, Default)]
struct Gathered {
    start: Vec<u8>,
    tail: Vec<u8>,
    complete: bool,
}

#[derive(Debug)]
struct Capture {
    gathered: Arc<Mutex<Gathered>>,
}

impl Capture {
    fn start(mut pipe: impl Read + Send + 'static, kept: usize) -> Self {
        let gathered = Arc::new(Mutex::new(Gathered::default()));
        let shared = Arc::clone(&gathered);
        let reader = move || {
            let mut chunk = [0; 16 * 1024];
            loop {
                let length = match pipe.read(&mut chunk) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => 0,
                };
                let mut gathered = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if length == 0 {
                    gathered.complete = true;
                    return;
                }
                let bytes = &chunk[..length];
                let room = kept.saturating_sub(gathered.start.len()).min(length);
                gathered.start.extend_from_slice(&bytes[..room]);
                gathered.tail.extend_from_slice(bytes);
                let excess = gathered.tail.len().saturating_sub(TAIL);
                gathered.tail.drain(..excess);
            }
        };
        if std::thread::Builder::new().spawn(reader).is_err() {
            // Without a thread there is no output; the exit code still counts.
            gathered.lock().unwrap_or_else(PoisonError::into_inner).complete = true;
        }
        Self { gathered }
    }

    /// The output collected until the end of the stream, or until `until` if another process holds it open.
    fn finish(self, until: Instant) -> (Vec<u8>, Vec<String>) {
        loop {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            if gathered.complete || Instant::now() >= until {
                let tail = std::mem::take(&mut gathered.tail);
                return (std::mem::take(&mut gathered.start), last_lines(&String::from_utf8_lossy(&tail)));
            }
            drop(gathered);
            std::thread::sleep(GLANCE);
        }
    }
}

/// The last lines of a text, without control characters.
pub(crate) fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines[first..].iter().map(|line| line.chars().filter(|c| !c.is_control()).take(500).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, budget: Duration) -> Ended {
        run(&["sh".into(), "-c".into(), script.into()], budget).unwrap()
    }

    #[test]
    fn exit_output_and_environment() {
        let ended = sh("env | sort | grep -v PWD; echo oops >&2; exit 3", Duration::from_secs(20));
        assert_eq!(ended.code(), Some(3));
        assert_eq!(
            ended.text().lines().map(|line| line.split('=').next().unwrap_or_default()).collect::<Vec<_>>(),
            ["HOME", "LANG", "PATH", "SYSTEMD_COLORS"]
        );
        assert_eq!(ended.tail.last().unwrap(), "oops");
        assert_eq!(sh("kill -9 $$", Duration::from_secs(20)).code(), Some(137));
        assert!(run(&["/no/such/program".into()], GLANCE).is_err());
        assert!(run(&[], GLANCE).is_err());
    }

    #[test]
    fn the_whole_group_is_killed_at_the_deadline() {
        let ended = sh("sleep 600 & echo $!; sleep 600", Duration::from_millis(300));
        assert!(ended.status.is_none());
        let pid = ended.text().trim().to_owned();
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_alive =
            || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while is_alive() {
            assert!(Instant::now() < deadline, "{pid} outlived its group");
            std::thread::sleep(GLANCE);
        }
    }

    #[test]
    fn output_is_bounded_and_a_held_pipe_does_not_hang() {
        let ended = sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end", Duration::from_mins(1));
        assert_eq!(ended.stdout.len(), KEPT);
        assert_eq!(ended.tail.last().unwrap(), "end");
        let ended = sh("setsid sleep 3 & echo started", Duration::from_mins(1));
        assert_eq!(ended.text(), "started\n");
        assert_eq!(ended.code(), Some(0));
    }
}
