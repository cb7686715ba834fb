//! The graph of the last run of each domain that was planned, so that the next one can say what changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::order::TrustDomain;
use edgewright_model::run::RunNumber;
use edgewright_plan::Graph;

/// Graphs by domain. Only words depend on them.
#[derive(Debug, Default)]
pub(crate) struct PlannedGraphs(Mutex<BTreeMap<TrustDomain, (RunNumber, Arc<Graph>)>>);

impl PlannedGraphs {
    /// Keeps a run's graph.
    pub(crate) fn keep(&self, domain: TrustDomain, run: RunNumber, graph: &Arc<Graph>) {
        self.lock().insert(domain, (run, Arc::clone(graph)));
    }

    /// The graph of a run, if it was the last one of its domain that was planned.
    pub(crate) fn graph(&self, domain: TrustDomain, run: RunNumber) -> Option<Arc<Graph>> {
        self.lock().get(&domain).filter(|(number, _)| *number == run).map(|(_, graph)| Arc::clone(graph))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TrustDomain, (RunNumber, Arc<Graph>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
