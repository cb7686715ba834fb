//! The lane `container` in a Pod: the image under test, unmodified, with its own init.
//!
//! ```text
//! create the Pod ─▶ it has a node ─▶ the lane begins: Secret with its order ─▶ frames in the Pod's log
//! ```
//!
//! The time that a Pod waits for a quota or a node is not the lane's.

mod image;
mod machine;
pub(crate) mod pod;

use edgewright_job::ExecutorError;
use edgewright_lab::run_lane_on;
use edgewright_model::order::{JobRequest, LaneOrder, ManifestRef};
use edgewright_model::outcome::JobEvent;
use edgewright_model::verdict::{LaneProfile, Verdict};
use edgewright_oci::Client;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use self::machine::PodMachine;
use crate::executor::Inner;
use crate::job::{Attempted, repeat};
use crate::names::{OrderId, Part};

/// The profile of lanes in Pods.
pub(crate) fn profile() -> LaneProfile {
    LaneProfile { name: machine::PROFILE.to_owned(), semantics: edgewright_checks::RUNNER_SEMANTICS }
}

/// Runs a lane on a digest. Do not drop the future: cancel the token, so that the Pod is removed.
pub(crate) async fn run(
    inner: &Inner,
    request: &JobRequest,
    (order, manifest): (&LaneOrder, &ManifestRef),
    events: &mpsc::Sender<JobEvent>,
    cancel: &CancellationToken,
) -> Result<Verdict, ExecutorError> {
    let settings = &inner.settings;
    // The credential lives as long as the lane: evidence is pushed with it.
    let (job, _credential) = inner.registry.order(request.clone());
    let registry = job.registry;
    let client = tokio::task::spawn_blocking(move || Client::new(&registry)).await;
    let client = client.map_err(ExecutorError::Broke)?.map_err(|error| ExecutorError::Platform {
        message: edgewright_model::error::Chain(&error).to_string(),
        hint: error.hint(),
        output: Vec::new(),
    })?;
    let id = OrderId::of_lane(request, (order, manifest), &settings.server, &settings.image);
    if order.keep {
        let line = "[machines on a cluster are not kept: `--keep` has no effect]".to_owned();
        let _ = events.try_send(JobEvent::Log { line });
    }
    let order = LaneOrder { keep: false, ..order.clone() };
    let lane = LaneJob { inner, request, order: &order, manifest, client: &client, events, cancel };
    repeat(events, cancel, || Box::pin(lane.once(&id))).await
}

/// One lane on one digest.
struct LaneJob<'a> {
    inner: &'a Inner,
    request: &'a JobRequest,
    order: &'a LaneOrder,
    manifest: &'a ManifestRef,
    client: &'a Client,
    events: &'a mpsc::Sender<JobEvent>,
    cancel: &'a CancellationToken,
}

impl LaneJob<'_> {
    async fn once(&self, id: &OrderId) -> Result<Attempted<Verdict>, ExecutorError> {
        let Self { inner, request, order, manifest, client, events, cancel } = *self;
        let claim = inner.claim(id, Part::Lane(order.lane), cancel).await?;
        let mut machine = PodMachine::new(inner, request, cancel, claim);
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                machine.discard().await;
                return Err(ExecutorError::Cancelled);
            }
            prepared = machine.prepare(client, manifest, events) => {
                if let Err(error) = prepared {
                    machine.discard().await;
                    return Err(error);
                }
            }
        }
        let report = |event| drop(events.try_send(event));
        let verdict = run_lane_on(&mut machine, order, manifest, (client, cancel), &report).await;
        Ok(match machine.lost() {
            Some(why) if !cancel.is_cancelled() => Attempted::Again(why),
            _ => Attempted::Done(verdict),
        })
    }
}
