//! Updates that channels wait for are tested by runs of their own: the images of a release, the lane
//! `upgrade` alone, from what the channel holds. Such a run makes no release; the channel decides by its
//! verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::names::{ChannelName, VariantName};
use edgewright_model::run::{ReleaseNumber, RunNumber, Trigger};
use edgewright_model::spec::Lane;
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::sources::SourceId;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Runs;
use super::selection::{Selection, UpdateTest};
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::reconcile::{Outcome, Reconciler};
use crate::releases::awaited::{Awaited, TestState};
use crate::releases::channels::Channels;
use crate::sources::{Queued, Sources};

/// How often runs that test updates are looked at, at least.
const PERIOD: Duration = Duration::from_secs(30);
/// Who queues them.
static TESTER: OperationContext = OperationContext::system("update tests");

/// Has updates tested that channels wait for. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct UpdateTests {
    pub(crate) runs: Runs,
    pub(crate) channels: Channels,
    pub(crate) sources: Arc<Sources>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl UpdateTests {
    /// Queues a run for each update that is to be tested, and notes which ended. Gives how many were queued.
    ///
    /// # Errors
    /// The database cannot be read or written.
    async fn advance(&self) -> Result<usize, ControlError> {
        let tests = self.channels.tests();
        // Channels that wait for the same update wait for the same run.
        let mut queued: BTreeMap<(SourceId, ReleaseNumber, ReleaseNumber), RunNumber> = BTreeMap::new();
        let (mut count, mut has_ended, mut failed) = (0, false, None);
        let all = tests.all();
        for ((source, _), awaited) in &all {
            if let TestState::Queued(run) = awaited.state {
                queued.insert((*source, awaited.from, awaited.release), run);
            }
        }
        for (key, awaited) in &all {
            match awaited.state {
                TestState::Wanted => {
                    let step = (key.0, awaited.from, awaited.release);
                    let run = match queued.get(&step) {
                        Some(run) => Ok(Some(*run)),
                        None => self.queue(key, awaited).await,
                    };
                    // A source whose commit cannot be had does not keep the others from it.
                    let run = run.unwrap_or_else(|error| {
                        failed = Some(error);
                        None
                    });
                    if let Some(run) = run {
                        count += usize::from(queued.insert(step, run).is_none());
                        tests.note(key, TestState::Queued(run));
                    }
                }
                TestState::Queued(run) => {
                    let row = self.store.run(run).await?;
                    if row.is_none_or(|row| row.state.is_terminal()) {
                        tests.note(key, TestState::Ended(run, self.clock.now()));
                        has_ended = true;
                    }
                }
                TestState::Ended(..) | TestState::Failed(_) => {}
            }
        }
        if has_ended {
            self.channels.wake().wake("an update was tested");
        }
        failed.map_or(Ok(count), Err)
    }

    /// Queues a run of the images that the newest of their runs built; the rest follows. None: nothing can be
    /// queued now.
    async fn queue(
        &self,
        (source, channel): &(SourceId, ChannelName),
        awaited: &Awaited,
    ) -> Result<Option<RunNumber>, ControlError> {
        let Some(handle) = self.sources.get(*source) else { return Ok(None) };
        let mut built: BTreeMap<RunNumber, BTreeSet<VariantName>> = BTreeMap::new();
        for update in &awaited.updates {
            let nodes = self.store.nodes_of(&update.digest).await?;
            for (run, _) in nodes {
                built.entry(run).or_default().insert(update.variant.clone());
            }
        }
        let Some((built, variants)) = built.pop_last() else { return Ok(None) };
        let Some(row) = self.store.run(built).await? else { return Ok(None) };
        let images = BTreeSet::new();
        let queued = Queued {
            branch: row.branch,
            trigger: Trigger::Update,
            images: &images,
            context: &TESTER,
            operation: Operation::QueueRun,
        };
        let selection = Selection {
            variants,
            lanes: BTreeSet::from([Lane::Upgrade]),
            update: Some(UpdateTest { built, from: awaited.from }),
            ..Selection::default()
        };
        let run = self.runs.queue_selected((&handle, &row.commit), queued, selection).await?;
        tracing::info!(
            source.name = %handle.settings.name,
            channel.name = %channel,
            release.number = awaited.release.0,
            release.from = awaited.from.0,
            run.number = run.0,
            "the update is tested that a channel waits for"
        );
        Ok(Some(run))
    }
}

impl Reconciler for UpdateTests {
    fn name(&self) -> String {
        "update tests".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async { Ok(Outcome::counted(self.advance().await?, "queued", "run")) }.boxed()
    }
}
