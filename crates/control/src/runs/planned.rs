//! The graph of the last run of each source that was planned, so that the next one can say what changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::run::RunNumber;
use edgewright_plan::Graph;
use edgewright_store::sources::SourceId;

/// Graphs by source. Only words depend on them.
#[derive(Debug, Default)]
pub(crate) struct PlannedGraphs(Mutex<BTreeMap<SourceId, (RunNumber, Arc<Graph>)>>);

impl PlannedGraphs {
    /// Keeps a run's graph.
    pub(crate) fn keep(&self, source: SourceId, run: RunNumber, graph: &Arc<Graph>) {
        self.lock().insert(source, (run, Arc::clone(graph)));
    }

    /// The graph of a run, if it was the last one of its source that was planned.
    pub(crate) fn graph(&self, source: SourceId, run: RunNumber) -> Option<Arc<Graph>> {
        self.lock().get(&source).filter(|(number, _)| *number == run).map(|(_, graph)| Arc::clone(graph))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SourceId, (RunNumber, Arc<Graph>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
