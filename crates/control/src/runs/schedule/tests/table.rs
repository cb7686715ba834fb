//! Every stage × every event: what follows, as a table that people can read (`transitions.txt`).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use edgewright_model::outcome::FailureKind;
use edgewright_model::run::{NodeState, RunNumber};
use jiff::SignedDuration;

use super::{LIMITS, at, id, verdict};
use crate::runs::schedule::state::Stage;
use crate::runs::schedule::{Action, End, Event, Job, JobEnd, Judgement, NodeFacts, Position, Schedule};

fn facts(name: &str, after: &[&str], position: Position) -> NodeFacts {
    NodeFacts {
        id: id(name),
        after: after.iter().map(|name| id(name)).collect(),
        awaits: Vec::new(),
        inherits_external: false,
        attempts: 0,
        position,
    }
}

/// A schedule of one node, `n`, after these events at second 0.
fn after(position: Position, events: &[Event]) -> Schedule {
    let mut schedule = Schedule::new(vec![facts("n", &[], position)], LIMITS);
    for event in events {
        drop(schedule.handle(event.clone(), at(0)));
    }
    schedule
}

fn job() -> Job {
    Job::Node(id("n"))
}

fn compare() -> BTreeSet<edgewright_plan::history::VerdictKey> {
    BTreeSet::from([verdict("v")])
}

fn judged(judgement: Judgement) -> Event {
    Event::Judged { node: id("n"), judgement }
}

fn ended(end: JobEnd) -> Event {
    Event::JobEnded { node: id("n"), end }
}

const WAITING: Position = Position::Waiting { not_before: None };
const AWAITING: Position = Position::Awaiting { until: jiff::Timestamp::UNIX_EPOCH };

/// Every stage, with the events that lead to it.
fn stages() -> Vec<(&'static str, Schedule)> {
    let to_judging = || vec![Event::Started, Event::Admitted(job()), ended(JobEnd::Done)];
    let awaits = || judged(Judgement::Awaits { within: SignedDuration::from_secs(60) });
    let with = |more: Vec<Event>| after(WAITING, &[to_judging(), more].concat());
    let held = Position::Waiting { not_before: Some(at(100)) };
    let compares = || judged(Judgement::Compare(compare()));
    let settled = || Event::Settled(id("n"));
    vec![
        ("waiting", after(held, &[Event::Started])),
        ("admitting", after(WAITING, &[Event::Started])),
        ("running", after(WAITING, &[Event::Started, Event::Admitted(job())])),
        ("judging", with(vec![])),
        ("judging, awaited until 0", after(AWAITING, &[Event::Started])),
        ("settling passed", with(vec![judged(Judgement::Passed)])),
        ("settling failed", with(vec![judged(Judgement::Failed(FailureKind::Image))])),
        ("settling retry", with(vec![judged(Judgement::Failed(FailureKind::Infrastructure))])),
        ("settling compare", with(vec![compares()])),
        ("settling await", with(vec![awaits()])),
        ("comparing, admitting", with(vec![compares(), settled()])),
        (
            "comparing, running",
            with(vec![compares(), settled(), Event::Admitted(Job::Comparison(verdict("v")))]),
        ),
        ("awaiting, checking", with(vec![awaits(), settled()])),
        (
            "awaiting, checked",
            with(vec![awaits(), settled(), Event::VerdictsChecked { posted: Vec::new(), newer: None }]),
        ),
        ("stopped", after(WAITING, &[Event::Started, Event::Stopped(job())])),
        ("ended", after(Position::Ended(NodeState::Reused), &[Event::Started])),
    ]
}

/// Every event, as it comes at second 1.
fn events() -> Vec<(&'static str, Event)> {
    let comparison = || Job::Comparison(verdict("v"));
    let kind = FailureKind::Infrastructure;
    vec![
        ("started", Event::Started),
        ("admitted", Event::Admitted(job())),
        ("admitted comparison", Event::Admitted(comparison())),
        ("deferred", Event::Deferred { job: job(), until: at(9) }),
        ("deferred comparison", Event::Deferred { job: comparison(), until: at(9) }),
        ("refused", Event::Refused { job: job(), kind }),
        ("refused comparison", Event::Refused { job: comparison(), kind }),
        ("job done", ended(JobEnd::Done)),
        ("job failed, image", ended(JobEnd::Failed(FailureKind::Image))),
        ("job failed, infrastructure", ended(JobEnd::Failed(kind))),
        ("compared", Event::Compared(verdict("v"))),
        ("job stopped", Event::Stopped(job())),
        ("comparison stopped", Event::Stopped(comparison())),
        ("judged passed", judged(Judgement::Passed)),
        ("judged failed, image", judged(Judgement::Failed(FailureKind::Image))),
        ("judged failed, infrastructure", judged(Judgement::Failed(kind))),
        ("judged compare", judged(Judgement::Compare(compare()))),
        ("judged awaits", judged(Judgement::Awaits { within: SignedDuration::from_secs(60) })),
        ("settled", Event::Settled(id("n"))),
        ("verdict posted", Event::VerdictsChecked { posted: vec![id("n")], newer: None }),
        ("newer run", Event::VerdictsChecked { posted: Vec::new(), newer: Some(RunNumber(8)) }),
        ("tick", Event::Tick),
        ("stop", Event::Stop),
    ]
}

