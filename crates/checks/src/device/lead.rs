//! Leads a device from its first boot to its last. Each boot starts this program again; the state's disk has
//! how far it was.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use edgewright_model::error::Chain;
use edgewright_model::verdict::CheckOutcome;

use super::offer::Registry;
use super::order::DeviceOrder;
use super::state::{Phase, State, Store};
use super::{LEAVE, MISSING, Seen, Status, arrived};
use crate::exec::{self, Ended};
use crate::machine::{Limits, MAX_EVIDENCE_BYTES, Repeated, boot_fault, settle, watched};
use crate::pod::gather;
use crate::protocol::{MachineLine, RunLine, RunSummary};
use crate::runner::{milliseconds, run};

/// The most boots of a device: installed, updated, tried again, and back.
const MAX_BOOTS: u32 = 12;
/// The time limit of one question to the agent, before scaling.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause between two looks at the agent's state: each is a program on an emulated processor.
const PAUSE: Duration = Duration::from_secs(3);
/// The agent's history, as evidence.
const HISTORY: (&str, &[&str]) = ("agent", &["edgewright-agent", "logs", "-n", "300"]);
/// The kernel's id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where a device finds what it needs.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The order.
    pub order: &'a Path,
    /// The disk with the state.
    pub state: &'a Path,
    /// The folder with the offer.
    pub offer: &'a Path,
    /// The serial console.
    pub console: &'a Path,
}

/// Continues the way of a device, until it is over or the device restarts. What it finds goes to the console.
///
/// # Errors
/// The order or the state cannot be read.
pub fn lead_device(places: Places<'_>, limits: Limits) -> Result<(), String> {
    let start = Instant::now();
    let path = places.order;
    let json = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let order = DeviceOrder::parse(&json).map_err(|error| Chain(&error).to_string())?;
    let store = Store::new(places.state);
    let mut state = store.load().map_err(|error| format!("cannot read the device's state: {error}"))?;
    state.begin(fs::read_to_string(BOOT_ID).unwrap_or_default().trim());
    let found = state.phase;
    watched(places.console, start, |log| {
        let mut way = Way { order: &order, offer: places.offer, store, state, log, start, limits };
        if let Err(message) = way.save().and_then(|()| way.walk(found)) {
            way.both(&MachineLine::Fault { message });
        }
        gather(&log.log, &[HISTORY], MAX_EVIDENCE_BYTES);
        log.evidence();
    });
    Ok(())
}

struct Way<'a, W> {
    order: &'a DeviceOrder,
    offer: &'a Path,
    store: Store,
    state: State,
    log: &'a Repeated<W>,
    start: Instant,
    limits: Limits,
}

