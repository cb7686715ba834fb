//! The runner in a virtual machine without a channel to its host, on KubeVirt: started before the image's
//! init, it waits for the boot, runs the checks, and writes all of it as frames to the serial console.
//!
//! The kernel writes to the console, too, and may damage a frame in between: results are written twice.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use edgewright_model::error::Chain;
use serde::Serialize;

use crate::exec;
use crate::pod::{Log, evidence};
use crate::protocol::{MachineLine, RunLine, RunOrder, RunSummary};
use crate::runner::{milliseconds, run};

/// The serial console, which the host reads.
pub const CONSOLE: &str = "/dev/ttyS0";
/// Ends the machine, if its init is systemd. One that is not needed any more takes no memory.
const LEAVE: [&str; 3] = ["systemctl", "--no-block", "poweroff"];
/// The time limit of a request to systemd.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a sign of life is written.
const ALIVE: Duration = Duration::from_secs(15);
/// How many jobs of systemd are named.
const MAX_JOBS: usize = 5;
/// How often a write is tried: a getty that starts hangs up its terminal.
const TRIES: usize = 5;
/// The most of a piece of evidence that is written, in bytes: its end. The reader of the console has a
/// hundredth of a processor.
pub(crate) const MAX_EVIDENCE_BYTES: usize = 64 * 1024;

/// How far a boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// At its end, or the init gives no sign of it.
    Finished,
    /// On its way.
    Starting,
    /// It ended where a person is waited for.
    Emergency,
}

/// How long a machine is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long checks wait for the end of the boot.
    pub settling: Duration,
    /// How long the boot may take in all.
    pub boot: Duration,
}

/// Runs the checks of an order in a machine.
///
/// # Errors
/// The order cannot be read.
pub fn run_in_machine(order: &Path, limits: Limits, console: &Path) -> Result<(), String> {
    let start = Instant::now();
    let json = fs::read(order).map_err(|error| format!("cannot read {}: {error}", order.display()))?;
    let order = RunOrder::parse(&json).map_err(|error| Chain(&error).to_string())?;
    watched(console, start, |log| {
        settle(start, limits);
        let results = run(&order, |result| log.record(&RunLine::Result(result.clone())));
        log.record(&RunLine::Summary(RunSummary::of(&results, milliseconds(start.elapsed()))));
        log.record(&MachineLine::Boot { fault: boot_fault(start, limits) });
        log.evidence();
    });
    Ok(())
}

/// Does work whose results go to the console, with a sign of life now and then while it lasts, and the end
/// after it.
pub(crate) fn watched(console: &Path, start: Instant, work: impl FnOnce(&Repeated<Console>)) {
    let log = Repeated { log: Log::new(Console(console.to_owned())), records: Mutex::default() };
    std::thread::scope(|scope| {
        // Its end ends the sign of life, however the work ends.
        let (_working, is_working) = mpsc::sync_channel::<()>(1);
        scope.spawn(|| live(&log.log, start, is_working));
        work(&log);
    });
    for _ in 0..2 {
        log.log.record(&MachineLine::End);
    }
}

