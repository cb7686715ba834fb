//! The machine against a simulated device: power cuts at every point between two effects, images that are
//! good, unhealthy, or do not boot.

mod found;
mod properties;

use std::time::Duration;

use edgewright_model::window::{Day, Window, Windows};

use super::*;
use crate::policy::Policy;
use crate::updater::Deployment;

/// What an image does when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Good,
    Unhealthy,
    Panics,
    /// It cannot be deployed.
    Invalid,
}

/// The tries of a new boot entry.
const TRIES: u32 = 3;
/// Steps after which a run that is not at rest counts as endless.
const MAX_STEPS: usize = 400;

fn digest(name: &str) -> Digest {
    Digest::of(name)
}

fn update(name: &str) -> Update {
    Update { digest: digest(name), index: None, reference: "r.example/a:stable".to_owned() }
}

/// The disk and the boot loader; it survives power cuts.
#[derive(Debug, Clone)]
struct Device {
    natures: Vec<(Digest, Nature)>,
    record: Record,
    booted: Digest,
    /// The blessed image.
    default: Digest,
    fallback: Option<Digest>,
    staged: Option<Digest>,
    /// A boot entry on trial.
    trial: Option<(Digest, u32)>,
    boots: usize,
    /// How often the agent rebooted the device.
    reboots: usize,
    /// How often the checks of an image that was found running were run.
    found_checks: usize,
    /// How often each digest was armed.
    armed: Vec<Digest>,
    reports: Vec<ReportBody>,
    registry: Option<Update>,
    now: Timestamp,
    rules: Rules,
    /// Effects until the next power cut; the last ones never come.
    cuts: Vec<usize>,
    /// Whether a cut is only the end of the agent's process: the device continues.
    is_only_killed: bool,
}

/// The power was cut.
struct Cut;

impl Device {
    fn new(policy: Policy, natures: &[(&str, Nature)], cuts: Vec<usize>) -> Self {
        let now = "2026-11-28T00:00:00Z".parse().unwrap();
        let rules = Rules {
            policy,
            windows: Windows::none(),
            interval: Duration::from_mins(10),
            jitter: Duration::ZERO,
        };
        let natures = natures.iter().map(|(name, nature)| (digest(name), *nature)).collect();
        Self {
            natures,
            record: Record::new(now),
            booted: digest("v1"),
            default: digest("v1"),
            fallback: None,
            staged: None,
            trial: None,
            boots: 1,
            reboots: 0,
            found_checks: 0,
            armed: Vec::new(),
            reports: Vec::new(),
            registry: Some(update("v1")),
            now,
            rules,
            cuts,
            is_only_killed: false,
        }
    }

    fn nature(&self, digest: &Digest) -> Nature {
        self.natures.iter().find(|(known, _)| known == digest).map_or(Nature::Good, |(_, nature)| *nature)
    }

    /// A moment in which the power may be cut.
    fn moment(&mut self) -> Result<(), Cut> {
        let Some(left) = self.cuts.last_mut() else { return Ok(()) };
        if *left == 0 {
            self.cuts.pop();
            return Err(Cut);
        }
        *left -= 1;
        Ok(())
    }

    /// The boot loader, with boot counting, and a kernel that reboots when it panics.
    fn boot(&mut self) {
        loop {
            self.boots += 1;
            let chosen = match &mut self.trial {
                Some((digest, tries)) if *tries > 0 => {
                    *tries -= 1;
                    digest.clone()
                }
                _ => self.default.clone(),
            };
            if self.nature(&chosen) == Nature::Panics {
                assert_ne!(chosen, self.default, "the default image does not boot");
                continue;
            }
            if chosen != self.booted && self.trial.as_ref().is_some_and(|(trial, _)| *trial == chosen) {
                self.fallback = Some(self.default.clone());
            }
            self.booted = chosen;
            return;
        }
    }

