//! What an execution does for each action, as a future that answers it.

use edgewright_job::{Admission, Demand, Permit};
use edgewright_model::Digest;
use edgewright_model::spec::Lane;
use edgewright_plan::NodeId;
use edgewright_plan::history::VerdictKey;
use edgewright_store::runs::RunRow;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::engine::{Done, Execution, node_of};
use super::schedule::{End, Job};
use crate::ControlError;

/// An answer to come.
pub(super) type Answer<'a> = BoxFuture<'a, Result<Done, ControlError>>;

impl<'a> Execution<'a> {
    pub(super) fn admit(&self, job: Job) -> Result<Answer<'a>, ControlError> {
        let (engine, scope, prepared, stop) = (self.engine, self.scope, self.prepared, self.stop);
        let node = match &job {
            Job::Node(id) => Some(node_of(&prepared.graph, id)?),
            Job::Comparison(_) => None,
        };
        let admit = async move {
            let demand = match (&job, node) {
                (Job::Comparison(verdict), _) => Demand { lanes: vec![verdict.lane], ..Demand::default() },
                (Job::Node(_), None) => Demand::default(),
                (Job::Node(id), Some(node)) => {
                    let planned = prepared.plan.nodes.get(id);
                    engine.jobs.demand(scope.run.domain(), planned, node).await?
                }
            };
            let jobs = scope.jobs(prepared.name(), stop);
            match engine.jobs.ask(&jobs, demand).await {
                Ok(Admission::Now(permit)) => Ok(Done::Admitted(job, permit)),
                Ok(Admission::Later { reason, retry_after }) => {
                    tracing::info!(run.number = scope.run.number.0, reason, "a job has to wait");
                    let until = engine.clock.now().checked_add(retry_after).unwrap_or(Timestamp::MAX);
                    Ok(Done::Deferred(job, until))
                }
                Ok(Admission::Never(failure)) => {
                    let work = match node {
                        Some(node) => Some(Box::new(engine.refuse(scope, node, failure.clone()).await?)),
                        None => None,
                    };
                    Ok(Done::Refused(job, work, failure))
                }
                Err(ControlError::Stopped) => Ok(Done::Stopped(job)),
                Err(error) => Err(error),
            }
        };
        Ok(admit.boxed())
    }

    fn permit(&mut self, job: &Job) -> Result<Permit, ControlError> {
        self.permits.remove(job).ok_or(ControlError::Broken { what: "a job starts without a permit" })
    }

    pub(super) fn start(&mut self, id: NodeId) -> Result<Answer<'a>, ControlError> {
        let (engine, scope, prepared, stop) = (self.engine, self.scope, self.prepared, self.stop);
        let node = node_of(&prepared.graph, &id)?;
        let job = Job::Node(id.clone());
        let permit = self.permit(&job)?;
        let work = async move {
            match engine.work(scope, prepared, (node, permit), stop).await {
                Ok(work) => Ok(Done::Worked(id, Box::new(work))),
                Err(ControlError::Stopped) => Ok(Done::Stopped(job)),
                Err(error) => Err(error),
            }
        };
        Ok(work.boxed())
    }

    pub(super) fn compare(&mut self, verdict: VerdictKey, id: &NodeId) -> Result<Answer<'a>, ControlError> {
        let (engine, scope, prepared, stop) = (self.engine, self.scope, self.prepared, self.stop);
        let node = node_of(&prepared.graph, id)?;
        let job = Job::Comparison(verdict.clone());
        let permit = self.permit(&job)?;
        let compare = async move {
            match engine.compare(scope, prepared, (node, &verdict, permit), stop).await {
                Ok(()) => Ok(Done::Compared(verdict)),
                Err(ControlError::Stopped) => Ok(Done::Stopped(job)),
                Err(error) => Err(error),
            }
        };
        Ok(compare.boxed())
    }

    pub(super) fn judge(&mut self, id: NodeId) -> Result<Answer<'a>, ControlError> {
        let (engine, scope, prepared) = (self.engine, self.scope, self.prepared);
        let node = node_of(&prepared.graph, &id)?;
        let work = self.pending.remove(&id).and_then(|pending| pending.work);
        // Comparisons that end while this is being judged are judged again.
        let compared = self.schedule.compared().clone();
        let judge = async move {
            let pending = engine.judge(scope, prepared, node, (work, &compared)).await?;
            Ok(Done::Judged(id, Box::new(pending)))
        };
        Ok(judge.boxed())
    }

    pub(super) fn settle(&mut self, id: NodeId, end: End) -> Result<Answer<'a>, ControlError> {
        let (engine, scope) = (self.engine, self.scope);
        let node = node_of(&self.prepared.graph, &id)?;
        let pending = self.pending.remove(&id).unwrap_or_default();
        let settle = async move {
            engine.settle(scope, node, &pending, end).await?;
            Ok(Done::Settled(id))
        };
        Ok(settle.boxed())
    }

    /// Whether others posted verdicts that nodes wait for, and whether a newer run of the source waits for
    /// this one.
    pub(super) fn check_verdicts(&self) -> Answer<'a> {
        let (engine, scope, prepared) = (self.engine, self.scope, self.prepared);
        let awaiting: Vec<(NodeId, Digest)> = self
            .schedule
            .awaiting()
            .filter_map(|id| Some((id.clone(), self.manifests.get(id)?.clone())))
            .collect();
        let check = async move {
            let digests = awaiting.iter().map(|(_, digest)| digest).collect();
            let verdicts = engine.store.newest_verdicts(&digests, scope.run.domain()).await?;
            let is_posted = |(id, digest): &(NodeId, Digest)| {
                let lanes = prepared.graph.nodes.get(id).map_or(&[][..], |node| &node.lanes);
                let external = lanes.iter().filter(|lane| lane.lane == Lane::External);
                let keys: Vec<&Digest> = external.map(|lane| &lane.check_set).collect();
                verdicts.iter().map(|row| &row.verdict).any(|verdict| {
                    verdict.lane == Lane::External
                        && verdict.manifest.digest == *digest
                        && keys.contains(&&verdict.check_set)
                })
            };
            let posted = awaiting.iter().filter(|node| is_posted(node)).map(|(id, _)| id.clone()).collect();
            let open = engine.store.open_runs().await?;
            let waits = |run: &&RunRow| run.domain() == scope.run.domain() && run.number > scope.run.number;
            let newer = open.iter().find(waits);
            Ok(Done::Checked { posted, newer: newer.map(|run| run.number) })
        };
        check.boxed()
    }
}
