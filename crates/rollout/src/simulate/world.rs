//! The events of a simulation, in the order of their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Model, Random, Release};
use crate::engine::Engine;
use crate::fleet::{Device, StageNumber};
use crate::gate::Outcomes;
use crate::offer::{Facts, Turn, offer};
use crate::state::{Event, Move, Rung, Status};
use crate::wait::later;

/// How often the engine is asked for moves that only time makes.
const TICK: Duration = Duration::from_mins(1);

/// What became of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its last status.
    pub status: Status,
    /// How many devices were offered the release.
    pub offered: u32,
    /// How many of them really failed, whatever they reported.
    pub failed: u32,
    /// When each stage began.
    pub stages: Vec<(StageNumber, Timestamp)>,
    /// Its last moment.
    pub end: Timestamp,
    /// What the gate counted.
    pub outcomes: Outcomes,
    /// Bytes over the link of each site.
    pub bytes: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Poll(u32),
    Downloaded(u32),
    Booted(u32),
    Report(u32, Report),
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Report {
    Healthy,
    Failed,
}

/// What devices are answered with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Image {
    /// What they had before.
    #[default]
    Old,
    /// The release.
    New,
}

#[derive(Debug, Clone, Copy, Default)]
struct Machine {
    is_busy: bool,
    is_off: bool,
    is_lying: bool,
    unsent: Option<Report>,
    /// What it was answered with last.
    delivered: Image,
    /// What it reported to run, as the server knows.
    confirmed: Image,
    /// Whether the server knows that it failed with the release.
    has_failed: bool,
}

#[derive(Debug, Clone)]
struct Site {
    /// When its link has carried what was asked for so far.
    free_at: Timestamp,
    /// Its current or next outage.
    outage: (Timestamp, Timestamp),
    bytes: f64,
}

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The devices, as the engine has them.
    pub devices: &'a [Device],
    /// How they and their networks behave.
    pub model: &'a Model,
    /// What is rolled out.
    pub release: &'a Release,
    /// When it begins.
    pub from: Timestamp,
    /// How long it may take.
    pub longest: Duration,
    /// Of all that is random.
    pub seed: u64,
}

/// Rolls a release out until it ends, or for as long as the case permits.
pub fn simulate(engine: &mut Engine, case: Case<'_>) -> Summary {
    World::new(engine, case).run(later(case.from, case.longest))
}

struct World<'a> {
    engine: &'a mut Engine,
    devices: &'a [Device],
    model: &'a Model,
    release: &'a Release,
    random: Random,
    machines: Vec<Machine>,
    sites: Vec<Site>,
    queue: BinaryHeap<Reverse<(Timestamp, u64, Happening)>>,
    number: u64,
    now: Timestamp,
    offered: u32,
    failed: u32,
    stages: Vec<(StageNumber, Timestamp)>,
}

impl<'a> World<'a> {
    fn new(engine: &'a mut Engine, case: Case<'a>) -> Self {
        let Case { devices, model, release, from, longest: _, seed } = case;
        let count = devices.iter().map(|device| device.site as usize + 1).max().unwrap_or_default();
        let idle = Site { free_at: from, outage: (from, from), bytes: 0.0 };
        let mut world = Self {
            engine,
            devices,
            model,
            release,
            random: Random::new(seed),
            machines: vec![Machine::default(); devices.len()],
            sites: vec![idle; count],
            queue: BinaryHeap::with_capacity(devices.len() * 2),
            number: 0,
            now: from,
            offered: 0,
            failed: 0,
            stages: vec![(0, from)],
        };
        for site in 0..count {
            world.plan_outage(site, from);
        }
        for device in (0..).take(devices.len()) {
            let machine = &mut world.machines[device as usize];
            machine.is_off = world.random.happens(model.off);
            machine.is_lying = world.random.happens(model.lying);
            if !machine.is_off {
                let delay = world.random.up_to(model.poll.0);
                world.after(delay, Happening::Poll(device));
            }
        }
        world.after(TICK, Happening::Tick);
        world
    }

    fn run(mut self, end: Timestamp) -> Summary {
        while let Some(Reverse((at, _, happening))) = self.queue.pop() {
            if at > end || self.has_ended() {
                break;
            }
            self.now = at;
            self.handle(happening);
        }
        Summary {
            status: self.engine.status().clone(),
            offered: self.offered,
            failed: self.failed,
            stages: self.stages,
            end: self.now,
            outcomes: self.engine.gate().outcomes(),
            bytes: self.sites.into_iter().map(|site| site.bytes).collect(),
        }
    }