    fn truth(&self) -> Deployments {
        let of = |digest: &Digest| Deployment {
            digest: digest.clone(),
            reference: None,
            verity: false,
            entry: None,
            tries_left: self.trial.as_ref().filter(|(trial, _)| trial == digest).map(|(_, tries)| *tries),
            is_next: false,
        };
        Deployments {
            booted: Some(of(&self.booted)),
            fallback: self.fallback.as_ref().filter(|digest| **digest != self.booted).map(of),
            staged: self.staged.as_ref().filter(|digest| **digest != self.booted).map(of),
        }
    }

    /// Runs the agent from its start until it is at rest, or the power is cut.
    fn run(&mut self, commands: &mut Vec<Command>) -> Result<(), Cut> {
        let mut events =
            vec![Event::Started { truth: Box::new(self.truth()), boot: format!("boot-{}", self.boots) }];
        for _ in 0..MAX_STEPS {
            let event = match events.pop() {
                Some(event) => event,
                None if !commands.is_empty() => Event::Command(commands.remove(0)),
                None if self.record.state.is_at_rest() && !self.is_due() => return Ok(()),
                None => {
                    self.now = self.now.checked_add(jiff::SignedDuration::from_secs(30)).unwrap();
                    Event::Tick
                }
            };
            let rules = self.rules.clone();
            let context = Context { now: self.now, jitter: Duration::ZERO, rules: &rules };
            let Ok(outcome) = step(&self.record, event, &context) else { continue };
            self.moment()?;
            self.record = outcome.record;
            self.reports.extend(outcome.reports);
            self.moment()?;
            for action in outcome.actions {
                let boots = self.boots;
                if let Some(event) = self.perform(action)? {
                    events.insert(0, event);
                }
                if self.boots != boots {
                    // The process is gone with the boot.
                    events = vec![Event::Started {
                        truth: Box::new(self.truth()),
                        boot: format!("boot-{}", self.boots),
                    }];
                    break;
                }
                self.moment()?;
            }
        }
        panic!("it never comes to rest: {self:#?}");
    }

    /// Whether a check is due within the next two intervals: the device is not finished.
    fn is_due(&self) -> bool {
        self.record.problem.is_some() && self.registry.is_some() || self.record.next_check <= self.now
    }

    fn perform(&mut self, action: Action) -> Result<Option<Event>, Cut> {
        Ok(match action {
            Action::Check => Some(match &self.registry {
                Some(update) => Event::Found(update.clone()),
                None => Event::Failed(problem(ProblemKind::Unreachable)),
            }),
            Action::Download(update) if self.nature(&update.digest) == Nature::Invalid => {
                Some(Event::Failed(problem(ProblemKind::Image)))
            }
            Action::Download(update) => {
                assert_ne!(update.digest, self.booted, "the booted image is staged");
                self.moment()?;
                if self.staged.as_ref() != Some(&update.digest) {
                    self.trial = None;
                }
                self.staged = Some(update.digest);
                Some(Event::Downloaded { bytes: 1 })
            }
            Action::Arm(digest) => {
                assert_eq!(self.staged.as_ref(), Some(&digest), "armed without being staged");
                self.armed.push(digest.clone());
                self.trial = Some((digest, TRIES));
                Some(Event::Armed)
            }
            Action::Reboot => {
                self.reboots += 1;
                self.boot();
                None
            }
            Action::CheckHealth(update) => Some(self.check(&update)),
            Action::CheckFound(_) if self.registry.is_none() => {
                Some(Event::Failed(problem(ProblemKind::Unreachable)))
            }
            Action::CheckFound(update) => {
                self.moment()?;
                self.found_checks += 1;
                Some(self.check(&update))
            }
            Action::Bless => {
                assert_eq!(self.nature(&self.booted), Nature::Good, "a bad image is blessed");
                if self.trial.take().is_some() {
                    self.default = self.booted.clone();
                    self.staged = None;
                }
                Some(Event::Blessed)
            }
            // The agent was killed after it: a second time must not undo the first.
            Action::RollBack if self.trial.is_none() && self.default != self.booted => {
                Some(Event::RolledBack)
            }
            Action::RollBack => {
                let back = match &self.fallback {
                    Some(fallback) if *fallback != self.booted => fallback.clone(),
                    _ => return Ok(Some(Event::Failed(problem(ProblemKind::NoFallback)))),
                };
                self.fallback = Some(self.booted.clone());
                self.default = back;
                self.trial = None;
                Some(Event::RolledBack)
            }
            Action::Collect | Action::Stop => None,
        })
    }

