//! What the machines of a cluster have in common: they wait for a place, and the cluster may end them.

use std::ops::ControlFlow;

use edgewright_job::ExecutorError;
use edgewright_lab::machine::{LaneFault, Machine};
use edgewright_model::outcome::JobEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::{LEAVING, pod};
use crate::claims::Claim;
use crate::cluster::Namespace;
use crate::executor::Inner;
use crate::job::later;
use crate::names::owner;
use crate::stage::{Stage, Wait};
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

/// Gives a machine, which waits for it, the Secret with the order of its checks.
pub(super) async fn give_order<K: Resource<DynamicType = ()>>(
    inner: &Inner,
    namespace: &Namespace,
    machine: Option<&K>,
    order: Vec<u8>,
) -> Result<(), LaneFault> {
    let Some(machine) = machine else {
        return Err(LaneFault::of_host("the machine is not running".to_owned()));
    };
    let meta = ObjectMeta {
        name: Some(machine.name_any()),
        labels: machine.meta().labels.clone(),
        ..ObjectMeta::default()
    };
    let secret = pod::secret(&meta, Some(owner(machine)), order);
    let (silent, _events) = mpsc::channel(1);
    let made = inner
        .patiently("create the order of the checks", &silent, || Box::pin(namespace.create_secret(&secret)));
    made.await.map(drop).map_err(|error| LaneFault::of_host(error.to_string()))
}

/// Leaves a machine whose lane is done. One that ends by itself takes no room: a server that is killed now
/// finds its log. Others, and those that the cluster ended, are removed.
pub(super) async fn leave(
    inner: &Inner,
    claim: Option<Claim>,
    is_lost: bool,
    stage: impl Fn(&str) -> Option<Stage>,
) {
    let Some(claim) = claim else { return };
    let name = claim.attempt().name();
    let mut changes = inner.cluster.changes();
    let ended = async {
        while !matches!(stage(&name), Some(Stage::Ended { .. })) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    if !is_lost && timeout(LEAVING, ended).await.is_ok() {
        claim.done();
    } else {
        inner.remove(claim).await;
    }
}

/// Why a machine did not start, for the next attempt.
pub(super) fn not_started(wait: Option<Wait>) -> String {
    let why = wait.map_or_else(|| "the cluster gives no reason".to_owned(), |wait| wait.to_string());
    format!("the machine did not start: {why}")
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