/// Writes a sign of life now and then, while the work lasts.
#[expect(clippy::needless_pass_by_value, reason = "a receiver belongs to one thread")]
fn live(log: &Log<impl Write>, start: Instant, is_working: mpsc::Receiver<()>) {
    loop {
        log.record(&MachineLine::Alive { seconds: start.elapsed().as_secs() });
        if is_working.recv_timeout(ALIVE) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Waits for the end of the boot, before the checks.
pub(crate) fn settle(start: Instant, limits: Limits) {
    wait(start + limits.settling);
}

/// Why the boot did not come to its end.
pub(crate) fn boot_fault(start: Instant, limits: Limits) -> Option<String> {
    unfinished(wait(start + limits.boot), start.elapsed())
}

/// Ends the machine, if its init is systemd.
pub fn leave() {
    // The executor removes one that stays.
    let _ = exec::run(&LEAVE.map(str::to_owned), LOOK_TIMEOUT);
}

/// Waits until systemd has started everything, or the deadline. Other inits give no sign of it.
fn wait(deadline: Instant) -> Progress {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // One program that waits costs less than many that look.
        let waited = ask(&["systemctl", "is-system-running", "--wait"], left.min(LOOK_TIMEOUT));
        let progress = match waited.as_deref().map(str::trim) {
            Some("running" | "degraded") => Progress::Finished,
            _ => look(),
        };
        if progress != Progress::Starting || Instant::now() >= deadline {
            return progress;
        }
        std::thread::sleep(PAUSE);
    }
}

/// How far the boot is now.
fn look() -> Progress {
    let state = ask(&["systemctl", "is-system-running"], LOOK_TIMEOUT);
    match state.as_deref().map(str::trim) {
        Some("running" | "degraded") => Progress::Finished,
        Some("maintenance") => Progress::Emergency,
        // One that stops is gone soon.
        Some("initializing" | "starting" | "stopping") => Progress::Starting,
        // Very early, there is no manager to ask yet, and our own first process is about to become it.
        _ => match fs::read_link("/proc/1/exe").map(|program| program.to_string_lossy().into_owned()) {
            Ok(program) if program.contains("systemd/systemd") || program.contains("edgewright-guest") => {
                Progress::Starting
            }
            _ => Progress::Finished,
        },
    }
}

/// Why a boot did not come to its end, as a message.
fn unfinished(progress: Progress, took: Duration) -> Option<String> {
    let message = format!("the machine did not reach its default target within {}s", took.as_secs());
    match progress {
        Progress::Finished => None,
        Progress::Emergency => Some(format!("{message}: it is in rescue or emergency mode")),
        Progress::Starting => {
            let listed = ask(&["systemctl", "list-jobs", "--no-legend", "--no-pager"], LOOK_TIMEOUT);
            let units = running(listed.as_deref().unwrap_or_default());
            let waits =
                if units.is_empty() { String::new() } else { format!("; it waits for {}", units.join(", ")) };
            Some(format!("{message}{waits}"))
        }
    }
}

/// The units of the lines `12 name.service start running`.
fn running(listed: &str) -> Vec<&str> {
    let lines = listed.lines().filter(|line| line.trim_end().ends_with("running"));
    lines.filter_map(|line| line.split_whitespace().nth(1)).take(MAX_JOBS).collect()
}

/// What a program writes, even if it fails; none if it cannot be started.
fn ask(words: &[&str], within: Duration) -> Option<String> {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    Some(exec::run(&words, within.max(PAUSE)).ok()?.text())
}

/// A log whose records are written again.
pub(crate) struct Repeated<W> {
    pub(crate) log: Log<W>,
    records: Mutex<Vec<String>>,
}

impl<W: Write> Repeated<W> {
    pub(crate) fn record(&self, record: &impl Serialize) {
        let Ok(json) = serde_json::to_string(record) else { return };
        self.log.line(&json);
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(json);
    }

    /// Gathers evidence, and writes all records again.
    pub(crate) fn evidence(&self) {
        evidence(&self.log, MAX_EVIDENCE_BYTES);
        for record in &*self.records.lock().unwrap_or_else(PoisonError::into_inner) {
            self.log.line(record);
        }
    }
}

/// The console, opened for each write: what an earlier process opened is dead once a getty hung it up.
pub(crate) struct Console(PathBuf);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut last = Ok(bytes.len());
        for _ in 0..TRIES {
            // It must not become this process's controlling terminal.
            let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or_default();
            let opened = fs::OpenOptions::new().append(true).custom_flags(flags).open(&self.0);
            last = opened.and_then(|mut console| console.write_all(bytes)).map(|()| bytes.len());
            if last.is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        last
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::frame::{Deframer, LogLine};

    use super::*;

    #[test]
    fn a_damaged_frame_loses_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let (order, console) = (folder.path().join("order"), folder.path().join("console"));
        let checks = r#"{"version":1,"lane":"vm","checks":[{"id":"true","assert":{"kind":"command","argv":["true"],"exit":0},"within":"5s"}],"scale":1.0}"#;
        fs::write(&order, checks).unwrap();
        fs::write(&console, "").unwrap();
        let limits = Limits { settling: Duration::ZERO, boot: Duration::ZERO };
        run_in_machine(&order, limits, &console).unwrap();
        let text = fs::read_to_string(&console).unwrap();
        // The kernel writes into the first result.
        let damaged = text.replacen("\"result\"", "\"res[    3.1] a driver\r\nult\"", 1);
        let mut frames = Deframer::default();
        let records: Vec<String> = damaged
            .lines()
            .filter_map(|line| match frames.line(line) {
                LogLine::Record(record) => Some(record),
                _ => None,
            })
            .collect();
        let count = |part: &str| records.iter().filter(|record| record.contains(part)).count();
        assert_eq!((count("\"line\":\"result\""), count("summary"), count("\"boot\"")), (1, 2, 2), "{text}");
        assert_eq!(records.last().unwrap(), r#"{"line":"end"}"#);
    }

    #[test]
    fn units_that_a_boot_waits_for_are_named() {
        let listed = " 12 a.service start running\n 13 b.target start waiting\n";
        assert_eq!(running(listed), ["a.service"]);
        assert_eq!(unfinished(Progress::Finished, Duration::ZERO), None);
        let emergency = unfinished(Progress::Emergency, Duration::from_secs(7)).unwrap();
        assert!(emergency.contains("within 7s: it is in rescue"), "{emergency}");
    }

    #[test]
    fn an_order_that_is_not_there_is_an_error() {
        let limits = Limits { settling: Duration::ZERO, boot: Duration::ZERO };
        let error = run_in_machine(Path::new("/nonexistent"), limits, Path::new("/dev/null")).unwrap_err();
        assert!(error.starts_with("cannot read /nonexistent: "), "{error}");
    }
}
