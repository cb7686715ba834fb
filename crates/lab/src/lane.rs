//! One lane: from order to verdict. It never fails: a fault of the host is a verdict of kind `infrastructure`.
//!
//! The lane's time limit holds for pull, start and checks together. Every check's own limit is cut to what the lane has
//! left, so that the runner always answers first; only a podman that hangs meets the lane's limit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use edgewright_checks::{ORDER_VERSION, RunLine, RunOrder};
use edgewright_model::order::{JobId, LaneOrder, ManifestRef};
use edgewright_model::outcome::{FailureKind, JobEvent, Phase};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckResult, Verdict, VerdictOrigin};
use edgewright_oci::Client;
use edgewright_process::{CancellationToken, CommandError, ProcessContext, Stream};

use crate::container::{self, Container, Init, Trouble};
use crate::engine::Engine;
use crate::evidence::{self, Piece};
use crate::profile::{recorded_on, verdict_inputs};
use crate::runner::Runner;
use crate::statics;
use crate::verdict::{complete, cut_limits, describe, judge, milliseconds};

/// Hears of progress.
pub type Events<'a> = &'a (dyn Fn(JobEvent) + Send + Sync);

/// What the lane keeps back of its time for the runner to say its last results.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a lane works with.
#[derive(Debug, Clone)]
pub struct LabContext {
    /// podman.
    pub engine: Engine,
    /// The check runner.
    pub runner: Runner,
    /// The order's registry: images come from it, evidence goes to it.
    pub client: Client,
    /// The job.
    pub job: JobId,
    /// The job's scratch folder; it exists.
    pub scratch: PathBuf,
    /// Environment of subprocesses, and the token that cancels the job.
    pub processes: ProcessContext,
}

impl LabContext {
    /// For what must be done after a cancellation, too.
    pub(crate) fn uncancelled(&self) -> ProcessContext {
        let fresh = ProcessContext::new(CancellationToken::new());
        self.processes.env().iter().fold(fresh, |context, (name, value)| context.with_env(name, value))
    }
}

/// What happened in the machine.
#[derive(Debug, Default)]
struct Findings {
    results: Vec<CheckResult>,
    trouble: Option<Trouble>,
    pieces: Vec<Piece>,
    machine: Duration,
}

impl Findings {
    /// The lane did not get to the checks.
    fn stopped(trouble: Trouble) -> Self {
        Self { trouble: Some(trouble), ..Self::default() }
    }
}

