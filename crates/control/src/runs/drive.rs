//! One run, from where it is found to its end.

use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::run::{RunNumber, RunState, Trigger};
use edgewright_store::nodes::NodeRow;
use edgewright_store::runs::RunRow;
use tokio_util::sync::CancellationToken;

use super::Runs;
use super::prepare::{Invalid, Preparation, Prepared};
use super::scope::Scope;
use super::selection::Selection;
use crate::events::RunEventKind;
use crate::locks::UpdateCheck;
use crate::releases::publish::Results;
use crate::settings::LockPolicy;
use crate::{ControlError, pins};

/// How often a run is driven whose driving fails through the database, the registry or the disk.
const ATTEMPTS: u32 = 3;

/// What an attempt to drive a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// All that the run is for.
    Release,
    /// Only its locks.
    Updates,
}

impl Runs {
    /// Drives a run to its end, or until shutdown.
    ///
    /// # Errors
    /// The run does not exist or its source is not configured; control stops; the database cannot even take
    /// the failure.
    pub async fn drive(&self, number: RunNumber) -> Result<RunState, ControlError> {
        self.drive_to(number, Goal::Release).await
    }

    /// Resolves the locks of a queued run's images, keeps what moved as overlays and ends the run: nothing is
    /// built.
    ///
    /// # Errors
    /// As for [`Runs::drive`].
    pub async fn check_updates(&self, number: RunNumber) -> Result<RunState, ControlError> {
        self.drive_to(number, Goal::Updates).await
    }

    async fn drive_to(&self, number: RunNumber, goal: Goal) -> Result<RunState, ControlError> {
        let cancel = self.0.cancellations.token(number);
        let state = self.attempt_until_over(number, goal, &cancel).await;
        if state.is_ok() {
            self.0.cancellations.forget(number);
            self.0.state().selections.remove(&number);
        }
        state
    }

    async fn attempt_until_over(
        &self,
        number: RunNumber,
        goal: Goal,
        cancel: &CancellationToken,
    ) -> Result<RunState, ControlError> {
        let inner = &*self.0;
        let mut attempts = 0;
        loop {
            let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
            if run.state.is_terminal() {
                return Ok(run.state);
            }
            if run.cancel_requested_at.is_some() {
                self.end(&run, RunState::Cancelled, "cancelled").await?;
                continue;
            }
            attempts += 1;
            let Err(error) = self.attempt(run, goal, cancel).await else {
                let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
                return Ok(run.state);
            };
            if inner.tasks.token().is_cancelled() {
                return Err(ControlError::Stopped);
            }
            // A cancel makes work in progress fail in many ways; its row records that this is why.
            let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
            if run.cancel_requested_at.is_some() {
                continue;
            }
            tracing::error!(run.number = number.0, attempt = attempts, error = %Chain(&error), "run failed, will retry");
            if error.class() != ErrorClass::Unavailable || attempts >= ATTEMPTS {
                let why = Chain(&error).to_string();
                self.end(&run, RunState::Failed, &why).await?;
                continue;
            }
            inner.store.reset_interrupted(number).await?;
            tokio::select! {
                () = tokio::time::sleep(inner.retry.pause(attempts)) => {}
                () = cancel.cancelled() => {}
            }
        }
    }

    /// One attempt; where it succeeds the run is over.
    async fn attempt(
        &self,
        mut run: RunRow,
        goal: Goal,
        cancel: &CancellationToken,
    ) -> Result<(), ControlError> {
        let inner = &*self.0;
        let number = run.number;
        let handle = inner.sources.get(run.source).ok_or(ControlError::NoSource { run: number })?;
        let selection = self.selection(&run).await;
        let is_narrowed = matches!(run.trigger, Trigger::Selected | Trigger::Update);
        if is_narrowed && selection.is_none() {
            return self.end(&run, RunState::Cancelled, "cancelled").await;
        }
        if run.state == RunState::Queued {
            self.advance(&mut run, RunState::Preparing).await?;
        }
        let scope = Scope { run, handle, selection, cancel: cancel.clone() };
        let commits = matches!(scope.handle.settings.locks, LockPolicy::Commit(_));
        let is_check = goal == Goal::Updates || (commits && scope.run.trigger == Trigger::Lock);
        if is_check && scope.run.state == RunState::Preparing {
            return self.check(&scope, goal == Goal::Release).await;
        }
        match inner.planner.prepare(&scope).await? {
            Preparation::Ready(prepared) => self.execute(scope, &prepared).await,
            Preparation::Refused(invalid) => self.refuse(&scope.run, invalid).await,
        }
    }

