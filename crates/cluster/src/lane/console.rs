//! The serial console of a virtual machine: frames are the check runner's, other lines what the guest
//! printed.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use edgewright_checks::MachineLine;
use edgewright_lab::Piece;
use edgewright_lab::machine::{LaneFault, OnLine};
use edgewright_lab::remote::{Console, STARTING, Stopped};
use edgewright_model::Digest;
use edgewright_model::frame::{Deframer, LogLine};
use edgewright_process::Stream;
use tokio::time::Instant;

use super::PIECES;
use crate::follow::Sink;
use crate::stage::Wait;

/// How many lines of the console a message has.
const TAIL_LINES: usize = 3;

/// What was seen of a machine.
#[derive(Debug, Default)]
pub(super) struct Seen {
    console: Console,
    pieces: Vec<Piece>,
    /// Why its boot did not come to its end.
    pub(super) boot: Option<LaneFault>,
    /// Why the cluster ended it.
    pub(super) lost: Option<String>,
    /// Why a device cannot continue.
    pub(super) fault: Option<LaneFault>,
    /// Whether a device runs what was installed on it.
    pub(super) is_settled: bool,
}

impl Seen {
    /// The pieces of evidence.
    pub(super) fn evidence(&mut self) -> Vec<Piece> {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.push(Piece::text("console", self.console.text().to_vec()));
        pieces.retain(|piece| !piece.bytes.is_empty());
        pieces
    }
}

/// When a machine gave its last sign of life.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// None: its first process does not run yet.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log of a machine.
pub(super) struct MachineLog<'a, 's> {
    on_line: OnLine<'a>,
    /// Receives what happens to a device.
    note: &'s (dyn Fn(String) + Send + Sync),
    /// Whether it may restart.
    is_device: bool,
    /// What a device is waited for, and what its agent reports.
    waits_for: Option<(String, String)>,
    seen: &'s mut Seen,
    frames: Deframer,
    /// Records come twice: a frame may be damaged.
    known: BTreeSet<Digest>,
    /// How often its system was started.
    starts: u32,
    pulse: &'s Pulse,
    has_summary: bool,
    is_complete: bool,
    pub(super) wait: Option<Wait>,
}

impl<'a, 's> MachineLog<'a, 's> {
    pub(super) fn new(
        (on_line, note): (OnLine<'a>, &'s (dyn Fn(String) + Send + Sync)),
        seen: &'s mut Seen,
        pulse: &'s Pulse,
        is_device: bool,
    ) -> Self {
        Self {
            on_line,
            note,
            is_device,
            waits_for: None,
            seen,
            frames: Deframer::default(),
            known: BTreeSet::new(),
            starts: 0,
            pulse,
            has_summary: false,
            is_complete: false,
            wait: None,
        }
    }

    /// Whether all results are there.
    pub(super) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Why the machine is over, although its QEMU may run on.
    pub(super) fn over(&self) -> Option<LaneFault> {
        let console = &self.seen.console;
        let (stopped, reason) = if let Some(reason) = &console.panic
            && !self.is_device
        {
            (Stopped::Panicked(reason.clone()), None)
        } else if let Some(reason) = &console.fatal {
            (Stopped::NotStarted(reason.clone()), None)
        } else if self.starts > 1 && !self.is_device {
            (Stopped::Restarted, console.frozen.as_ref())
        } else {
            return None;
        };
        let when = if self.starts > 0 { "before the checks were done" } else { "before its system started" };
        let reason = reason.map(|line| format!(": {line}")).unwrap_or_default();
        let memory = console.out_of_memory.as_ref().map(|line| format!(" ({line})")).unwrap_or_default();
        Some(LaneFault::of_image(format!("{stopped} {when}{reason}{memory}")))
    }

    /// The fault of a machine whose time is over.
    pub(super) fn late(&self, seconds: u64) -> LaneFault {
        LaneFault::of_image(match &self.waits_for {
            Some((what, status)) => format!("the device did not {what} within {seconds}s: {status}"),
            None => format!("the machine did not respond within {seconds}s{}", self.tail()),
        })
    }

    /// The last lines of the console, for a message.
    pub(super) fn tail(&self) -> String {
        let console = &self.seen.console;
        if let Some(memory) = &console.out_of_memory {
            return format!(": it ran out of memory: {memory}");
        }
        let lines: Vec<String> = console.tail(TAIL_LINES).iter().map(|line| line.trim().to_owned()).collect();
        if lines.is_empty() {
            ": nothing on its console".to_owned()
        } else {
            format!(": {}", lines.join(" / "))
        }
    }

    fn record(&mut self, record: &str) {
        self.pulse.beat();
        match serde_json::from_str(record) {
            Ok(MachineLine::Alive { .. }) => {}
            Ok(MachineLine::End) => self.is_complete = self.has_summary || self.seen.fault.is_some(),
            _ if !self.known.insert(Digest::of(record)) => {}
            Ok(MachineLine::Evidence { name, text }) => {
                if let Some(name) = PIECES.into_iter().find(|piece| *piece == name) {
                    self.seen.pieces.push(Piece::text(name, text.into_bytes()));
                }
            }
            Ok(MachineLine::Note { text }) => {
                self.waits_for = None;
                (self.note)(text);
            }
            Ok(MachineLine::Waits { what, status }) => self.waits_for = Some((what, status)),
            Ok(MachineLine::Settled) => {
                self.waits_for = None;
                self.seen.is_settled = true;
            }
            Ok(MachineLine::Fault { message }) => self.seen.fault = Some(LaneFault::of_image(message)),
            Ok(MachineLine::Boot { fault }) => self.seen.boot = fault.map(LaneFault::of_image),
            Err(_) => {
                self.has_summary |= record.starts_with("{\"line\":\"summary\"");
                (self.on_line)(Stream::Stdout, record);
            }
        }
    }
}