/// Runs one lane on a platform manifest. Do not drop the future: cancel the context's token, and the container goes.
pub async fn run_lane(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> Verdict {
    events(JobEvent::Phase { phase: Phase::Test, title: order.lane.to_string() });
    let findings = match order.lane {
        // Boxed: it is large, and verdicts of other lanes should not carry it.
        Lane::Container => Box::pin(run_container(order, manifest, context, events)).await,
        Lane::Static => match Box::pin(statics::examine(order, manifest, context, events)).await {
            Ok(results) => Findings { results, ..Findings::default() },
            Err(trouble) => Findings::stopped(trouble),
        },
        other => Findings::stopped(Trouble {
            kind: FailureKind::Infrastructure,
            message: format!("the lane `{other}` cannot be run on this host yet"),
        }),
    };
    let evidence = evidence::store(findings.pieces, context, &manifest.repository, events).await;
    let reason = match (&findings.trouble, order.lane) {
        (Some(trouble), _) => trouble.message.as_str(),
        (None, Lane::Static) => "it needs a running system",
        (None, _) => "the check runner did not decide it",
    };
    let checks = complete(&order.checks, findings.results, reason);
    Verdict {
        lane: order.lane,
        manifest: manifest.clone(),
        check_set: order.check_set.clone(),
        inputs: verdict_inputs(order.lane),
        recorded_on: recorded_on(order.lane, context.runner.digest.clone()),
        result: judge(&checks, findings.trouble),
        checks,
        evidence,
        duration_ms: milliseconds(findings.machine),
        origin: VerdictOrigin::Ran,
    }
}

async fn run_container(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> Findings {
    let deadline = Instant::now() + order.within.get();
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let image = match container::pull(context, manifest, left()).await {
        Ok(image) => image,
        Err(trouble) => return Findings::stopped(trouble),
    };
    let machine = Instant::now();
    let kept = order.keep.then_some(&manifest.repository);
    let container = match Container::start(context, &image, kept, left()).await {
        Ok(container) => container,
        Err(trouble) => return Findings::stopped(trouble),
    };
    let mut findings = run_checks(&container, order, context, left(), events).await;
    findings.machine = machine.elapsed();

    if !context.processes.cancel().is_cancelled() {
        let init = container.init(&context.processes).await;
        match &init {
            Ok(Init::Runs) => {}
            Ok(Init::Ended { code, out_of_memory }) => {
                let init = &container.command;
                let memory = if *out_of_memory { ", out of memory" } else { "" };
                let message = format!(
                    "the image's init `{init}` ended with {code}{memory} before the checks were done"
                );
                findings.trouble = Some(Trouble { kind: FailureKind::Image, message });
            }
            Err(trouble) => findings.trouble = findings.trouble.or_else(|| Some(trouble.clone())),
        }
        let pieces = evidence::gather(&container, context, &init.unwrap_or(Init::Runs)).await;
        findings.pieces.extend(pieces);
    }
    if order.keep && !context.processes.cancel().is_cancelled() {
        events(JobEvent::Log { line: "the machine is kept".to_owned() });
    } else {
        container.remove(context).await;
    }
    findings
}

/// Brings the order in and takes the results out.
async fn run_checks(
    container: &Container<'_>,
    order: &LaneOrder,
    context: &LabContext,
    within: Duration,
    events: Events<'_>,
) -> Findings {
    let run_order = RunOrder {
        version: ORDER_VERSION,
        lane: order.lane,
        checks: cut_limits(&order.checks, within.saturating_sub(LAST_WORDS)),
        scale: 1.0,
    };
    let json = match serde_json::to_vec(&run_order) {
        Ok(json) => json,
        Err(error) => {
            let message = format!("the order for the check runner cannot be written: {error}");
            return Findings::stopped(Trouble { kind: FailureKind::Infrastructure, message });
        }
    };
    let total = order.checks.len() as u64;
    let progress = |done| events(JobEvent::Progress { done, total: Some(total), unit: "checks".to_owned() });
    progress(0);

    let mut results = Vec::new();
    let mut has_summary = false;
    let mut output = Vec::new();
    let mut last_error = None;
    let on_line = |stream: Stream, line: &str| {
        output.extend_from_slice(line.as_bytes());
        output.push(b'\n');
        evidence::keep_end(&mut output);
        match (stream, serde_json::from_str::<RunLine>(line)) {
            (Stream::Stdout, Ok(RunLine::Result(result))) => {
                events(JobEvent::Log { line: describe(&result) });
                results.push(result);
                progress(results.len() as u64);
            }
            (Stream::Stdout, Ok(RunLine::Summary(_))) => has_summary = true,
            _ => last_error = Some(line.to_owned()),
        }
    };
    let ended = container.run_checks(json, &context.processes, within, on_line).await;
    let trouble = match ended {
        Ok(_) if has_summary => None,
        Ok(finished) => {
            let said = last_error.map(|line| format!(": {line}")).unwrap_or_default();
            let message = format!("the check runner was cut off ({}){said}", finished.ended);
            Some(Trouble { kind: FailureKind::Infrastructure, message })
        }
        Err(CommandError::Cancelled { .. }) => {
            Some(Trouble { kind: FailureKind::Infrastructure, message: "the job was cancelled".to_owned() })
        }
        Err(CommandError::Deadline { .. }) => {
            let message = format!("podman hung until the lane's time limit of {} was over", order.within);
            Some(Trouble { kind: FailureKind::Infrastructure, message })
        }
        Err(error) => Some(Trouble::infrastructure("the check runner cannot be brought in", &error)),
    };
    evidence::bound(&mut output);
    let runner = Piece { name: "runner", media_type: "application/x-ndjson", bytes: output };
    let pieces = if runner.bytes.is_empty() { Vec::new() } else { vec![runner] };
    Findings { results, trouble, pieces, ..Findings::default() }
}
