//! One lane: from order to verdict. It never fails: a fault of the host is a verdict of kind
//! `infrastructure`.
//!
//! The lane's time limit covers fetch, start and checks together. Every check's own limit is cut to the time
//! that the lane has left, so that the runner always reports first; only a machine that hangs reaches the
//! lane's limit. A slow machine multiplies all limits by its scale.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgewright_checks::{ORDER_VERSION, RUNNER_SEMANTICS, RunLine, RunOrder};
use edgewright_model::duration::Span;
use edgewright_model::order::{JobId, LaneOrder, ManifestRef};
use edgewright_model::outcome::{FailureKind, JobEvent, Phase};
use edgewright_model::spec::{Lane, VmProfile};
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneProfile, RecordedOn, Verdict, VerdictOrigin};
use edgewright_oci::Client;
use edgewright_process::{CancellationToken, ProcessContext, Stream};

use crate::container::PodmanHost;
use crate::container::machine::ContainerMachine;
use crate::device;
use crate::evidence::{self, Piece};
use crate::machine::{LaneFault, Machine, MachineState, RunnerEnd, Start};
use crate::profile;
use crate::static_lane;
use crate::verdict::{causes_first, complete, cut_limits, describe, judge, milliseconds, output_lines};
use crate::vm::VmHost;
use crate::vm::machine::VmMachine;

/// Receives progress.
pub type Events<'a> = &'a (dyn Fn(JobEvent) + Send + Sync);

/// The part of a lane's time that is reserved for the runner to report its last results.
const REPORTING: Duration = Duration::from_secs(5);

/// The context of a lane.
#[derive(Debug, Clone)]
pub struct LabContext {
    /// podman, for lanes that start containers.
    pub podman: Arc<PodmanHost>,
    /// QEMU, for lanes that start virtual machines.
    pub vm: VmHost,
    /// The order's registry: images come from it, evidence goes to it.
    pub client: Client,
    pub job: JobId,
    /// The job's scratch folder; it exists.
    pub scratch: PathBuf,
    /// Environment of subprocesses, and the token that cancels the job.
    pub processes: ProcessContext,
}

impl LabContext {
    /// The context of commands that must run even after a cancellation.
    pub(crate) fn uncancelled(&self) -> ProcessContext {
        let fresh = ProcessContext::new(CancellationToken::new());
        self.processes.env().iter().fold(fresh, |context, (name, value)| context.with_env(name, value))
    }
}

/// The findings of a lane.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    results: Vec<CheckResult>,
    fault: Option<LaneFault>,
    pieces: Vec<Piece>,
    machine: Duration,
    /// Why there was nothing to do: then no check ran, and none failed.
    skipped: Option<String>,
}

impl Findings {
    /// Whether a check failed.
    fn has_failed(&self) -> bool {
        self.results.iter().any(|result| matches!(result.outcome, CheckOutcome::Failed { .. }))
    }

    /// The lane has nothing to do.
    pub(crate) fn skipped(reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::default() }
    }

    /// The lane ended before its checks.
    pub(crate) fn stopped(fault: LaneFault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }
}

