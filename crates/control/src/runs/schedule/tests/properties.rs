//! Random plans, random fates and random orders of events, against what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::outcome::FailureKind;
use edgewright_model::run::NodeState;
use edgewright_plan::NodeId;
use edgewright_plan::history::VerdictKey;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{LIMITS, at, id, verdict};
use crate::runs::schedule::{Action, End, Event, Job, JobEnd, Judgement, NodeFacts, Position, Schedule};

/// Far more events than any plan of these needs.
const ENOUGH: usize = 2_000;

/// What becomes of a node whenever its job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Refused,
    BreaksBuild,
    /// Through the infrastructure, every time.
    BreaksHost,
    /// A lane fails; the comparison with a digest that several nodes may share finds that it is new.
    Fails(u8),
    /// The same, and it is not new.
    FailsAsBefore(u8),
    /// Others post that it passes.
    Posted,
    /// Others never answer.
    Unanswered,
}

#[derive(Debug, Clone)]
struct Plan {
    fates: Vec<Fate>,
    after: Vec<Vec<usize>>,
    awaits: Vec<Vec<usize>>,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Pass),
        1 => Just(Fate::Refused),
        1 => Just(Fate::BreaksBuild),
        1 => Just(Fate::BreaksHost),
        2 => (0_u8..2).prop_map(Fate::Fails),
        1 => (0_u8..2).prop_map(Fate::FailsAsBefore),
        1 => Just(Fate::Posted),
        1 => Just(Fate::Unanswered),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    proptest::collection::vec((fate(), any::<u8>(), any::<u8>()), 1..9).prop_map(|nodes| {
        // A bit for each of the nodes before; few of them, so that not all hang together.
        let before =
            |place: usize, bits: u8| (0..place).filter(move |other| bits & (1 << (other % 8)) != 0).take(2);
        Plan {
            fates: nodes.iter().map(|(fate, ..)| *fate).collect(),
            after: (0..nodes.len()).map(|place| before(place, nodes[place].1).collect()).collect(),
            awaits: (0..nodes.len()).map(|place| before(place, nodes[place].2 & 0x55).collect()).collect(),
        }
    })
}

fn name(place: usize) -> NodeId {
    id(&format!("n{place}"))
}

fn place(node: &NodeId) -> usize {
    node.name.to_string()[1..].parse().unwrap()
}

/// What the database holds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    position: Position,
    attempts: u32,
    is_running: bool,
}

/// An executor, a database and people, as far as a schedule can tell.
struct World {
    plan: Plan,
    rows: Vec<Row>,
    known: BTreeSet<VerdictKey>,
    starts: Vec<u32>,
    schedule: Schedule,
    /// Actions that want an answer.
    open: Vec<Action>,
    admitting: usize,
    /// How often the executor still answers `later`.
    deferrals: usize,
    wake: Option<Timestamp>,
    now: i64,
    is_stopping: bool,
    is_done: bool,
}

impl World {
    fn new(plan: Plan) -> Self {
        let row = Row { position: Position::Waiting { not_before: None }, attempts: 0, is_running: false };
        let rows = vec![row; plan.fates.len()];
        let mut world = Self {
            schedule: Schedule::new(Vec::new(), LIMITS),
            starts: vec![0; rows.len()],
            known: BTreeSet::new(),
            rows,
            plan,
            open: Vec::new(),
            admitting: 0,
            deferrals: 20,
            wake: None,
            now: 0,
            is_stopping: false,
            is_done: false,
        };
        world.restart();
        world
    }

    /// As after `kill -9`: only rows and verdicts are left.
    fn restart(&mut self) {
        for row in &mut self.rows {
            if std::mem::take(&mut row.is_running) {
                row.attempts -= 1;
            }
        }
        let names = |places: &[usize]| places.iter().map(|place| name(*place)).collect();
        let facts = self.rows.iter().enumerate().map(|(place, row)| NodeFacts {
            id: name(place),
            after: names(&self.plan.after[place]),
            awaits: names(&self.plan.awaits[place]),
            inherits_external: place % 2 == 0,
            attempts: row.attempts,
            position: row.position,
        });
        self.schedule = Schedule::new(facts.collect(), LIMITS);
        self.open.clear();
        self.admitting = 0;
        self.feed(Event::Started);
    }

