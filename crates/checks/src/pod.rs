//! The runner as the first process of a container, on Kubernetes: it starts the checks and becomes the
//! image's own init.
//!
//! ```text
//! /ew/sbin/init pod ORDER USER COMMAND…
//!   ├─ starts: /ew/sbin/init pod-checks ORDER ─▶ frames on the container's standard output, its log
//!   └─ becomes: COMMAND…, process 1
//! ```
//!
//! So the checks need neither `exec` into the container nor an open connection. The log is shared with the
//! image's init: [`edgewright_model::frame`].

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgewright_model::frame::Framer;
use serde::Serialize;

use crate::FAILED_UNITS;
use crate::exec;
use crate::protocol::{MachineLine, RunLine, RunOrder, RunSummary};
use crate::runner::{milliseconds, run};

/// The time limit to gather one piece of evidence.
const GATHERING: Duration = Duration::from_secs(20);
/// The user of an image that names none.
pub const ROOT: &str = "root";
/// What is gathered of a machine, by name.
const EVIDENCE: [(&str, &[&str]); 2] = [
    ("journal", &["journalctl", "--boot", "--no-pager", "--output=short-precise", "--lines=3000"]),
    ("failed-units", FAILED_UNITS),
];
/// Ends a container whose init is systemd. A machine that is not needed any more takes no memory.
const LEAVE: [&str; 3] = ["systemctl", "--no-block", "exit"];

/// Starts the checks beside this process, then becomes the image's init: it returns only if it cannot.
///
/// # Errors
/// A program cannot be started, or the image's user is not in its `/etc/passwd`.
pub fn become_init(order: &Path, user: &str, command: &[OsString]) -> io::Error {
    match prepare(order, user, command) {
        Ok(mut init) => init.exec(),
        Err(error) => error,
    }
}

#[expect(clippy::disallowed_methods, reason = "the runner is static and synchronous")]
fn prepare(order: &Path, user: &str, command: &[OsString]) -> io::Result<std::process::Command> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
    let mut checks = std::process::Command::new("/proc/self/exe");
    checks.arg("pod-checks").arg(order).stdin(std::process::Stdio::null()).spawn()?;
    let mut init = std::process::Command::new(program);
    init.args(arguments);
    if user != ROOT {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        let (user, group) = ids(user, &passwd, &group).ok_or_else(|| {
            let message = format!("the image's user `{user}` is not in its /etc/passwd or /etc/group");
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        init.uid(user).gid(group);
    }
    Ok(init)
}

/// The numbers of `USER[:GROUP]`, each a name or a number (image-spec, `config.md`, "User").
fn ids(user: &str, passwd: &str, groups: &str) -> Option<(u32, u32)> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let entry = |file: &str, name: &str, number: usize| -> Option<Vec<String>> {
        let fields = file.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        let is =
            |fields: &Vec<String>| fields.len() > number && (fields[0] == name || fields[number] == name);
        fields.into_iter().find(is)
    };
    let found = entry(passwd, user, 2).filter(|fields| fields.len() > 3);
    let uid = user.parse().ok().or_else(|| found.as_ref()?[2].parse().ok())?;
    let gid = match group {
        Some(group) => group.parse().ok().or_else(|| entry(groups, group, 2)?[2].parse().ok())?,
        None => found.and_then(|fields| fields[3].parse().ok()).unwrap_or(0),
    };
    Some((uid, gid))
}

/// Runs the checks of an order and gathers evidence; all of it goes to `log`.
///
/// # Errors
/// The order cannot be read.
pub fn run_in_pod(order: &Path, log: impl Write + Send) -> Result<(), String> {
    let start = Instant::now();
    let json = fs::read(order).map_err(|error| format!("cannot read {}: {error}", order.display()))?;
    let order = RunOrder::parse(&json).map_err(|error| edgewright_model::error::Chain(&error).to_string())?;
    let log = Log::new(log);
    let results = run(&order, |result| log.record(&RunLine::Result(result.clone())));
    let duration_ms = milliseconds(start.elapsed());
    log.record(&RunLine::Summary(RunSummary::of(&results, duration_ms)));
    evidence(&log, usize::MAX);
    log.record(&MachineLine::End);
    Ok(())
}

/// Gathers evidence and writes it to the log: of each piece at most this many bytes, its end.
pub(crate) fn evidence(log: &Log<impl Write>, limit: usize) {
    gather(log, &EVIDENCE, limit);
}

/// The same with other pieces: names, and the commands that print them.
pub(crate) fn gather(log: &Log<impl Write>, pieces: &[(&str, &[&str])], limit: usize) {
    for (name, argv) in pieces {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        // An image without the program has no such piece.
        if let Ok(ended) = exec::run(&argv, GATHERING) {
            let mut text = ended.text();
            text.drain(..text.ceil_char_boundary(text.len().saturating_sub(limit)));
            log.record(&MachineLine::Evidence { name: (*name).to_owned(), text });
        }
    }
}

/// Ends the container, if its init is systemd.
pub fn leave() {
    // The executor removes one that stays.
    let _ = exec::run(&LEAVE.map(str::to_owned), GATHERING);
}

/// A log that other processes write to, too.
pub(crate) struct Log<W>(Mutex<(Framer, W)>);

impl<W: Write> Log<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(Mutex::new((Framer::default(), out)))
    }

    pub(crate) fn record(&self, record: &impl Serialize) {
        if let Ok(json) = serde_json::to_string(record) {
            self.line(&json);
        }
    }

    /// Writes each frame of a record in one piece, after a line end: another writer may have left a line
    /// unfinished. A failure means that the reader is gone.
    pub(crate) fn line(&self, json: &str) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (framer, out) = &mut *log;
        for line in framer.lines(json) {
            let _ = out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1002::/app:/bin/sh\nshort:x\n";
    const GROUPS: &str = "root:x:0:\nplant:x:77:app\n";

    #[test]
    fn users_of_images_are_names_or_numbers() {
        for (user, want) in [
            ("app", Some((1001, 1002))),
            ("1001", Some((1001, 1002))),
            ("4000", Some((4000, 0))),
            ("app:plant", Some((1001, 77))),
            ("4000:4001", Some((4000, 4001))),
            ("nosuch", None),
            ("app:nosuch", None),
            ("short", None),
            ("", None),
        ] {
            assert_eq!(ids(user, PASSWD, GROUPS), want, "{user}");
        }
    }

    #[test]
    fn an_order_that_is_not_there_is_an_error() {
        let error = run_in_pod(Path::new("/nonexistent/order.json"), io::sink()).unwrap_err();
        assert!(error.starts_with("cannot read /nonexistent/order.json: "), "{error}");
        let nothing = become_init(Path::new("/nonexistent"), ROOT, &[]);
        assert_eq!(nothing.kind(), io::ErrorKind::InvalidInput);
    }
}
