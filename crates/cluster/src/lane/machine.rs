//! A Pod as the machine of a lane.

use std::future::ready;
use std::ops::ControlFlow;
use std::time::Duration;

use edgewright_checks::MachineLine;
use edgewright_job::ExecutorError;
use edgewright_lab::machine::{
    BoxFuture, LaneFault, Machine, MachineFacts, MachineState, OnLine, RunnerEnd, Start as LaneStart,
    StartCommand,
};
use edgewright_lab::{Piece, bound, keep_end};
use edgewright_model::frame::{Deframer, LogLine};
use edgewright_model::order::{JobRequest, ManifestRef};
use edgewright_model::outcome::JobEvent;
use edgewright_oci::Client;
use edgewright_process::{CancellationToken, Ended, Stream};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::image::Start;
use super::on_cluster::{OnCluster, give_order, leave, not_started, scheduled};
use super::{PIECES, pod};
use crate::claims::Claim;
use crate::executor::Inner;
use crate::follow::{Followed, Sink, Target, follow};
use crate::job::pod_stage;
use crate::stage::{End, Stage, Wait};

/// The name of this kind of machine in verdicts.
pub(crate) const PROFILE: &str = "pod";

/// A Pod of a lane.
#[derive(Debug)]
pub(crate) struct PodMachine<'a> {
    inner: &'a Inner,
    request: &'a JobRequest,
    client: &'a Client,
    manifest: &'a ManifestRef,
    cancel: &'a CancellationToken,
    claim: Option<Claim>,
    pod: Option<Pod>,
    start: Start,
    seen: Mutex<Seen>,
}

/// What was seen of it.
#[derive(Debug, Default)]
struct Seen {
    console: Vec<u8>,
    pieces: Vec<Piece>,
    /// How the image's init ended, before the runner was done.
    ended: Option<End>,
    /// Why the cluster ended it.
    lost: Option<String>,
}

impl<'a> PodMachine<'a> {
    pub(crate) fn new(
        inner: &'a Inner,
        request: &'a JobRequest,
        (client, manifest): (&'a Client, &'a ManifestRef),
        cancel: &'a CancellationToken,
        claim: Claim,
    ) -> Self {
        let (start, seen) = (Start::default(), Mutex::default());
        Self { inner, request, client, manifest, cancel, claim: Some(claim), pod: None, start, seen }
    }

    fn name(&self) -> String {
        self.claim.as_ref().map(|claim| claim.attempt().name()).unwrap_or_default()
    }

    fn has_node(&self, name: &str) -> bool {
        let pod = self.inner.cluster.pods.get(name);
        pod.is_some_and(|pod| {
            let is_over = matches!(pod_stage(self.inner, name, pod::CONTAINER), Some(Stage::Ended { .. }));
            is_over || pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
        })
    }
}

impl OnCluster for PodMachine<'_> {
    async fn prepare(&mut self, events: &mpsc::Sender<JobEvent>) -> Result<(), ExecutorError> {
        self.start = Start::read(self.client, self.manifest).await?;
        let Some(claim) = &self.claim else { return Ok(()) };
        let inner = self.inner;
        let wanted = pod::pod(claim.attempt(), self.request, (self.manifest, &self.start), &inner.settings);
        let pods = &inner.cluster.pods;
        let created = inner.patiently("create the Pod", events, || Box::pin(pods.create(&wanted)));
        self.pod = Some(created.await?.0);
        let name = self.name();
        scheduled(inner, (&name, "the Pod"), events, || match pod_stage(inner, &name, pod::CONTAINER) {
            Some(Stage::Waits(Some(wait @ Wait::Node(_)))) => ControlFlow::Continue(Some(wait)),
            Some(_) if self.has_node(&name) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(None),
        })
        .await
    }

    async fn discard(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.inner.remove(claim).await;
        }
    }

    fn lost(&mut self) -> Option<String> {
        self.seen.get_mut().lost.take()
    }
}