impl<W: std::io::Write + Send> Way<'_, W> {
    /// Walks on from where the device was.
    fn walk(&mut self, found: Phase) -> Result<(), String> {
        let boots = self.state.boots;
        self.note(format!("the device started its system (boot {boots})"));
        if boots > MAX_BOOTS {
            return Err(format!("the device restarted {MAX_BOOTS} times"));
        }
        match found {
            Phase::Settling if boots == 1 => {
                self.settle_in()?;
                if self.order.journey.checks_first && !self.checks() {
                    return Ok(());
                }
                self.travel()?;
            }
            Phase::Settling => return Err("the machine restarted itself while it was in use".to_owned()),
            Phase::Travelling => self.arrive()?,
            Phase::Arrived => {
                return Err("the machine restarted itself before the checks were done".to_owned());
            }
        }
        if !self.order.journey.checks_first {
            self.checks();
        }
        Ok(())
    }

    /// Waits for the installed image, and leaves what must be kept.
    fn settle_in(&mut self) -> Result<(), String> {
        let installed = self.order.journey.installed.clone();
        self.until("run the image that was installed", |status| {
            if status.rests_on(&installed) { Seen::Reached } else { Seen::NotYet }
        })?;
        let left = self.ask(&["sh", "-c", LEAVE, "leave", &self.order.mark]);
        match left {
            Ok(ended) if ended.code() == Some(0) => {}
            Ok(ended) => {
                let reason = ended.tail.last().map_or("no message", String::as_str);
                return Err(format!("cannot write to /var and /etc of the device: {reason}"));
            }
            Err(error) => return Err(format!("cannot write to /var and /etc of the device: {error}")),
        }
        self.both(&MachineLine::Settled);
        Ok(())
    }

    /// Asks the agent to update, and follows the device until it restarts or is where it must be.
    fn travel(&mut self) -> Result<(), String> {
        if self.order.journey.target.is_none() {
            self.note("the device runs what it would be offered: no update".to_owned());
            return self.change(Phase::Arrived);
        }
        self.change(Phase::Travelling)?;
        self.update()?;
        self.arrive()
    }

    /// It ends when the update is staged, or with the restart.
    fn update(&self) -> Result<(), String> {
        let _registry =
            Registry::serve(self.offer).map_err(|error| format!("cannot offer the image: {error}"))?;
        let words = ["edgewright-agent", "--json", "update"].map(str::to_owned);
        let ended = exec::run(&words, Duration::from_secs(self.order.within));
        let ended = ended.map_err(|error| format!("cannot start the agent's command: {error}"))?;
        if ended.code() == Some(0) {
            return Ok(());
        }
        let status = Status::parse(&ended.text());
        if status.as_ref().is_some_and(|status| !status.rests_on(&self.order.journey.installed)) {
            // It continues, whatever did not work meanwhile.
            return Ok(());
        }
        let last = ended.tail.last().map_or("no message", String::as_str);
        let reason = status.as_ref().and_then(Status::problem).unwrap_or(last);
        Err(format!("the agent does not take the update: {reason}"))
    }

    /// Waits until the device is where it must be, and looks for what it had to keep.
    fn arrive(&mut self) -> Result<(), String> {
        let journey = &self.order.journey;
        let Some(target) = journey.target.clone() else { return Ok(()) };
        let (ends_on, is_bad) = (journey.ends_on.clone(), journey.is_bad);
        let what = if is_bad { "come back by itself" } else { "run the image that it was offered" };
        self.until(what, |status| arrived(status, &ends_on, &target, is_bad))?;
        self.note(format!("the device is on {} after {} boots", ends_on.short(), self.state.boots));
        if is_bad {
            self.note(format!("{} was rolled back by the device", target.short()));
        }
        let looked = self.ask(&["sh", "-c", MISSING, "missing", &self.order.mark]);
        let looked =
            looked.map_err(|error| format!("cannot look for what the update had to keep: {error}"))?;
        let lost: Vec<String> = looked.text().lines().map(str::to_owned).collect();
        if !lost.is_empty() {
            return Err(format!("the update did not keep {}", lost.join(", ")));
        }
        self.change(Phase::Arrived)
    }

    /// Waits until the agent's status is the wanted one.
    fn until(&self, what: &str, seen: impl Fn(&Status) -> Seen) -> Result<(), String> {
        let mut last = None;
        loop {
            let status = self.ask(&["edgewright-agent", "--json", "status"]);
            let status = status.ok().and_then(|ended| Status::parse(&ended.text()));
            let found = match &status {
                None => "its agent does not answer".to_owned(),
                Some(status) => match seen(status) {
                    Seen::Reached => return Ok(()),
                    Seen::Failed(reason) => return Err(reason),
                    Seen::NotYet => status.describe(),
                },
            };
            if last.as_ref() != Some(&found) {
                self.log.log.record(&MachineLine::Waits { what: what.to_owned(), status: found.clone() });
                last = Some(found);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Runs the checks; whether none failed.
    fn checks(&self) -> bool {
        settle(self.start, self.limits);
        let begun = Instant::now();
        let results = run(&self.order.run, |result| self.log.record(&RunLine::Result(result.clone())));
        self.log.record(&RunLine::Summary(RunSummary::of(&results, milliseconds(begun.elapsed()))));
        self.log.record(&MachineLine::Boot { fault: boot_fault(self.start, self.limits) });
        !results.iter().any(|result| matches!(result.outcome, CheckOutcome::Failed { .. }))
    }

    fn ask(&self, words: &[&str]) -> std::io::Result<Ended> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        exec::run(&words, ASK_TIMEOUT.mul_f64(self.order.run.scale.max(1.0)))
    }

    fn change(&mut self, phase: Phase) -> Result<(), String> {
        self.state.phase = phase;
        self.save()
    }

    fn save(&self) -> Result<(), String> {
        self.store.save(&self.state).map_err(|error| format!("cannot write the device's state: {error}"))
    }

    fn note(&self, text: String) {
        self.both(&MachineLine::Note { text });
    }

    /// Twice, now: what a boot found is not known to the next one.
    fn both(&self, record: &MachineLine) {
        for _ in 0..2 {
            self.log.log.record(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::Digest;
    use edgewright_model::frame::{Deframer, LogLine};
    use edgewright_model::spec::Lane;

    use super::*;
    use crate::device::Journey;
    use crate::protocol::{ORDER_VERSION, RunOrder};

    /// The faults that a device reports in a boot after this state.
    fn faults(state: &State) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let good = Digest::of("good");
        let journey = Journey {
            installed: good.clone(),
            target: Some(Digest::of("next")),
            ends_on: good,
            is_bad: true,
            checks_first: false,
        };
        let run = RunOrder {
            version: ORDER_VERSION,
            lane: Lane::Rollback,
            checks: Vec::new(),
            scale: 1.0,
            starts: None,
        };
        let order = DeviceOrder { run, journey, mark: "mark".to_owned(), within: 1 };
        fs::write(at("order"), serde_json::to_vec(&order).unwrap()).unwrap();
        for empty in ["state", "console"] {
            fs::write(at(empty), "").unwrap();
        }
        Store::new(&at("state")).save(state).unwrap();
        let [order, disk, offer, console] = ["order", "state", "offer", "console"].map(at);
        let places = Places { order: &order, state: &disk, offer: &offer, console: &console };
        lead_device(places, Limits { settling: Duration::ZERO, boot: Duration::ZERO }).unwrap();
        assert_eq!(Store::new(&disk).load().unwrap().boots, state.boots + 1);
        let mut frames = Deframer::default();
        let text = fs::read_to_string(&console).unwrap();
        let mut records = text.lines().filter_map(|line| match frames.line(line) {
            LogLine::Record(record) => serde_json::from_str(&record).ok(),
            _ => None,
        });
        let found: Vec<MachineLine> = records.by_ref().collect();
        assert_eq!(found.last(), Some(&MachineLine::End), "{text}");
        let fault = |line| match line {
            MachineLine::Fault { message } => Some(message),
            _ => None,
        };
        found.into_iter().filter_map(fault).collect()
    }

    #[test]
    fn a_restart_that_no_update_asked_for_is_a_fault() {
        let state = |boots, phase| State { boots, boot: "another".to_owned(), phase };
        let restarted = "the machine restarted itself";
        for (state, fault) in [
            (state(1, Phase::Settling), format!("{restarted} while it was in use")),
            (state(3, Phase::Arrived), format!("{restarted} before the checks were done")),
            (state(MAX_BOOTS, Phase::Travelling), "the device restarted 12 times".to_owned()),
        ] {
            // Twice: the kernel may write into a frame.
            assert_eq!(faults(&state), [fault.clone(), fault], "{state:?}");
        }
    }
}