    fn check(&self, update: &Update) -> Event {
        assert_eq!(update.digest, self.booted);
        let fault = (self.nature(&update.digest) != Nature::Good).then(|| "bad".to_owned());
        Event::Health(HealthResult { fault, ..HealthResult::default() })
    }

    /// Runs until it is at rest, through all power cuts.
    fn settle(&mut self, mut commands: Vec<Command>) {
        while self.run(&mut commands).is_err() {
            if !self.is_only_killed {
                self.boot();
            }
        }
    }

    fn cut_count(&self, before: usize) -> usize {
        before - self.cuts.len()
    }

    /// Hours pass, so that a check is due.
    fn wait(&mut self) {
        self.now = self.now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    }

    fn offer(&mut self, name: &str) {
        self.registry = Some(update(name));
        self.wait();
    }

    fn reported(&self, kind: &str) -> usize {
        self.reports.iter().filter(|report| report.kind() == kind).count()
    }
}

fn problem(kind: ProblemKind) -> Problem {
    Problem { kind, message: "m".to_owned(), hint: None, failures: 0, since: None }
}

#[test]
fn an_update_is_taken_checked_and_confirmed() {
    let mut device = Device::new(Policy::Immediately, &[], Vec::new());
    device.settle(Vec::new());
    assert_eq!(device.record.state, State::Confirmed { update: update("v1"), blessed: true });
    device.reports.clear();
    device.offer("v2");
    device.settle(Vec::new());
    assert_eq!(device.record.state, State::Confirmed { update: update("v2"), blessed: true });
    assert_eq!((device.booted.clone(), device.default.clone()), (digest("v2"), digest("v2")));
    let kinds: Vec<&str> = device.reports.iter().map(ReportBody::kind).collect();
    let want = ["offered", "staged", "rebooting", "booted", "health", "confirmed"];
    assert_eq!(kinds, want);
}

#[test]
fn bad_images_are_left_and_not_taken_again_but_newer_ones_are() {
    for nature in [Nature::Unhealthy, Nature::Panics, Nature::Invalid] {
        let mut device = Device::new(Policy::Immediately, &[("v2", nature)], Vec::new());
        device.settle(Vec::new());
        for _ in 0..3 {
            device.offer("v2");
            device.settle(Vec::new());
            assert_eq!(device.booted, digest("v1"), "{nature:?}");
            let held = State::HeldBack { update: Some(update("v2")), why: HeldBack::Failed };
            assert_eq!(device.record.state, held);
        }
        let tries = usize::from(nature != Nature::Invalid);
        assert_eq!(device.armed.len(), tries, "{nature:?}");
        assert_eq!(device.reported("rolled_back"), tries);
        device.offer("v3");
        device.settle(Vec::new());
        assert_eq!((&device.booted, &device.default), (&digest("v3"), &digest("v3")));
    }
}

#[test]
fn an_operator_may_retry_a_failed_digest() {
    let mut device = Device::new(Policy::Immediately, &[("v2", Nature::Unhealthy)], Vec::new());
    device.offer("v2");
    device.settle(Vec::new());
    device.natures.clear();
    device.settle(vec![Command::Update { retry: false }]);
    assert_eq!(device.booted, digest("v1"));
    device.settle(vec![Command::Update { retry: true }]);
    assert_eq!(device.booted, digest("v2"));
    assert!(device.record.failed.is_empty());
}

