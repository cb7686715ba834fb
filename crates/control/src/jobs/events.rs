//! A job's events on their way to followers, its log and its node's row.

use std::time::Duration;

use edgewright_job::Permit;
use edgewright_model::error::Chain;
use edgewright_model::order::JobRequest;
use edgewright_model::outcome::{JobEvent, JobOutcome, Phase};
use edgewright_model::tools::ToolVersions;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Jobs, Label, RunScope, made_nothing};
use crate::ControlError;
use crate::events::RunEventKind;
use crate::logs::{LogFile, TOOLS_LOG};

/// Events of one job that wait to be handled.
const BACKLOG: usize = 256;
/// A phase is for people to see: one that is over sooner is not worth a write.
const PHASE_LASTS: Duration = Duration::from_millis(200);

impl Jobs {
    /// Has the executor do an admitted job and passes its events on. What goes wrong outside of the job is an
    /// infrastructure failure of it.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped.
    pub(crate) async fn perform(
        &self,
        scope: &RunScope<'_>,
        label: Label<'_>,
        request: JobRequest,
        permit: Permit,
    ) -> Result<JobOutcome, ControlError> {
        // A log that cannot be written never fails a job.
        let mut log = self.logs.open(scope.run, label.name, label.platform).await.ok();
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let work = self.executor.run(request, permit, sender, scope.cancel.clone());
        let (outcome, ()) = tokio::join!(work, self.pass_on_all(scope, label, receiver, log.as_mut()));
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(_) if scope.cancel.is_cancelled() => Err(ControlError::Stopped),
            Err(error) => {
                let failure = error.failure();
                if let Some(log) = &mut log {
                    log.line(&format!("the job broke: {}", failure.message)).await;
                }
                Ok(made_nothing(Some(failure)))
            }
        }
    }

    /// The programs that decide about the bytes of images. If the executor makes them first, that is logged
    /// as the work of `tools`.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped.
    pub(crate) async fn tools(&self, scope: &RunScope<'_>) -> Result<ToolVersions, ControlError> {
        let label = Label { name: TOOLS_LOG, platform: None, is_node: false };
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        let passing = async {
            let mut log = None;
            while let Some(event) = receiver.recv().await {
                if log.is_none() {
                    log = self.logs.open(scope.run, label.name, label.platform).await.ok();
                }
                self.pass_on(scope, label, event, log.as_mut()).await;
            }
        };
        let (tools, ()) = tokio::join!(self.executor.tools(sender, scope.cancel), passing);
        if scope.cancel.is_cancelled() { Err(ControlError::Stopped) } else { Ok(tools) }
    }

    /// Until the job drops its side of the channel.
    async fn pass_on_all(
        &self,
        scope: &RunScope<'_>,
        label: Label<'_>,
        mut receiver: mpsc::Receiver<JobEvent>,
        mut log: Option<&mut LogFile>,
    ) {
        let mut lasting = Lasting::default();
        loop {
            tokio::select! {
                event = receiver.recv() => {
                    let Some(event) = event else { break };
                    if let JobEvent::Phase { phase, .. } = &event {
                        lasting.begins(*phase);
                    }
                    self.pass_on(scope, label, event, log.as_deref_mut()).await;
                }
                phase = lasting.lasts() => self.note_phase(scope, label, phase).await,
            }
        }
    }

    async fn note_phase(&self, scope: &RunScope<'_>, label: Label<'_>, phase: Phase) {
        if let Some(platform) = label.platform.filter(|_| label.is_node)
            && let Err(error) = self.store.note_phase(scope.run, label.name, platform, phase).await
        {
            tracing::warn!(error = %Chain(&error), node = label.name, "a phase was not noted");
        }
    }

    async fn pass_on(
        &self,
        scope: &RunScope<'_>,
        label: Label<'_>,
        event: JobEvent,
        log: Option<&mut LogFile>,
    ) {
        let node = label.name.to_owned();
        let (kind, line) = match event {
            JobEvent::Phase { phase, title } => {
                let line = format!("── {} {title}", phase.name());
                (RunEventKind::Phase { node, phase, title }, Some(line))
            }
            JobEvent::Progress { done, total, unit } => {
                (RunEventKind::Progress { node, done, total, unit }, None)
            }
            JobEvent::Log { line } => (RunEventKind::Log { node, line: line.clone() }, Some(line)),
            JobEvent::Kept { .. } | JobEvent::Outcome(_) => return,
        };
        if let (Some(log), Some(line)) = (log, line) {
            log.line(&line).await;
        }
        self.events.send(scope.run, kind);
    }
}

/// The phase that a job is in, until it lasts long enough to be noted.
#[derive(Default)]
struct Lasting(Option<(Phase, Instant)>);

impl Lasting {
    fn begins(&mut self, phase: Phase) {
        let since = self.0.map_or_else(Instant::now, |(_, since)| since);
        self.0 = Some((phase, since));
    }

    /// Waits until there is a phase to note; it is given once.
    async fn lasts(&mut self) -> Phase {
        let Some((phase, since)) = self.0 else { return std::future::pending().await };
        tokio::time::sleep_until(since + PHASE_LASTS).await;
        self.0 = None;
        phase
    }
}
