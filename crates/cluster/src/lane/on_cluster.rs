//! What the machines of a cluster have in common: they wait for a place, and the cluster may end them.

use std::ops::ControlFlow;

use edgewright_job::ExecutorError;
use edgewright_lab::machine::Machine;
use edgewright_model::outcome::JobEvent;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::executor::Inner;
use crate::job::later;
use crate::stage::Wait;
use crate::task_run::WAITING;

/// A machine that the cluster runs.
pub(super) trait OnCluster: Machine {
    /// Creates it, or finds that of an earlier process, and waits until it has a node.
    fn prepare(
        &mut self,
        events: &mpsc::Sender<JobEvent>,
    ) -> impl Future<Output = Result<(), ExecutorError>> + Send;

    /// Removes it.
    fn discard(&mut self) -> impl Future<Output = ()> + Send;

    /// Why the cluster ended it before the lane was done.
    fn lost(&mut self) -> Option<String>;
}

/// Waits until a machine has a node. `look`: whether it has one, or what it waits for. Reasons are shown once
/// each.
pub(super) async fn scheduled(
    inner: &Inner,
    (name, what): (&str, &str),
    events: &mpsc::Sender<JobEvent>,
    look: impl Fn() -> ControlFlow<(), Option<Wait>>,
) -> Result<(), ExecutorError> {
    let until = Instant::now() + WAITING;
    let mut changes = inner.cluster.changes();
    let mut shown = None;
    loop {
        changes.mark_unchanged();
        let ControlFlow::Continue(wait) = look() else { break };
        inner.waits.note(name, wait.as_ref());
        if let Some(wait) = wait.filter(|wait| shown.as_ref() != Some(wait)) {
            let _ = events.try_send(JobEvent::Log { line: format!("[{wait}]") });
            shown = Some(wait);
        }
        if timeout_at(until, changes.changed()).await.is_err() {
            inner.waits.note(name, None);
            return Err(later(what, shown.as_ref(), Vec::new()));
        }
    }
    inner.waits.note(name, None);
    Ok(())
}