#[test]
fn download_only_waits_for_a_command() {
    let mut device = Device::new(Policy::Download, &[], Vec::new());
    device.offer("v2");
    device.settle(Vec::new());
    assert_eq!(device.record.state, State::Staged { update: update("v2") });
    device.wait();
    device.settle(Vec::new());
    assert_eq!(device.booted, digest("v1"));
    device.settle(vec![Command::Update { retry: false }]);
    assert_eq!(device.booted, digest("v2"));
}

#[test]
fn a_window_opens() {
    let mut device = Device::new(Policy::Window, &[], Vec::new());
    let time = |text: &str| text.parse().unwrap();
    // 2026-11-28 is a Saturday.
    let window = Window { days: vec![Day::Sunday], from: time("02:00"), to: time("04:00") };
    device.rules.windows.windows.push(window);
    device.offer("v2");
    device.settle(Vec::new());
    let opens = "2026-11-29T02:00:00Z".parse().unwrap();
    assert_eq!(device.record.state, State::Waiting { update: update("v2"), until: Some(opens) });
    // Without a registry the window counts all the same.
    device.registry = None;
    device.now = opens;
    device.settle(Vec::new());
    assert_eq!(device.booted, digest("v2"));
}

#[test]
fn a_hold_survives_and_ends() {
    let mut device = Device::new(Policy::Immediately, &[], Vec::new());
    device.settle(vec![Command::Hold { reason: Some("harvest".to_owned()) }]);
    device.offer("v2");
    device.settle(Vec::new());
    device.boot();
    device.wait();
    device.settle(Vec::new());
    assert_eq!(device.booted, digest("v1"));
    assert_eq!(device.record.state, State::HeldBack { update: Some(update("v2")), why: HeldBack::Hold });
    device.settle(vec![Command::Update { retry: false }]);
    assert_eq!(device.booted, digest("v1"));
    device.settle(vec![Command::Resume]);
    assert_eq!(device.booted, digest("v2"));
}

#[test]
fn an_operator_rolls_back_and_the_digest_is_not_taken_again() {
    let mut device = Device::new(Policy::Immediately, &[], Vec::new());
    device.settle(vec![Command::RollBack]);
    let is_named =
        |report: &ReportBody| matches!(report, ReportBody::Problem { kind: ProblemKind::NoFallback, .. });
    assert!(device.reports.iter().any(is_named));
    assert!(device.record.failed.is_empty());
    device.offer("v2");
    device.settle(Vec::new());
    assert_eq!(device.booted, digest("v2"));
    device.settle(vec![Command::RollBack]);
    device.wait();
    device.settle(Vec::new());
    assert_eq!((&device.booted, &device.default), (&digest("v1"), &digest("v1")));
    assert_eq!(device.record.failed[0].reason, FailureReason::RolledBack);
}

#[test]
fn problems_back_off_and_end() {
    let mut device = Device::new(Policy::Immediately, &[], Vec::new());
    device.registry = None;
    let rules = device.rules.clone();
    let mut record = device.record.clone();
    record.state = State::Checking { staged: None };
    for failures in 1..6 {
        let context = Context { now: device.now, jitter: Duration::ZERO, rules: &rules };
        record = step(&record, Event::Failed(problem(ProblemKind::Denied)), &context).unwrap().record;
        assert_eq!((record.state.name(), record.problem.as_ref().unwrap().failures), ("idle", failures));
        let pause = record.next_check.duration_since(device.now);
        assert_eq!(pause.as_secs(), (10 << (failures - 1)).min(600));
        record.state = State::Checking { staged: None };
    }
    let context = Context { now: device.now, jitter: Duration::ZERO, rules: &rules };
    record.truth = device.truth();
    // What runs has no result yet: its checks may need the registry again.
    let outcome = step(&record, Event::Found(update("v1")), &context).unwrap();
    assert_eq!(outcome.record.problem, record.problem);
    let outcome = step(&outcome.record, Event::Failed(problem(ProblemKind::Denied)), &context).unwrap();
    assert_eq!(outcome.record.problem.as_ref().unwrap().failures, 6);
    record.state = State::Checking { staged: None };
    record = step(&record, Event::Found(update("v1")), &context).unwrap().record;
    let outcome = step(&record, Event::Health(HealthResult::default()), &context).unwrap();
    assert_eq!(outcome.record.problem, None);
}