fn end(end: &End) -> String {
    match end {
        End::Retry { at } => format!("retry at {}", at.as_second()),
        End::Await { until } => format!("await until {}", until.as_second()),
        End::Unanswered { until } => format!("unanswered until {}", until.as_second()),
        End::Superseded { by } => format!("superseded by {by}"),
        End::Blocked { cause } => format!("blocked by {}", cause.name),
        End::Passed | End::Failed | End::Compare => format!("{end:?}").to_lowercase(),
    }
}

fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Settling(of) => format!("settling {}", end(of)),
        Stage::Ended(with) => format!("ended {with}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Admit(Job::Node(_)) => "admit".to_owned(),
        Action::Admit(Job::Comparison(_)) => "admit comparison".to_owned(),
        Action::Start(_) => "start".to_owned(),
        Action::Compare { .. } => "compare".to_owned(),
        Action::Judge(_) => "judge".to_owned(),
        Action::Settle { end: of, .. } => format!("settle {}", end(of)),
        Action::CheckVerdicts => "check verdicts".to_owned(),
        Action::WakeAt(at) => format!("wake at {}", at.as_second()),
        Action::Stop => "stop".to_owned(),
        Action::Done => "done".to_owned(),
    }
}

#[test]
fn every_event_in_every_stage_matches_the_table() {
    let mut table = String::new();
    for (number, (name, _)) in stages().into_iter().enumerate() {
        writeln!(table, "{name}").unwrap();
        let mut idle = Vec::new();
        for (label, event) in events() {
            let (_, mut schedule) = stages().swap_remove(number);
            let before = (schedule.nodes[0].stage.clone(), schedule.outstanding);
            let timed = |action: &Action| !matches!(action, Action::WakeAt(_) | Action::Done);
            let actions = schedule.handle(event, at(1));
            if before == (schedule.nodes[0].stage.clone(), schedule.outstanding) && !actions.iter().any(timed)
            {
                idle.push(label);
                continue;
            }
            let actions: Vec<String> = actions.iter().map(action).collect();
            let stage = stage(&schedule.nodes[0].stage);
            writeln!(table, "  {label} → {stage}: {}", actions.join(", ")).unwrap();
        }
        writeln!(table, "  nothing: {}\n", idle.join("; ")).unwrap();
    }
    // The table is written by hand, so that a changed transition shows what else changes.
    assert_eq!(table, include_str!("transitions.txt"), "as it is now:\n{table}");
}

#[test]
fn a_node_is_blocked_by_the_first_before_it_that_is_not_good() {
    let good = Position::Ended(NodeState::Passed);
    let bad = Position::Ended(NodeState::Failed);
    let blocked = |cause| vec![Action::Settle { node: id("n"), end: End::Blocked { cause: id(cause) } }];
    let starts = vec![Action::Admit(job())];
    for (first, second, expected) in [
        (good, Position::Ended(NodeState::Reused), starts),
        (good, bad, blocked("b")),
        (Position::Ended(NodeState::Blocked), bad, blocked("a")),
        (WAITING, bad, vec![blocked("b").remove(0), Action::Admit(Job::Node(id("a")))]),
        (WAITING, good, vec![Action::Admit(Job::Node(id("a")))]),
    ] {
        let nodes =
            vec![facts("a", &[], first), facts("b", &[], second), facts("n", &["a", "b", "gone"], WAITING)];
        let actions = Schedule::new(nodes, LIMITS).handle(Event::Started, at(0));
        assert_eq!(actions, expected, "{first:?} {second:?}");
    }
}

#[test]
fn an_heir_waits_until_the_lanes_of_its_representative_ran() {
    let heir = |inherits_external, position| {
        let heir = NodeFacts { awaits: vec![id("a")], inherits_external, ..facts("n", &[], WAITING) };
        let mut schedule = Schedule::new(vec![facts("a", &[], position), heir], LIMITS);
        schedule.handle(Event::Started, at(0)).contains(&Action::Admit(job()))
    };
    let awaiting = Position::Awaiting { until: at(60) };
    for (position, inherits_external, starts) in [
        (Position::Ended(NodeState::Failed), false, true),
        (WAITING, false, false),
        (Position::Comparing, false, false),
        // It is tested here and waits for others, whom not every heir waits for.
        (awaiting, false, true),
        (awaiting, true, false),
    ] {
        assert_eq!(heir(inherits_external, position), starts, "{position:?} {inherits_external}");
    }
}

#[test]
fn nodes_that_miss_the_same_verdict_share_its_comparison_and_others_are_admitted_meanwhile() {
    let nodes = vec![
        facts("a", &[], Position::Comparing),
        facts("b", &[], Position::Comparing),
        facts("n", &[], WAITING),
    ];
    let mut schedule = Schedule::new(nodes, LIMITS);
    let mut seen = schedule.handle(Event::Started, at(0));
    for name in ["a", "b"] {
        let judgement = Judgement::Compare(compare());
        seen.extend(schedule.handle(Event::Judged { node: id(name), judgement }, at(0)));
    }
    let comparison = Job::Comparison(verdict("v"));
    seen.extend(schedule.handle(Event::Admitted(job()), at(0)));
    seen.extend(schedule.handle(Event::Admitted(comparison.clone()), at(0)));
    seen.extend(schedule.handle(Event::Compared(verdict("v")), at(0)));
    assert!(schedule.compared().contains(&verdict("v")));
    assert_eq!(
        seen,
        [
            Action::Judge(id("a")),
            Action::Judge(id("b")),
            Action::Admit(job()),
            // One request at a time.
            Action::Start(id("n")),
            Action::Admit(comparison),
            Action::Compare { verdict: verdict("v"), node: id("a") },
            Action::Judge(id("a")),
            Action::Judge(id("b")),
        ]
    );
}