impl Sink for MachineLog<'_, '_> {
    fn begin(&mut self) {
        self.seen.console = Console::default();
        self.starts = 0;
    }

    fn line(&mut self, line: &str) {
        match self.frames.line(line) {
            LogLine::Record(record) => self.record(&record),
            LogLine::Frame => {}
            LogLine::Text(text) => {
                let text = text.trim_end();
                if text.contains(STARTING) {
                    self.starts += 1;
                    self.pulse.beat();
                    // Each start counts its frames from 0.
                    self.frames = Deframer::default();
                }
                if !text.is_empty() {
                    self.seen.console.push(text);
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.is_complete || self.over().is_some()
    }

    fn waits(&mut self, wait: Option<&Wait>) {
        self.wait = wait.cloned();
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::frame::Framer;

    use super::*;

    fn read(lines: &[String]) -> (Vec<String>, bool, Option<String>, Seen) {
        read_of(lines, false)
    }

    fn read_of(lines: &[String], is_device: bool) -> (Vec<String>, bool, Option<String>, Seen) {
        let (mut seen, pulse, mut found) = (Seen::default(), Pulse::default(), Vec::new());
        let notes = Mutex::new(Vec::new());
        let note = |text| notes.lock().unwrap().push(text);
        let mut on_line = |_: Stream, line: &str| found.push(line.to_owned());
        let mut log = MachineLog::new((&mut on_line, &note), &mut seen, &pulse, is_device);
        log.begin();
        for line in lines {
            log.line(line);
        }
        let (is_complete, over) = (log.is_complete(), log.over().map(|fault| fault.message));
        found.extend(notes.into_inner().unwrap());
        (found, is_complete, over, seen)
    }

    #[test]
    fn records_that_come_twice_are_passed_on_once() {
        let mut framer = Framer::default();
        let mut lines = vec![STARTING.to_owned(), "[  OK  ] Reached target\r".to_owned()];
        let [result, summary] = ["{\"line\":\"result\"}", "{\"line\":\"summary\"}"];
        let boot = r#"{"line":"boot","fault":"it waits for a.service"}"#;
        let end = r#"{"line":"end"}"#;
        for record in [result, summary, boot, result, summary, boot, end, end] {
            lines.extend(framer.lines(record));
        }
        let (found, is_complete, over, mut seen) = read(&lines);
        assert_eq!((found, is_complete, over), (vec![result.to_owned(), summary.to_owned()], true, None));
        assert_eq!(seen.boot.clone().unwrap().message, "it waits for a.service");
        let evidence = seen.evidence();
        assert_eq!(evidence[0].bytes, format!("{STARTING}\n[  OK  ] Reached target\n").into_bytes());
        // The end alone is no result.
        assert!(!read(&Framer::default().lines(end)).1);
    }

    #[test]
    fn a_machine_that_is_over_is_named() {
        let over = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            read(&lines).2
        };
        assert_eq!(over(&[STARTING, "a line"]), None);
        assert_eq!(
            over(&[STARTING, "[ 2.1] Kernel panic - not syncing: Attempted to kill init!"]).unwrap(),
            "the kernel panicked: Attempted to kill init! before the checks were done"
        );
        assert_eq!(
            over(&["Kernel panic - not syncing: no root"]).unwrap(),
            "the kernel panicked: no root before its system started"
        );
        assert_eq!(
            over(&[STARTING, "You are in emergency mode", STARTING]).unwrap(),
            "the machine restarted itself before the checks were done: You are in emergency mode"
        );
        let fatal = format!("{}find the disk", edgewright_lab::remote::FATAL);
        assert!(over(&[&fatal]).unwrap().starts_with("the image cannot be started: find the disk"));
    }

    #[test]
    fn a_device_restarts_and_its_frames_begin_again() {
        let boot = |records: &[&str]| -> Vec<String> {
            let mut framer = Framer::default();
            // Twice, as the guest prints it.
            let start = [STARTING.to_owned(), STARTING.to_owned()];
            start.into_iter().chain(records.iter().flat_map(|record| framer.lines(record))).collect()
        };
        let (one, two) = (r#"{"line":"note","text":"boot 1"}"#, r#"{"line":"note","text":"boot 2"}"#);
        let (summary, end) = ("{\"line\":\"summary\"}", r#"{"line":"end"}"#);
        let panic = "Kernel panic - not syncing: the successor".to_owned();
        let lines =
            [boot(&[one, one, r#"{"line":"settled"}"#]), vec![panic], boot(&[two, two, summary, end])]
                .concat();
        let (found, is_complete, over, seen) = read_of(&lines, true);
        assert_eq!((is_complete, over, seen.is_settled), (true, None, true));
        assert_eq!(found, [summary, "boot 1", "boot 2"]);
        let fault = r#"{"line":"fault","message":"the device went back"}"#;
        let (_, is_complete, _, seen) = read_of(&boot(&[fault, end]), true);
        assert!(is_complete && !seen.is_settled);
        assert_eq!(seen.fault.unwrap().message, "the device went back");
    }
}
