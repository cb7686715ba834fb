//! Lanes on a simulated machine.

use std::sync::Mutex;

use edgewright_checks::RunSummary;
use edgewright_model::Digest;
use edgewright_model::order::check_set_digest;
use edgewright_model::spec::{Assertion, Check};
use edgewright_model::verdict::{CheckOutcome, LaneResult};
use edgewright_process::Ended;

use super::*;
use crate::machine::{BoxFuture, MachineFacts, OnLine, StartCommand};

/// A machine with scripted behaviour, which records the calls of a lane.
#[derive(Debug)]
struct Simulated {
    scale: f64,
    start: Result<(), LaneFault>,
    lines: Vec<(Stream, String)>,
    end: RunnerEnd,
    state: Result<MachineState, LaneFault>,
    /// What follows the checks; none: nothing does.
    after: Option<Result<(), LaneFault>>,
    /// Cancelled when the checks have run.
    cancels: Option<CancellationToken>,
    calls: Mutex<Vec<String>>,
    order: Mutex<Option<(RunOrder, Duration)>>,
}

impl Simulated {
    /// A machine on which these checks pass.
    fn passing(ids: &[&str]) -> Self {
        let mut lines: Vec<(Stream, String)> = ids.iter().map(|id| result(id)).collect();
        lines.push(summary(ids.len()));
        Self {
            scale: 1.0,
            start: Ok(()),
            lines,
            end: RunnerEnd::Ended(Ended::Code(0)),
            state: Ok(MachineState::Runs),
            after: None,
            cancels: None,
            calls: Mutex::default(),
            order: Mutex::default(),
        }
    }

    fn record(&self, what: &str) {
        self.calls.lock().unwrap().push(what.to_owned());
    }

    fn calls(&self) -> String {
        self.calls.lock().unwrap().join(", ")
    }
}

fn line(line: &RunLine) -> (Stream, String) {
    (Stream::Stdout, serde_json::to_string(line).unwrap())
}

fn result(id: &str) -> (Stream, String) {
    let (id, outcome) = (id.parse().unwrap(), CheckOutcome::Passed);
    line(&RunLine::Result(CheckResult { id, outcome, duration_ms: 1, tries: 1, notes: Vec::new() }))
}

fn summary(checks: usize) -> (Stream, String) {
    let runner = "test".to_owned();
    line(&RunLine::Summary(RunSummary { runner, passed: checks, failed: 0, skipped: 0, duration_ms: 1 }))
}

impl Machine for Simulated {
    fn facts(&self) -> MachineFacts {
        MachineFacts {
            profile: "simulated",
            scale: self.scale,
            accelerator: None,
            runner: Digest::of("runner"),
        }
    }

    fn start<'a>(&'a mut self, start: Start<'a>) -> BoxFuture<'a, Result<(), LaneFault>> {
        self.record(if start.keep { "start kept" } else { "start" });
        Box::pin(async { self.start.clone() })
    }

    fn run_checks<'a>(
        &'a self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'a>,
    ) -> BoxFuture<'a, RunnerEnd> {
        self.record("checks");
        *self.order.lock().unwrap() = Some((RunOrder::parse(&order).unwrap(), within));
        for (stream, line) in &self.lines {
            on_line(*stream, line);
        }
        if let Some(cancel) = &self.cancels {
            cancel.cancel();
        }
        Box::pin(async { self.end.clone() })
    }

    fn after_checks<'a>(&'a mut self, _candidate: &'a Digest) -> BoxFuture<'a, Result<(), LaneFault>> {
        if self.after.is_some() {
            self.record("after");
        }
        Box::pin(async { self.after.clone().unwrap_or(Ok(())) })
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>> {
        self.record("state");
        Box::pin(async { self.state.clone() })
    }

    fn evidence<'a>(&'a self, state: &'a MachineState) -> BoxFuture<'a, Vec<Piece>> {
        self.record(if *state == MachineState::Runs { "evidence" } else { "evidence of an ended machine" });
        Box::pin(async { vec![Piece::text("console", b"last words\n".to_vec())] })
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        self.record("stop");
        Box::pin(async {})
    }
}