    fn feed(&mut self, event: Event) {
        self.is_stopping |= event == Event::Stop;
        let actions = self.schedule.handle(event, at(self.now));
        self.wake = None;
        for action in actions {
            match &action {
                Action::WakeAt(at) => {
                    assert!(at.as_second() > self.now, "a wish to wake in the past never ends");
                    self.wake = Some(*at);
                    continue;
                }
                Action::Done => {
                    self.is_done = true;
                    continue;
                }
                Action::Stop => continue,
                Action::Admit(_) => {
                    assert!(!self.is_stopping, "nothing is asked for after a stop");
                    self.admitting += 1;
                    assert_eq!(self.admitting, 1, "one request at a time");
                }
                Action::Start(node) => self.start(node),
                Action::Compare { verdict, .. } => {
                    assert!(!self.is_stopping && !self.known.contains(verdict), "each is tried once");
                }
                Action::Judge(_) | Action::Settle { .. } | Action::CheckVerdicts => {}
            }
            self.open.push(action);
        }
    }

    fn start(&mut self, node: &NodeId) {
        let place = place(node);
        assert!(!self.is_stopping, "nothing starts after a stop");
        for before in &self.plan.after[place] {
            let position = self.rows[*before].position;
            assert!(
                matches!(position, Position::Ended(state) if state.is_good()),
                "n{place} started, and n{before} is {position:?}"
            );
        }
        let row = &mut self.rows[place];
        (row.is_running, row.position) = (true, Position::Waiting { not_before: None });
        row.attempts += 1;
        self.starts[place] += 1;
        assert!(row.attempts <= LIMITS.attempts, "attempts are bounded");
    }

    /// Answers one of the open actions, or lets time go by.
    fn step(&mut self, choice: u8) {
        if self.open.is_empty() {
            let wake = self.wake.expect("something is outstanding, or something is due, or it is done");
            self.now = wake.as_second();
            return self.feed(Event::Tick);
        }
        let action = self.open.swap_remove(usize::from(choice) % self.open.len());
        let event = match action {
            Action::Admit(job) => self.admit(job, choice),
            Action::Start(node) => self.work(node),
            Action::Compare { verdict, .. } => {
                self.known.insert(verdict.clone());
                Event::Compared(verdict)
            }
            Action::Judge(node) => Event::Judged { judgement: self.judge(&node), node },
            Action::Settle { node, end } => self.record(node, &end),
            Action::CheckVerdicts => {
                let posted = self.schedule.awaiting().filter(|id| self.plan.fates[place(id)] == Fate::Posted);
                Event::VerdictsChecked { posted: posted.cloned().collect(), newer: None }
            }
            Action::WakeAt(_) | Action::Stop | Action::Done => unreachable!("these want no answer"),
        };
        self.feed(event);
    }

    fn admit(&mut self, job: Job, choice: u8) -> Event {
        self.admitting -= 1;
        if self.is_stopping && choice.is_multiple_of(2) {
            return Event::Stopped(job);
        }
        let Job::Node(node) = &job else { return Event::Admitted(job) };
        if self.plan.fates[place(node)] == Fate::Refused {
            let row = &mut self.rows[place(node)];
            row.attempts += 1;
            row.is_running = true;
            return Event::Refused { job, kind: FailureKind::Infrastructure };
        }
        if choice < 16 && self.deferrals > 0 {
            self.deferrals -= 1;
            return Event::Deferred { job, until: at(self.now + 3) };
        }
        Event::Admitted(job)
    }

    fn work(&self, node: NodeId) -> Event {
        let end = match self.plan.fates[place(&node)] {
            Fate::BreaksBuild => JobEnd::Failed(FailureKind::Image),
            Fate::BreaksHost => JobEnd::Failed(FailureKind::Infrastructure),
            _ => JobEnd::Done,
        };
        Event::JobEnded { node, end }
    }