/// Runs one lane on a platform manifest. Do not drop the future: cancel the context's token, so that the
/// machine is removed.
pub async fn run_lane(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> Verdict {
    events(JobEvent::Phase { phase: Phase::Test, title: order.lane.to_string() });
    let (findings, profile, recorded_on) = match order.lane {
        // Boxed: it is large, and would enlarge the future of all lanes.
        Lane::Static => {
            let findings = match Box::pin(static_lane::examine(order, manifest, context, events)).await {
                Ok(results) => Findings { results, ..Findings::default() },
                Err(fault) => Findings::stopped(fault),
            };
            (findings, profile::without_machine(), profile::recorded_on(None))
        }
        Lane::Container => {
            let mut machine = ContainerMachine::new(context);
            let cancel = context.processes.cancel();
            let findings = Box::pin(run_machine(&mut machine, order, manifest, cancel, events)).await;
            let facts = machine.facts();
            let profile = LaneProfile { name: facts.profile.to_owned(), semantics: RUNNER_SEMANTICS };
            (findings, profile, profile::recorded_on(Some(facts)))
        }
        Lane::Vm => Box::pin(run_vm(order, manifest, context, events)).await,
        lane if lane.is_update() => Box::pin(device::run(order, manifest, context, events)).await,
        other => {
            let message = format!("cannot run the lane `{other}`: not supported on this host");
            (
                Findings::stopped(LaneFault::of_host(message)),
                profile::without_machine(),
                RecordedOn::default(),
            )
        }
    };
    verdict(order, manifest, (findings, profile, recorded_on), &context.client, events).await
}

/// Runs one lane on a machine of the caller, which needs neither podman nor QEMU here. Do not drop the
/// future: cancel the token, so that the machine is removed.
pub async fn run_lane_on(
    machine: &mut dyn Machine,
    order: &LaneOrder,
    manifest: &ManifestRef,
    (client, cancel): (&Client, &CancellationToken),
    events: Events<'_>,
) -> Verdict {
    events(JobEvent::Phase { phase: Phase::Test, title: order.lane.to_string() });
    let findings = Box::pin(run_machine(machine, order, manifest, cancel, events)).await;
    let facts = machine.facts();
    let profile = LaneProfile { name: facts.profile.to_owned(), semantics: RUNNER_SEMANTICS };
    verdict(order, manifest, (findings, profile, profile::recorded_on(Some(facts))), client, events).await
}

/// The verdict of a lane that has nothing to do: it passes, with the reason at every check.
pub async fn skip_lane(
    (order, manifest): (&LaneOrder, &ManifestRef),
    profile: LaneProfile,
    reason: String,
    client: &Client,
    events: Events<'_>,
) -> Verdict {
    events(JobEvent::Phase { phase: Phase::Test, title: order.lane.to_string() });
    let findings = device::skipped(order.lane, reason, events);
    verdict(order, manifest, (findings, profile, RecordedOn::default()), client, events).await
}

/// Stores the evidence, and gives the verdict.
async fn verdict(
    order: &LaneOrder,
    manifest: &ManifestRef,
    (findings, profile, recorded_on): (Findings, LaneProfile, RecordedOn),
    client: &Client,
    events: Events<'_>,
) -> Verdict {
    let evidence = evidence::store(findings.pieces, client, &manifest.repository, events).await;
    let reason = match (&findings.fault, &findings.skipped, order.lane) {
        (Some(fault), _, _) => fault.message.as_str(),
        (None, Some(reason), _) => reason.as_str(),
        (None, None, Lane::Static) => "it needs a running system",
        (None, None, _) => "the check runner gave no result",
    };
    let checks = causes_first(&order.checks, complete(&order.checks, findings.results, reason));
    for line in checks.iter().flat_map(output_lines) {
        events(JobEvent::Log { line });
    }
    Verdict {
        lane: order.lane,
        manifest: manifest.clone(),
        check_set: order.check_set.clone(),
        inputs: profile.inputs(order.from_digest()),
        recorded_on,
        result: judge(&checks, findings.fault),
        checks,
        evidence,
        duration_ms: milliseconds(findings.machine),
        origin: VerdictOrigin::Ran,
    }
}

/// Runs a lane on a virtual machine.
async fn run_vm(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> (Findings, LaneProfile, RecordedOn) {
    let spec = order.vm.unwrap_or_default();
    let profile = match spec.profile {
        VmProfile::Direct => edgewright_vm::Profile::Direct,
        VmProfile::Uefi => edgewright_vm::Profile::Uefi,
    };
    let hardware =
        edgewright_vm::Hardware { memory_mib: spec.memory_mib(), ..edgewright_vm::Hardware::default() };
    let lane = LaneProfile { name: spec.profile_name(), semantics: RUNNER_SEMANTICS };
    let mut machine = match VmMachine::new(context, profile, hardware, events).await {
        Ok(machine) => machine,
        Err(fault) => return (Findings::stopped(fault), lane, profile::recorded_on(None)),
    };
    let cancel = context.processes.cancel();
    let findings = Box::pin(run_machine(&mut machine, order, manifest, cancel, events)).await;
    (findings, lane, profile::recorded_on(Some(machine.facts())))
}

/// Starts a machine, runs the checks in it, then inspects it and gathers evidence.
pub(crate) async fn run_machine(
    machine: &mut dyn Machine,
    order: &LaneOrder,
    manifest: &ManifestRef,
    cancel: &CancellationToken,
    events: Events<'_>,
) -> Findings {
    let limit = order.within.get().mul_f64(machine.facts().scale);
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let begun = Instant::now();
    let started = machine.start(Start { manifest, keep: order.keep, within: left() }).await;
    if let Err(fault) = started {
        let state = MachineState::Gone { fault: fault.clone() };
        let pieces = if cancel.is_cancelled() { Vec::new() } else { machine.evidence(&state).await };
        machine.stop().await;
        return Findings { pieces, ..Findings::stopped(fault) };
    }
    // The boots of a device before its checks are what the lane is for.
    let since = if order.lane.is_update() { begun } else { Instant::now() };
    let mut findings = run_checks(machine, order, left(), events).await;
    if findings.fault.is_none()
        && !findings.has_failed()
        && let Err(fault) = machine.after_checks(&manifest.digest).await
    {
        findings.fault = Some(fault);
    }
    findings.machine = since.elapsed();
    if !cancel.is_cancelled() {
        inspect(machine, &mut findings).await;
    }
    if order.keep && !cancel.is_cancelled() {
        events(JobEvent::Log { line: "the machine is kept (`--keep`)".to_owned() });
        events(JobEvent::Kept { repository: manifest.repository.clone() });
    } else {
        machine.stop().await;
    }
    findings
}

/// Checks that the machine still runs, and gathers its evidence.
async fn inspect(machine: &dyn Machine, findings: &mut Findings) {
    let state = match machine.state().await {
        Ok(state) => state,
        Err(fault) => {
            findings.fault.get_or_insert(fault);
            MachineState::Runs
        }
    };
    match &state {
        MachineState::Ended { init, code, out_of_memory } => {
            let memory = if *out_of_memory { ", out of memory" } else { "" };
            findings.fault = Some(LaneFault::of_image(init.ended(&format!("{code}{memory}"))));
        }
        MachineState::Gone { fault } => drop(findings.fault.get_or_insert_with(|| fault.clone())),
        // A failed check explains more than a boot that does not end.
        MachineState::Stuck { fault } if !findings.has_failed() => {
            findings.fault.get_or_insert_with(|| fault.clone());
        }
        MachineState::Stuck { .. } | MachineState::Runs => {}
    }
    findings.pieces.extend(machine.evidence(&state).await);
}

/// The output of the check runner.
#[derive(Debug, Default)]
struct RunnerOutput {
    results: Vec<CheckResult>,
    has_summary: bool,
    output: Vec<u8>,
    last_error: Option<String>,
}

impl RunnerOutput {
    fn line(&mut self, stream: Stream, line: &str, events: Events<'_>) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
        evidence::keep_end(&mut self.output);
        match (stream, serde_json::from_str::<RunLine>(line)) {
            (Stream::Stdout, Ok(RunLine::Result(result))) => {
                events(JobEvent::Log { line: describe(&result) });
                self.results.push(result);
            }
            (Stream::Stdout, Ok(RunLine::Summary(_))) => self.has_summary = true,
            _ => self.last_error = Some(line.to_owned()),
        }
    }

    /// Why the runner did not finish; none if it did.
    fn fault(&self, end: RunnerEnd, limit: Span) -> Option<LaneFault> {
        match end {
            RunnerEnd::Ended(_) if self.has_summary => None,
            RunnerEnd::Ended(ended) => {
                let reason = self.last_error.as_ref().map(|line| format!(": {line}")).unwrap_or_default();
                Some(LaneFault::of_host(format!("the check runner was interrupted ({ended}){reason}")))
            }
            RunnerEnd::Cancelled => Some(LaneFault::of_host("the job was cancelled".to_owned())),
            RunnerEnd::Hung => Some(LaneFault::of_host(format!(
                "the machine did not respond within the lane's time limit of {limit}"
            ))),
            RunnerEnd::Failed(fault) => Some(fault),
        }
    }
}

/// The order of the check runner as JSON. `scale` is that of the machine, `starts` what it runs as process 1.
///
/// # Errors
/// The order cannot be written, which is a defect.
pub fn runner_order(
    order: &LaneOrder,
    (within, scale): (Duration, f64),
    starts: Option<String>,
) -> serde_json::Result<Vec<u8>> {
    // The runner applies the scale itself.
    let unscaled = within.saturating_sub(REPORTING).div_f64(scale);
    serde_json::to_vec(&RunOrder {
        version: ORDER_VERSION,
        lane: order.lane,
        checks: cut_limits(&order.checks, unscaled),
        scale,
        starts,
    })
}

/// Passes the order to the check runner and collects its results.
async fn run_checks(
    machine: &dyn Machine,
    order: &LaneOrder,
    within: Duration,
    events: Events<'_>,
) -> Findings {
    let json = match runner_order(order, (within, machine.facts().scale), machine.starts()) {
        Ok(json) => json,
        Err(error) => {
            let message = format!("cannot write the order for the check runner: {error}");
            return Findings::stopped(LaneFault { kind: FailureKind::Infrastructure, message });
        }
    };
    let total = order.checks.len() as u64;
    let progress = |done| events(JobEvent::Progress { done, total: Some(total), unit: "checks".to_owned() });
    progress(0);
    let mut output = RunnerOutput::default();
    let mut on_line = |stream: Stream, line: &str| {
        let before = output.results.len();
        output.line(stream, line, events);
        if output.results.len() > before {
            progress(output.results.len() as u64);
        }
    };
    let end = machine.run_checks(json, within, &mut on_line).await;
    let fault = output.fault(end, order.within);
    evidence::bound(&mut output.output);
    let runner = Piece { name: "runner", media_type: "application/x-ndjson", bytes: output.output };
    let pieces = if runner.bytes.is_empty() { Vec::new() } else { vec![runner] };
    Findings { results: output.results, fault, pieces, ..Findings::default() }
}

#[cfg(test)]
mod tests;