    /// Has the jobs done and names what they made.
    async fn execute(&self, mut scope: Scope, prepared: &Prepared) -> Result<(), ControlError> {
        let inner = &*self.0;
        if scope.run.state != RunState::Releasing {
            inner.engine.execute(&scope, prepared).await?;
            // Since the plan is fixed.
            scope.run.state = RunState::Running;
            self.advance(&mut scope.run, RunState::Releasing).await?;
        }
        let nodes = self.nodes(&scope.run, prepared).await?;
        let results = Results {
            run: &scope.run,
            handle: &scope.handle,
            graph: &prepared.graph,
            nodes: &nodes,
            no_release: scope.selection.as_ref().map(Selection::words),
        };
        inner.releases.publish(&results).await
    }

    /// All nodes of the run: those that it works on as they are now, then those that are as they were.
    async fn nodes(&self, run: &RunRow, prepared: &Prepared) -> Result<Vec<NodeRow>, ControlError> {
        let store = &self.0.store;
        let Some(unchanged) = &prepared.unchanged else { return Ok(store.nodes(run.number).await?) };
        let mut nodes = store.own_nodes(run.number).await?;
        nodes.extend_from_slice(unchanged);
        Ok(nodes)
    }

    /// Checks for updates, and does nothing else.
    async fn check(&self, scope: &Scope, commits: bool) -> Result<(), ControlError> {
        let Scope { run, handle, cancel, .. } = scope;
        let (failures, pushed) = match self.0.locks.check_updates(run, handle, commits, cancel).await? {
            UpdateCheck::Invalid(diagnostics) => return self.refuse(run, Invalid::of(diagnostics)).await,
            UpdateCheck::Done { failures, pushed } => (failures, pushed),
        };
        let failed = failures.iter().map(|(image, failure)| format!("{image}: {}", failure.message));
        let words: Vec<String> = failed.chain(pushed).collect();
        let state = if failures.is_empty() { RunState::Passed } else { RunState::Failed };
        self.over(run, state, (!words.is_empty()).then(|| words.join("; "))).await
    }

    /// Ends a run whose commit cannot be planned.
    async fn refuse(&self, run: &RunRow, invalid: Invalid) -> Result<(), ControlError> {
        if !invalid.diagnostics.is_empty() {
            self.0.store.note_diagnostics(run.number, &invalid.diagnostics).await?;
        }
        self.over(run, RunState::Failed, Some(invalid.why)).await
    }

    async fn advance(&self, run: &mut RunRow, to: RunState) -> Result<(), ControlError> {
        self.0.store.move_run(run.number, run.state, to, self.0.clock.now()).await?;
        run.state = to;
        self.0.events.send(run.number, RunEventKind::State(to));
        Ok(())
    }

    async fn over(&self, run: &RunRow, state: RunState, why: Option<String>) -> Result<(), ControlError> {
        self.0.store.end_run(run.number, run.state, state, why.as_deref(), self.0.clock.now()).await?;
        self.0.events.send(run.number, RunEventKind::State(state));
        Ok(())
    }

    /// Ends a run before its time: what is left of it is cancelled.
    pub(super) async fn end(&self, run: &RunRow, state: RunState, why: &str) -> Result<(), ControlError> {
        let inner = &*self.0;
        inner.store.cancel_nodes(run.number, inner.clock.now()).await?;
        self.over(run, state, Some(why.to_owned())).await?;
        Ok(inner.hosting.unpin(&pins::contexts(run.number)).await?)
    }
}