#[test]
fn a_clock_that_was_wrong_by_a_year_delays_no_check() {
    let mut device = Device::new(Policy::Immediately, &[], Vec::new());
    device.settle(Vec::new());
    let year = jiff::SignedDuration::from_hours(24 * 365);
    device.record.next_check = device.now.checked_add(year).unwrap();
    let rules = device.rules.clone();
    let context = Context { now: device.now, jitter: Duration::ZERO, rules: &rules };
    let outcome = step(&device.record, Event::Tick, &context).unwrap();
    assert_eq!(outcome.actions, [Action::Check]);
}

#[test]
fn an_image_whose_boot_entry_was_lost_is_staged_once_more() {
    let device = Device::new(Policy::Immediately, &[], Vec::new());
    let rules = device.rules.clone();
    let context = Context { now: device.now, jitter: Duration::ZERO, rules: &rules };
    let mut truth = device.truth();
    let booted = truth.booted.as_mut().unwrap();
    booted.entry = Some("edgewright-1.conf".to_owned());
    let rebooting = |record: &Record, boot: &str| Record {
        state: State::Rebooting { update: update("v2"), from: None, boot: boot.to_owned(), armed: true },
        boot: boot.to_owned(),
        ..record.clone()
    };
    let start = |record: &Record, truth: &Deployments| {
        let event = Event::Started { truth: Box::new(truth.clone()), boot: "after".to_owned() };
        step(&rebooting(record, "before"), event, &context).unwrap().record
    };
    let again = start(&device.record, &truth);
    assert_eq!(again.state, State::Downloading { update: update("v2") });
    let failed = State::HeldBack { update: Some(update("v2")), why: HeldBack::Failed };
    assert_eq!(start(&again, &truth).state, failed);
    // It was tried as often as it may be.
    truth.staged = Some(Deployment {
        digest: digest("v2"),
        tries_left: Some(0),
        entry: Some("edgewright-2+0-2.conf".to_owned()),
        ..truth.booted.clone().unwrap()
    });
    assert_eq!(start(&device.record, &truth).state, failed);
    // Where no boots are counted, the old image means that the new one failed.
    assert_eq!(start(&device.record, &device.truth()).state, failed);
}

#[test]
fn a_lost_record_is_replaced_by_what_is_found() {
    let mut device = Device::new(Policy::Immediately, &[("v2", Nature::Unhealthy)], Vec::new());
    device.registry = Some(update("v2"));
    device.staged = Some(digest("v2"));
    device.trial = Some((digest("v2"), TRIES));
    device.boot();
    assert_eq!(device.booted, digest("v2"));
    device.settle(Vec::new());
    assert_eq!(device.booted, digest("v1"));
    assert_eq!(device.record.failed[0].digest, digest("v2"));
}

#[test]
fn commands_that_come_too_late_are_rejected() {
    let device = Device::new(Policy::Immediately, &[], Vec::new());
    let rules = device.rules.clone();
    let context = Context { now: device.now, jitter: Duration::ZERO, rules: &rules };
    let mut record = device.record.clone();
    record.state = State::CheckingHealth { update: update("v2"), from: None, is_found: false };
    for command in [Command::Check, Command::Update { retry: false }, Command::RollBack] {
        let error = step(&record, Event::Command(command), &context).unwrap_err();
        assert!(error.to_string().contains("checking its health"), "{error}");
    }
    let held = step(&record, Event::Command(Command::Hold { reason: None }), &context).unwrap();
    assert!(held.record.hold.is_some() && held.record.state == record.state);
}
