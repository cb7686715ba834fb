//! The run that is driven: passed to whatever works on it, stored nowhere.

use std::sync::Arc;

use edgewright_model::names::SourceName;
use edgewright_store::runs::RunRow;
use tokio_util::sync::CancellationToken;

use super::selection::{Selection, UpdateTest};
use crate::jobs::RunScope;
use crate::sources::SourceHandle;

/// A run, and where its commit is.
#[derive(Debug)]
pub(crate) struct Scope {
    /// As it was when this pass began.
    pub(crate) run: RunRow,
    pub(crate) handle: Arc<SourceHandle>,
    /// What of the plan is done; absent: all of it.
    pub(crate) selection: Option<Selection>,
    /// Fires when the run is cancelled, and at shutdown.
    pub(crate) cancel: CancellationToken,
}

impl Scope {
    /// The update that is tested, if it is not the one from what the branch released last.
    pub(crate) fn update(&self) -> Option<UpdateTest> {
        self.selection.as_ref()?.update
    }

    /// For the jobs of a run whose definition has this name.
    pub(crate) fn jobs<'a>(&'a self, source: &'a SourceName, cancel: &'a CancellationToken) -> RunScope<'a> {
        let (run, domain) = (self.run.number, self.run.domain());
        let secrets = &self.handle.settings.secrets;
        RunScope { run, domain, source, mirror: &self.handle.mirror, secrets, cancel }
    }
}