    fn has_ended(&self) -> bool {
        self.engine.status().is_final() || matches!(self.engine.status(), Status::Stopped(_))
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Poll(device) => self.poll(device),
            Happening::Downloaded(device) => {
                self.reached(device, Rung::Downloaded);
                let boot = self.model.boot + self.random.up_to(self.model.boot);
                self.after(boot, Happening::Booted(device));
            }
            Happening::Booted(device) => self.boot(device),
            Happening::Report(device, report) => self.report(device, report),
            Happening::Tick => {
                self.advance();
                self.after(TICK, Happening::Tick);
            }
        }
    }

    fn poll(&mut self, device: u32) {
        let (interval, jitter) = self.model.poll;
        let next = interval + self.random.up_to(jitter);
        self.after(next, Happening::Poll(device));
        if !self.is_connected(device) {
            return;
        }
        let at = self.now;
        self.engine.apply(&Event::Seen { device, at });
        if let Some(report) = self.machines[device as usize].unsent.take() {
            self.report(device, report);
        }
        let (image, is_first) = self.offer(device);
        if is_first {
            self.engine.apply(&Event::Offered { device, at });
            self.offered += 1;
        }
        self.machines[device as usize].delivered = image;
        if image == Image::New && !self.machines[device as usize].is_busy {
            self.machines[device as usize].is_busy = true;
            let site = &mut self.sites[self.devices[device as usize].site as usize];
            let seconds = Duration::from_secs_f64(self.model.bytes / self.model.bandwidth);
            site.free_at = later(site.free_at.max(at), seconds);
            site.bytes += self.model.bytes;
            let free_at = site.free_at;
            self.at(free_at, Happening::Downloaded(device));
        }
    }

    /// What a device is answered with, and whether it is the release for the first time.
    fn offer(&self, device: u32) -> (Image, bool) {
        let machine = &self.machines[device as usize];
        let answer = self.engine.answer(device, self.now);
        let image = if answer.is_new { &Image::New } else { &Image::Old };
        let turn = Turn { image, is_first: answer.is_first };
        let offer = offer(&Facts {
            is_member: true,
            is_held: false,
            pin: None,
            rollout: self.engine.is_member(device).then_some(turn),
            completed: Some(&Image::Old),
            confirmed: Some(&machine.confirmed),
            delivered: Some(&machine.delivered),
            is_quarantined: &|_| false,
            has_failed: &|image| *image == Image::New && machine.has_failed,
            is_below_floor: &|_| false,
        });
        (offer.image.copied().unwrap_or_default(), offer.is_first)
    }

    fn boot(&mut self, device: u32) {
        let model = self.model;
        if self.random.happens(model.dying) {
            self.machines[device as usize].is_off = true;
            self.failed += 1;
            return;
        }
        let failing = self.release.of(self.devices[device as usize].variant);
        let has_failed = self.random.happens(failing);
        self.failed += u32::from(has_failed);
        let claims_failure = has_failed != self.machines[device as usize].is_lying;
        let report = if claims_failure { Report::Failed } else { Report::Healthy };
        let delay = model.checks + self.random.up_to(model.delay);
        self.after(delay, Happening::Report(device, report));
        if self.random.happens(model.repeated) {
            let delay = delay + self.random.up_to(model.delay);
            self.after(delay, Happening::Report(device, report));
        }
    }

    fn report(&mut self, device: u32, report: Report) {
        if !self.is_connected(device) || self.random.happens(self.model.lost) {
            self.machines[device as usize].unsent = Some(report);
            return;
        }
        match report {
            Report::Healthy => {
                self.machines[device as usize].confirmed = Image::New;
                self.reached(device, Rung::Healthy);
            }
            Report::Failed => {
                self.machines[device as usize].has_failed = true;
                self.engine.apply(&Event::Failed { device, at: self.now });
                self.advance();
            }
        }
    }

    fn reached(&mut self, device: u32, rung: Rung) {
        self.engine.apply(&Event::Reached { device, rung, at: self.now });
    }

    fn advance(&mut self) {
        for step in self.engine.advance(self.now) {
            if let Move::Open { stage } = step {
                self.stages.push((stage, self.now));
            }
            self.engine.apply(&Event::Moved { step, at: self.now });
        }
    }

    fn is_connected(&mut self, device: u32) -> bool {
        let site = self.devices[device as usize].site as usize;
        while self.sites[site].outage.1 < self.now {
            self.plan_outage(site, self.sites[site].outage.1);
        }
        !self.machines[device as usize].is_off && self.sites[site].outage.0 > self.now
    }

    fn plan_outage(&mut self, site: usize, from: Timestamp) {
        let (between, length) = self.model.outages;
        let begin = later(from, self.random.waiting(between) + Duration::from_secs(1));
        self.sites[site].outage = (begin, later(begin, self.random.waiting(length)));
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(later(self.now, delay), happening);
    }

    fn at(&mut self, at: Timestamp, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number, happening)));
    }
}
