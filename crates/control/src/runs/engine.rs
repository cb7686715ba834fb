//! Performs what the schedule asks for, and reports the results to it. Everything that takes time is a future
//! in one set, which is polled as long as anything is outstanding.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_job::Permit;
use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_plan::graph::Node;
use edgewright_plan::history::VerdictKey;
use edgewright_plan::{Graph, NodeId};
use edgewright_process::Clock;
use edgewright_store::Store;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::actions::Answer;
use super::prepare::Prepared;
use super::rows;
use super::schedule::{Action, Event, Job, Limits, Schedule};
use super::scope::Scope;
use super::work::{Pending, Work};
use crate::ControlError;
use crate::events::{Events, RunEventKind};
use crate::jobs::Jobs;

/// Sleeps are cut so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Works on the nodes of planned runs.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) jobs: Jobs,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) limits: Limits,
    /// How long others have for a verdict, where the image does not say.
    pub(crate) external_within: Span,
}

/// What became of an action.
pub(super) enum Done {
    Admitted(Job, Permit),
    Deferred(Job, Timestamp),
    Refused(Job, Option<Box<Work>>, JobFailure),
    Stopped(Job),
    Worked(NodeId, Box<Work>),
    Compared(VerdictKey),
    Judged(NodeId, Box<Pending>),
    Settled(NodeId),
    Checked { posted: Vec<NodeId>, newer: Option<RunNumber> },
}

type Outstanding<'a> = FuturesUnordered<Answer<'a>>;

/// One run while its jobs are done.
pub(super) struct Execution<'a> {
    pub(super) engine: &'a Engine,
    pub(super) scope: &'a Scope,
    pub(super) prepared: &'a Prepared,
    /// Ends all jobs: the run is cancelled, the server shuts down, or something broke.
    pub(super) stop: &'a CancellationToken,
    pub(super) schedule: Schedule,
    outstanding: Outstanding<'a>,
    /// Of jobs that were admitted and not started yet.
    pub(super) permits: BTreeMap<Job, Permit>,
    /// What is not recorded yet.
    pub(super) pending: BTreeMap<NodeId, Pending>,
    /// The manifests of nodes that wait for verdicts of other systems.
    pub(super) manifests: BTreeMap<NodeId, Digest>,
    wake: Option<Timestamp>,
    is_done: bool,
}

impl Engine {
    /// Works until no node waits or runs. Stopped, it ends its jobs, records what they made and returns.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run was stopped; the database.
    pub(crate) async fn execute(&self, scope: &Scope, prepared: &Prepared) -> Result<(), ControlError> {
        let rows = self.store.own_nodes(scope.run.number).await?;
        let stop = scope.cancel.child_token();
        let mut execution = Execution {
            engine: self,
            scope,
            prepared,
            stop: &stop,
            schedule: Schedule::new(rows::facts(&rows, prepared), self.limits),
            outstanding: FuturesUnordered::new(),
            permits: BTreeMap::new(),
            pending: BTreeMap::new(),
            manifests: BTreeMap::new(),
            wake: None,
            is_done: false,
        };
        let result = execution.run().await;
        if result.is_err() {
            // A dropped job is killed without clearing away: let all of them end.
            stop.cancel();
            while execution.outstanding.next().await.is_some() {}
        }
        result
    }

    pub(crate) fn tell(&self, scope: &Scope, id: &NodeId, state: NodeState, failure: Option<JobFailure>) {
        let kind =
            RunEventKind::Node { node: id.name.to_string(), platform: id.platform.clone(), state, failure };
        self.events.send(scope.run.number, kind);
    }
}

/// A node of the run's graph.
pub(crate) fn node_of<'g>(graph: &'g Graph, id: &NodeId) -> Result<&'g Node, ControlError> {
    graph.nodes.get(id).ok_or(ControlError::Broken { what: "a scheduled node is not in the graph" })
}

impl Execution<'_> {
    async fn run(&mut self) -> Result<(), ControlError> {
        self.feed(Event::Started)?;
        let cancel = self.scope.cancel.clone();
        while !self.is_done {
            let pause = self.pause();
            let event = tokio::select! {
                Some(done) = self.outstanding.next() => self.take(done?),
                () = tokio::time::sleep(pause), if self.wake.is_some() => Event::Tick,
                () = cancel.cancelled(), if !self.stop.is_cancelled() => Event::Stop,
            };
            self.feed(event)?;
        }
        if cancel.is_cancelled() { Err(ControlError::Stopped) } else { Ok(()) }
    }

    fn pause(&self) -> Duration {
        let pause = self.wake.map(|at| at.duration_since(self.engine.clock.now()));
        pause.map_or(LONGEST_SLEEP, |pause| pause.try_into().unwrap_or(Duration::ZERO)).min(LONGEST_SLEEP)
    }

    /// Keeps what a finished action brought, and gives the event of it.
    fn take(&mut self, done: Done) -> Event {
        match done {
            Done::Admitted(job, permit) => {
                self.permits.insert(job.clone(), permit);
                Event::Admitted(job)
            }
            Done::Deferred(job, until) => Event::Deferred { job, until },
            Done::Refused(job, work, failure) => {
                if let (Job::Node(id), Some(work)) = (&job, work) {
                    self.pending.insert(id.clone(), Pending::of(*work));
                }
                Event::Refused { job, kind: failure.kind }
            }
            Done::Stopped(job) => Event::Stopped(job),
            Done::Worked(node, work) => {
                let end = work.end();
                self.pending.insert(node.clone(), Pending::of(*work));
                Event::JobEnded { node, end }
            }
            Done::Compared(verdict) => Event::Compared(verdict),
            Done::Judged(node, pending) => {
                let judgement = pending.judged.judgement();
                self.manifests.extend(pending.manifest.clone().map(|digest| (node.clone(), digest)));
                self.pending.insert(node.clone(), *pending);
                Event::Judged { node, judgement }
            }
            Done::Settled(node) => Event::Settled(node),
            Done::Checked { posted, newer } => Event::VerdictsChecked { posted, newer },
        }
    }

    fn feed(&mut self, event: Event) -> Result<(), ControlError> {
        self.wake = None;
        for action in self.schedule.handle(event, self.engine.clock.now()) {
            self.perform(action)?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), ControlError> {
        let future = match action {
            Action::Admit(job) => self.admit(job)?,
            Action::Start(id) => self.start(id)?,
            Action::Compare { verdict, node } => self.compare(verdict, &node)?,
            Action::Judge(id) => self.judge(id)?,
            Action::Settle { node, end } => self.settle(node, end)?,
            Action::CheckVerdicts => self.check_verdicts(),
            Action::WakeAt(at) => {
                self.wake = Some(at);
                return Ok(());
            }
            Action::Stop => {
                self.stop.cancel();
                return Ok(());
            }
            Action::Done => {
                self.is_done = true;
                return Ok(());
            }
        };
        self.outstanding.push(future);
        Ok(())
    }
}
