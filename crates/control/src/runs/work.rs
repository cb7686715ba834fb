//! One node's job, from its order to what it made and found.

use edgewright_job::Permit;
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::{JobId, ManifestRef, Task};
use edgewright_model::outcome::{FailureKind, JobFailure, JobOutcome, Phase};
use edgewright_model::run::NodeState;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::Verdict;
use edgewright_plan::graph::Node;
use edgewright_source::PackError;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::facts::Facts;
use super::inherit::Answers;
use super::judge::{Judged, Rules};
use super::prepare::Prepared;
use super::schedule::JobEnd;
use super::scope::Scope;
use super::selection::Selection;
use crate::ControlError;
use crate::jobs::{Label, image_task, made_nothing, new_job};
use crate::verdicts::day;

/// What the job of a node made and found. It is recorded together with where that leaves the node.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) job: JobId,
    pub(crate) outcome: JobOutcome,
    /// The node's manifest, where it is built.
    pub(crate) manifest: Option<ManifestRef>,
}

impl Pending {
    /// Of a job that ended just now.
    pub(crate) fn of(work: Work) -> Self {
        Self { work: Some(work), ..Self::default() }
    }
}

impl Work {
    pub(crate) fn end(&self) -> JobEnd {
        self.outcome.failure.as_ref().map_or(JobEnd::Done, |failure| JobEnd::Failed(failure.kind))
    }
}

/// What is known of a node that is not recorded yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Absent where the node was recorded and is judged again.
    pub(crate) work: Option<Work>,
    /// The node's manifest, once it was judged.
    pub(crate) manifest: Option<Digest>,
    pub(crate) judged: Judged,
    pub(crate) inherited: Vec<Verdict>,
}

/// What is left of a node's work.
struct Order {
    /// The known manifest of the node's key, in the node's repository.
    known: Option<ManifestRef>,
    /// Absent where the image is built and every lane has its answer.
    task: Option<Task>,
}

impl Engine {
    /// Runs the job of a node that was admitted.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped; the database.
    pub(crate) async fn work(
        &self,
        scope: &Scope,
        prepared: &Prepared,
        (node, permit): (&Node, Permit),
        stop: &CancellationToken,
    ) -> Result<Work, ControlError> {
        let job = self.begin(scope, node).await?;
        let (outcome, known) = match self.order(scope, prepared, node, stop).await {
            Ok(Order { known, task: None }) => (made_nothing(None), known),
            Ok(Order { known, task: Some(task) }) => {
                let name = node.id.name.to_string();
                let label = Label { name: &name, platform: Some(&node.id.platform), is_node: true };
                let jobs = scope.jobs(prepared.name(), stop);
                (self.jobs.perform(&jobs, label, self.jobs.request(&jobs, job, task), permit).await?, known)
            }
            // The disk or the registry failed while its contexts were packed, or it may not have its secrets: as
            // if its job had broken.
            Err(
                error @ (ControlError::Pack(_)
                | ControlError::File { .. }
                | ControlError::Hosting(_)
                | ControlError::UntrustedSecret { .. }
                | ControlError::SecretNotGranted { .. }),
            ) => (made_nothing(Some(unpacked(&error))), None),
            Err(error) => return Err(error),
        };
        self.jobs.hold(&scope.run, &outcome).await?;
        let manifest = outcome.builds.last().map(|build| build.manifest.clone()).or(known);
        Ok(Work { job, outcome, manifest })
    }

    /// The executor will never start the job: an attempt that failed.
    pub(crate) async fn refuse(
        &self,
        scope: &Scope,
        node: &Node,
        failure: JobFailure,
    ) -> Result<Work, ControlError> {
        let job = self.begin(scope, node).await?;
        Ok(Work { job, outcome: made_nothing(Some(failure)), manifest: None })
    }

    /// Records that an attempt begins.
    async fn begin(&self, scope: &Scope, node: &Node) -> Result<JobId, ControlError> {
        let job = new_job();
        let (run, name, now) = (scope.run.number, node.id.name.to_string(), self.clock.now());
        self.store.start_node(run, &name, &node.id.platform, job, now).await?;
        self.tell(scope, &node.id, NodeState::Running, None);
        Ok(job)
    }

    /// Cuts the order of a node: from the longest prefix that is built by now, with the lanes that nothing
    /// answers yet.
    async fn order(
        &self,
        scope: &Scope,
        prepared: &Prepared,
        node: &Node,
        stop: &CancellationToken,
    ) -> Result<Order, ControlError> {
        let start = self.jobs.start(scope.run.domain(), node).await?;
        let steps = &node.path[start.done..];
        let steps = self.jobs.steps(&scope.jobs(prepared.name(), stop), node, steps).await?;
        let digests = start.known.iter().map(|manifest| &manifest.digest).collect();
        let inputs = self.jobs.lane_inputs();
        let facts =
            Facts::load((&self.store, scope.run.domain()), &prepared.graph, node, &inputs, digests).await?;
        let answers = Answers {
            run: scope.run.number,
            node,
            manifest: start.known.as_ref(),
            rules: self.rules(prepared),
            known: &facts.known,
            representatives: &facts.representatives,
        };
        let again = scope.selection.as_ref().is_some_and(Selection::again);
        let keep = scope.selection.as_ref().is_some_and(|selection| selection.keep);
        // Others run the lane `external`, whatever is asked for again.
        let wanted =
            node.lanes.iter().filter(|lane| !answers.has(lane) || (again && lane.lane != Lane::External));
        let lanes: Vec<_> = wanted.map(|lane| self.jobs.lane(lane, keep)).collect();
        let is_done = start.known.is_some() && steps.is_empty() && lanes.is_empty();
        if is_done {
            return Ok(Order { known: start.known, task: None });
        }
        let task = image_task(scope.run.domain(), node, start.base, steps, lanes)?;
        Ok(Order { known: start.known, task: Some(task) })
    }

    pub(crate) fn rules<'p>(&self, prepared: &'p Prepared) -> Rules<'p> {
        Rules { exceptions: &prepared.definition.exceptions, today: day(self.clock.now()) }
    }
}

/// Why an order could not be cut.
fn unpacked(error: &ControlError) -> JobFailure {
    let (kind, hint) = match error {
        ControlError::UntrustedSecret { .. } | ControlError::SecretNotGranted { .. } => {
            (FailureKind::Image, error.hint().unwrap_or_default())
        }
        ControlError::Pack(PackError::Pointer { .. }) => {
            (FailureKind::Image, "commit the file without Git LFS, or let a Containerfile fetch it by digest")
        }
        ControlError::Pack(PackError::Entry { .. }) => (FailureKind::Image, "rename or remove it"),
        _ => (FailureKind::Infrastructure, "check the free space and the permissions of the data folder"),
    };
    JobFailure {
        kind,
        phase: Phase::Fetch,
        message: Chain(error).to_string(),
        hint: Some(hint.to_owned()),
        output: Vec::new(),
    }
}