    fn judge(&self, node: &NodeId) -> Judgement {
        let place = place(node);
        let (digest, kind) = match self.plan.fates[place] {
            Fate::Fails(digest) => (digest, FailureKind::Image),
            Fate::FailsAsBefore(digest) => (digest, FailureKind::Check),
            // The verdict may be there before it is awaited.
            Fate::Posted if self.now > 0 => return Judgement::Passed,
            Fate::Posted | Fate::Unanswered => {
                return Judgement::Awaits { within: SignedDuration::from_secs(60) };
            }
            _ => return Judgement::Passed,
        };
        let wanted = verdict(&format!("good {digest}"));
        if self.known.contains(&wanted) || self.schedule.compared().contains(&wanted) {
            Judgement::Failed(kind)
        } else {
            Judgement::Compare(BTreeSet::from([wanted]))
        }
    }

    fn record(&mut self, node: NodeId, end: &End) -> Event {
        let row = &mut self.rows[place(&node)];
        row.is_running = false;
        row.position = match end {
            End::Retry { at } => Position::Waiting { not_before: Some(*at) },
            End::Compare => Position::Comparing,
            End::Await { until } => Position::Awaiting { until: *until },
            end => Position::Ended(end.state()),
        };
        Event::Settled(node)
    }

    fn run(&mut self, choices: &[u8]) {
        let mut choices = choices.iter().copied().cycle();
        for _ in 0..ENOUGH {
            if self.is_done {
                return;
            }
            self.step(choices.next().unwrap_or_default());
        }
        panic!("it never ends: {:?}", self.schedule);
    }

    fn ends(&self) -> BTreeMap<usize, NodeState> {
        let ended = |(place, row): (usize, &Row)| match row.position {
            Position::Ended(state) => Some((place, state)),
            _ => None,
        };
        self.rows.iter().enumerate().filter_map(ended).collect()
    }
}

/// What each node must come to, whatever the order of events.
fn expected(plan: &Plan) -> BTreeMap<usize, NodeState> {
    let mut ends = BTreeMap::new();
    for (place, fate) in plan.fates.iter().enumerate() {
        let is_good = |before: &usize| ends.get(before).is_some_and(|state: &NodeState| state.is_good());
        let end = match fate {
            _ if !plan.after[place].iter().all(is_good) => NodeState::Blocked,
            Fate::Pass | Fate::Posted => NodeState::Passed,
            _ => NodeState::Failed,
        };
        ends.insert(place, end);
    }
    ends
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..60)
}

proptest! {
    #[test]
    fn every_schedule_ends_with_what_failed_and_exactly_its_dependents(plan in plan(), choices in choices()) {
        let mut world = World::new(plan.clone());
        world.run(&choices);
        prop_assert_eq!(world.ends(), expected(&plan));
        prop_assert!(world.starts.iter().all(|starts| *starts <= LIMITS.attempts));
    }

    #[test]
    fn a_restart_at_any_point_comes_to_the_same_end(
        plan in plan(),
        choices in choices(),
        restarts in proptest::collection::vec(0_usize..80, 1..4),
    ) {
        let mut world = World::new(plan.clone());
        for steps in restarts {
            for choice in choices.iter().copied().cycle().take(steps) {
                if !world.is_done {
                    world.step(choice);
                }
            }
            if !world.is_done {
                world.restart();
            }
        }
        let (over, starts) = (world.ends(), world.starts.clone());
        world.run(&choices);
        prop_assert_eq!(world.ends(), expected(&plan));
        prop_assert!(over.keys().all(|place| world.starts[*place] == starts[*place]), "what is over stays so");
    }

    #[test]
    fn a_stop_at_any_point_ends_it_and_nothing_starts(plan in plan(), choices in choices(), steps in 0_usize..80) {
        let mut world = World::new(plan);
        for choice in choices.iter().copied().cycle().take(steps) {
            if !world.is_done {
                world.step(choice);
            }
        }
        if !world.is_done {
            world.feed(Event::Stop);
            let mut answers = 0;
            while !world.is_done {
                world.step(choices[answers % choices.len()]);
                answers += 1;
                prop_assert!(answers < ENOUGH);
            }
        }
    }
}