fn order(ids: &[&str]) -> LaneOrder {
    let check = |id: &&str| Check {
        id: id.parse().unwrap(),
        assert: Assertion::Port { host: "localhost".to_owned(), port: 1 },
        within: "20s".parse().unwrap(),
        lanes: None,
    };
    let checks: Vec<Check> = ids.iter().map(check).collect();
    let check_set = check_set_digest(&checks);
    LaneOrder {
        lane: Lane::Container,
        checks,
        check_set,
        within: "1m".parse().unwrap(),
        keep: false,
        vm: None,
        from: None,
    }
}

async fn run(machine: &mut Simulated, order: &LaneOrder) -> Findings {
    let manifest =
        ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("manifest") };
    let cancel = machine.cancels.clone().unwrap_or_default();
    run_machine(machine, order, &manifest, &cancel, &|_| {}).await
}

fn names(findings: &Findings) -> Vec<&str> {
    findings.pieces.iter().map(|piece| piece.name).collect()
}

#[tokio::test]
async fn a_machine_is_started_checked_inspected_and_stopped() {
    let mut machine = Simulated::passing(&["a", "b"]);
    let findings = run(&mut machine, &order(&["a", "b"])).await;
    assert_eq!((findings.results.len(), &findings.fault), (2, &None));
    assert_eq!(names(&findings), ["runner", "console"]);
    assert_eq!(machine.calls(), "start, checks, state, evidence, stop");
    assert_eq!(judge(&findings.results, findings.fault), LaneResult::Passed);
}

#[tokio::test]
async fn what_follows_the_checks_decides_if_none_failed() {
    let fault = LaneFault::of_image("it did not come back".to_owned());
    let mut machine = Simulated { after: Some(Err(fault.clone())), ..Simulated::passing(&["a"]) };
    let findings = run(&mut machine, &order(&["a"])).await;
    assert_eq!((findings.results.len(), findings.fault), (1, Some(fault.clone())));
    assert_eq!(machine.calls(), "start, checks, after, state, evidence, stop");
    // A check runner without a result is a fault of its own.
    let mut machine =
        Simulated { after: Some(Err(fault.clone())), lines: Vec::new(), ..Simulated::passing(&[]) };
    let findings = run(&mut machine, &order(&["a"])).await;
    assert_ne!(findings.fault, Some(fault));
    assert_eq!(machine.calls(), "start, checks, state, evidence, stop");
}

#[test]
fn a_lane_that_has_nothing_to_do_passes_with_the_reason_at_every_check() {
    let order = order(&["a"]);
    let findings = Findings::skipped("nothing is released yet".to_owned());
    let reason = findings.skipped.clone().unwrap();
    let checks = complete(&order.checks, findings.results, &reason);
    assert_eq!(checks[0].outcome, CheckOutcome::Skipped { reason });
    assert_eq!(judge(&checks, findings.fault), LaneResult::Passed);
}

#[tokio::test]
async fn of_a_machine_that_does_not_start_only_the_evidence_is_asked_for() {
    let fault = LaneFault::of_host("no room".to_owned());
    let mut machine = Simulated { start: Err(fault.clone()), ..Simulated::passing(&["a"]) };
    let findings = run(&mut machine, &order(&["a"])).await;
    assert_eq!(findings.fault, Some(fault));
    assert_eq!(machine.calls(), "start, evidence of an ended machine, stop");
}

