//! Rebuilds that were asked for: done one after the other, and kept with what came of them.

use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::run::RebuildNumber;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{REBUILD_PREFIX, Rebuilds};
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::events::{RunEvent, RunEventKind};
use crate::reconcile::{Outcome, Reconciler};

/// The longest time between two searches for open rebuilds.
const PERIOD: Duration = Duration::from_mins(1);

impl Rebuilds {
    /// Queues the rebuild of a digest. One that is open already is the same.
    ///
    /// # Errors
    /// No run made the digest, the source of the run is not followed, or the database cannot be written.
    pub async fn queue(
        &self,
        context: &OperationContext,
        digest: &Digest,
    ) -> Result<RebuildNumber, ControlError> {
        context.permit_in(Operation::Rebuild, &self.jobs.store.sources_with(digest).await?)?;
        let nodes = self.jobs.store.nodes_of(digest).await?;
        let Some((run, _)) = nodes.first() else { return Err(ControlError::NotBuilt) };
        let row = self.jobs.store.run(*run).await?.ok_or(ControlError::NoRun { run: *run })?;
        if self.sources.get(row.source).is_none() {
            return Err(ControlError::NoSource { run: *run });
        }
        let after = Some(serde_json::json!({ "digest": digest }));
        let entry = context.entry(Operation::Rebuild, "rebuilds/", None, after);
        let number = self.jobs.store.queue_rebuild(digest, (&entry, self.jobs.clock.now())).await?;
        self.wake.wake("a rebuild was queued");
        Ok(number)
    }

    /// Does a queued rebuild and keeps what came of it, also why it could not be done.
    ///
    /// # Errors
    /// Control shuts down (the rebuild waits for the next start), or the database cannot be written.
    pub async fn drive(&self, number: RebuildNumber) -> Result<(), ControlError> {
        let store = &self.jobs.store;
        let Some(row) = store.rebuild(number).await? else { return Ok(()) };
        store.note_rebuild(number, "reading the commit").await?;
        let mut events = self.jobs.events.subscribe();
        let building = self.rebuild(&row.digest);
        tokio::pin!(building);
        let result = loop {
            tokio::select! {
                result = &mut building => break result,
                Ok(event) = events.recv() => {
                    if let Some(doing) = doing(&event) {
                        store.note_rebuild(number, &doing).await?;
                    }
                }
            }
        };
        let now = self.jobs.clock.now();
        match result {
            Ok(builds) => Ok(store.end_rebuild(number, Ok(&builds), now).await?),
            Err(error @ ControlError::Stopped) => Err(error),
            Err(error) => {
                let why = Chain(&error).to_string();
                Ok(store.end_rebuild(number, Err(&why), now).await?)
            }
        }
    }
}

impl Reconciler for Rebuilds {
    fn name(&self) -> String {
        "rebuilds".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let mut done = Vec::new();
            while let Some(number) = self.jobs.store.open_rebuild().await? {
                self.drive(number).await?;
                done.push(number.to_string());
            }
            Ok(if done.is_empty() {
                Outcome::idle()
            } else {
                Outcome::done(format!("did rebuild {}", done.join(", ")))
            })
        }
        .boxed()
    }
}

/// The part of an event that concerns a rebuild, as text; empty for other events.
fn doing(event: &RunEvent) -> Option<String> {
    let RunEventKind::Phase { node, phase, title } = &event.kind else { return None };
    let node = node.strip_prefix(REBUILD_PREFIX)?;
    Some(format!("{node} {} {title}", phase.name()))
}