impl Machine for PodMachine<'_> {
    fn facts(&self) -> MachineFacts {
        let runner = self.inner.settings.runner.clone();
        MachineFacts { profile: PROFILE, scale: 1.0, accelerator: None, runner }
    }

    fn start<'s>(&'s mut self, _start: LaneStart<'s>) -> BoxFuture<'s, Result<(), LaneFault>> {
        Box::pin(ready(Ok(())))
    }

    fn run_checks<'s>(
        &'s self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'s>,
    ) -> BoxFuture<'s, RunnerEnd> {
        Box::pin(async move {
            if let Err(fault) = give_order(self.inner, &self.inner.cluster, self.pod.as_ref(), order).await {
                return RunnerEnd::Failed(fault);
            }
            let name = self.name();
            let mut seen = self.seen.lock().await;
            let mut log = PodLog::new(on_line, &mut seen);
            let stage = || pod_stage(self.inner, &name, pod::CONTAINER);
            let target = Target { container: pod::CONTAINER, stage: &stage, within, to_its_end: false };
            let followed = tokio::select! {
                () = self.cancel.cancelled() => return RunnerEnd::Cancelled,
                followed = timeout(within, follow(&self.inner.cluster, &target, &mut log)) => followed,
            };
            let (wait, is_done) = (log.wait.take(), log.is_done);
            drop(log);
            match followed {
                Ok(Followed::Done) => RunnerEnd::Ended(Ended::Code(0)),
                Ok(Followed::Ended(_)) if is_done => RunnerEnd::Ended(Ended::Code(0)),
                Ok(Followed::Ended(End::Infrastructure(why))) => lost(&mut seen, why),
                Ok(Followed::Gone) => lost(&mut seen, "its Pod was removed by another client".to_owned()),
                Ok(Followed::NeverStarted(wait)) => lost(&mut seen, not_started(wait)),
                Ok(Followed::Ended(End::Refused(why))) => RunnerEnd::Failed(LaneFault::of_host(why)),
                Ok(Followed::Ended(end @ (End::Process(_) | End::OutOfMemory))) => {
                    let ended = if let End::Process(ended) = end { ended } else { Ended::Signal(9) };
                    seen.ended = Some(end);
                    RunnerEnd::Ended(ended)
                }
                Ok(Followed::TooLong | Followed::Ended(End::TimeLimit)) => RunnerEnd::Hung,
                Err(_) => match wait {
                    Some(wait) => RunnerEnd::Failed(LaneFault::of_host(format!("the machine {wait}"))),
                    None => RunnerEnd::Hung,
                },
            }
        })
    }

    fn starts(&self) -> Option<String> {
        Some(self.start.described().to_string())
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>> {
        Box::pin(async {
            let init: StartCommand = self.start.described();
            Ok(match &self.seen.lock().await.ended {
                Some(End::OutOfMemory) => MachineState::Ended { init, code: 137, out_of_memory: true },
                Some(End::Process(Ended::Code(code))) => {
                    MachineState::Ended { init, code: i64::from(*code), out_of_memory: false }
                }
                Some(End::Process(Ended::Signal(signal))) => {
                    MachineState::Ended { init, code: 128 + i64::from(*signal), out_of_memory: false }
                }
                _ => MachineState::Runs,
            })
        })
    }

    fn evidence<'s>(&'s self, _state: &'s MachineState) -> BoxFuture<'s, Vec<Piece>> {
        Box::pin(async {
            let mut seen = self.seen.lock().await;
            let mut pieces = std::mem::take(&mut seen.pieces);
            let mut console = std::mem::take(&mut seen.console);
            bound(&mut console);
            pieces.push(Piece::text("console", console));
            pieces.retain(|piece| !piece.bytes.is_empty());
            pieces
        })
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        let (claim, is_lost) = (self.claim.take(), self.seen.get_mut().lost.is_some());
        Box::pin(leave(self.inner, claim, is_lost, |name| pod_stage(self.inner, name, pod::CONTAINER)))
    }
}

fn lost(seen: &mut Seen, why: String) -> RunnerEnd {
    seen.lost = Some(why.clone());
    RunnerEnd::Failed(LaneFault::of_host(why))
}

/// The log of a machine: frames are the runner's, other lines the console.
struct PodLog<'a, 's> {
    on_line: OnLine<'a>,
    seen: &'s mut Seen,
    frames: Deframer,
    has_summary: bool,
    is_done: bool,
    wait: Option<Wait>,
}

impl<'a, 's> PodLog<'a, 's> {
    fn new(on_line: OnLine<'a>, seen: &'s mut Seen) -> Self {
        Self { on_line, seen, frames: Deframer::default(), has_summary: false, is_done: false, wait: None }
    }

    fn record(&mut self, record: &str) {
        match serde_json::from_str(record) {
            Ok(MachineLine::End) => self.is_done = self.has_summary,
            Ok(MachineLine::Evidence { name, text }) => {
                if let Some(name) = PIECES.into_iter().find(|piece| *piece == name) {
                    self.seen.pieces.push(Piece::text(name, text.into_bytes()));
                }
            }
            // Pods do not boot and are no devices, and the cluster knows whether they run.
            Ok(_) => {}
            Err(_) => {
                self.has_summary |= record.starts_with("{\"line\":\"summary\"");
                (self.on_line)(Stream::Stdout, record);
            }
        }
    }
}

impl Sink for PodLog<'_, '_> {
    fn begin(&mut self) {
        self.seen.console.clear();
    }

    fn line(&mut self, line: &str) {
        match self.frames.line(line) {
            LogLine::Record(record) => self.record(&record),
            LogLine::Frame => {}
            LogLine::Text(text) => {
                if !text.trim().is_empty() {
                    self.seen.console.extend_from_slice(text.as_bytes());
                    self.seen.console.push(b'\n');
                    keep_end(&mut self.seen.console);
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn waits(&mut self, wait: Option<&Wait>) {
        self.wait = wait.cloned();
    }
}