#[tokio::test]
async fn an_interrupted_runner_is_the_hosts_fault_and_its_results_count() {
    let mut machine = Simulated::passing(&["a"]);
    machine.lines.pop();
    machine.lines.push((Stream::Stderr, "connection lost".to_owned()));
    machine.end = RunnerEnd::Ended(Ended::Signal(9));
    let findings = run(&mut machine, &order(&["a", "b"])).await;
    let fault = findings.fault.clone().unwrap();
    assert_eq!(fault.kind, FailureKind::Infrastructure);
    assert_eq!(fault.message, "the check runner was interrupted (signal 9): connection lost");
    assert_eq!(findings.results.len(), 1);
    assert_eq!(machine.calls(), "start, checks, state, evidence, stop");

    let cases = [
        (RunnerEnd::Hung, "the machine did not respond within the lane's time limit of 1m"),
        (RunnerEnd::Failed(LaneFault::of_host("no way in".to_owned())), "no way in"),
    ];
    for (end, message) in cases {
        let mut machine = Simulated { end, ..Simulated::passing(&[]) };
        assert_eq!(run(&mut machine, &order(&[])).await.fault.unwrap().message, message);
        assert!(machine.calls().ends_with("stop"));
    }
}

#[tokio::test]
async fn an_init_that_ended_is_the_images_fault_even_if_the_runner_failed() {
    let init = StartCommand { command: "/sbin/init".to_owned(), user: None };
    let ended = MachineState::Ended { init, code: 137, out_of_memory: true };
    let mut machine = Simulated { state: Ok(ended), ..Simulated::passing(&["a"]) };
    machine.lines.pop();
    let findings = run(&mut machine, &order(&["a"])).await;
    let fault = findings.fault.unwrap();
    assert_eq!(fault.kind, FailureKind::Image);
    let want = "the image's init `/sbin/init` ended with 137, out of memory before the checks were done";
    assert_eq!(fault.message, want);
    assert_eq!(machine.calls(), "start, checks, state, evidence of an ended machine, stop");

    // If the state of the machine is unknown, earlier faults are still reported.
    let unknown = LaneFault::of_host("no answer".to_owned());
    let mut machine = Simulated { state: Err(unknown.clone()), ..Simulated::passing(&["a"]) };
    assert_eq!(run(&mut machine, &order(&["a"])).await.fault, Some(unknown.clone()));
    let mut machine = Simulated { state: Err(unknown), end: RunnerEnd::Hung, ..Simulated::passing(&["a"]) };
    assert!(run(&mut machine, &order(&["a"])).await.fault.unwrap().message.contains("did not respond"));
}

#[tokio::test]
async fn a_cancelled_lane_stops_its_machine_and_makes_no_further_calls() {
    let cancels = Some(CancellationToken::new());
    let mut machine = Simulated { cancels, end: RunnerEnd::Cancelled, ..Simulated::passing(&["a"]) };
    let kept = LaneOrder { keep: true, ..order(&["a"]) };
    let findings = run(&mut machine, &kept).await;
    assert_eq!(findings.fault.unwrap().message, "the job was cancelled");
    // Even a machine with `keep` is removed.
    assert_eq!(machine.calls(), "start kept, checks, stop");
}

#[tokio::test]
async fn a_kept_machine_is_not_stopped() {
    let mut machine = Simulated::passing(&["a"]);
    run(&mut machine, &LaneOrder { keep: true, ..order(&["a"]) }).await;
    assert_eq!(machine.calls(), "start kept, checks, state, evidence");
}

#[tokio::test]
async fn a_slow_machine_multiplies_every_limit() {
    let limits = async |scale: f64| {
        let mut machine = Simulated { scale, ..Simulated::passing(&["a"]) };
        run(&mut machine, &order(&["a"])).await;
        let (order, within) = machine.order.lock().unwrap().take().unwrap();
        (order.scale, order.checks[0].within.get(), within)
    };
    let (scale, check, within) = limits(1.0).await;
    assert_eq!((scale, check), (1.0, Duration::from_secs(20)));
    assert!(within <= Duration::from_mins(1));
    // The check's own limit stays: the runner applies the scale. The lane has ten times as long.
    let (scale, check, within) = limits(10.0).await;
    assert_eq!((scale, check), (10.0, Duration::from_secs(20)));
    assert!(within > Duration::from_mins(9), "{within:?}");
    // A limit beyond the lane's time is cut: to a second, which the runner counts as ten.
    let (_, check, within) = limits(0.1).await;
    assert!(within <= Duration::from_secs(6), "{within:?}");
    assert!(check <= Duration::from_secs(10), "{check:?}");
}
