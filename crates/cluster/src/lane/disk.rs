//! The files of a machine: made of the digest by a TaskRun with our image, pushed to the digest's repository.

use std::collections::BTreeMap;

use edgewright_job::ExecutorError;
use edgewright_lab::machine::LaneFault;
use edgewright_lab::remote::{ARGUMENTS, SKIPPED, TARGET};
use edgewright_model::order::{Base, JobRequest, LaneOrder, ManifestRef, Task};
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::spec::VmProfile;
use edgewright_oci::Client;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use super::image::Start;
use super::vmi::{Boot, Hardware};
use crate::executor::Inner;
use crate::job::Job;
use crate::names::{OrderId, Part};

/// What was made.
pub(crate) enum Made {
    /// A machine.
    Hardware(Hardware),
    /// The lane's fault: the image cannot be a machine.
    Fault(LaneFault),
    /// The lane has nothing to do: why.
    Nothing(String),
}

/// Makes the machine of a lane on a digest.
pub(crate) async fn make(
    inner: &Inner,
    request: &JobRequest,
    (lane, manifest): (&LaneOrder, &ManifestRef),
    (client, events): (&Client, &mpsc::Sender<JobEvent>),
    cancel: &CancellationToken,
) -> Result<Made, ExecutorError> {
    let spec = lane.vm.unwrap_or_default();
    let settings = &inner.settings;
    let id = OrderId::of_lane(request, (lane, manifest), &settings.server, &settings.image);
    let request = order(request, lane, manifest);
    // The credential lives as long as the job.
    let (order, _credential) = inner.registry.order(request.clone());
    let outcome = Job { inner, request, order, events, cancel, part: Part::Machine }.run_as(&id).await?;
    let machine = match (outcome.failure, outcome.builds.last()) {
        (Some(failure), _) if failure.kind == FailureKind::Image => {
            return Ok(Made::Fault(LaneFault::of_image(failure.message)));
        }
        (Some(failure), _) => return Ok(Made::Fault(LaneFault::of_host(failure.message))),
        (None, Some(build)) => build.manifest.clone(),
        (None, None) => {
            return Ok(Made::Fault(LaneFault::of_host("the job reported no machine".to_owned())));
        }
    };
    let mut labels: BTreeMap<String, String> = Start::read(client, &machine).await?.labels();
    if let Some(reason) = labels.remove(SKIPPED) {
        return Ok(Made::Nothing(reason));
    }
    let boot = match spec.profile {
        _ if lane.lane.is_update() => {
            Boot::Device { target: labels.get(TARGET).and_then(|digest| digest.parse().ok()) }
        }
        VmProfile::Uefi => Boot::Firmware,
        VmProfile::Direct => Boot::Kernel { arguments: labels.remove(ARGUMENTS).unwrap_or_default() },
    };
    Ok(Made::Hardware(Hardware { machine, boot, memory_mib: spec.memory_mib() }))
}

/// The order of a job that makes the machine: the same rights, no steps.
fn order(request: &JobRequest, lane: &LaneOrder, manifest: &ManifestRef) -> JobRequest {
    let mut request = request.clone();
    if let Task::Image(task) = &mut request.task {
        task.steps.clear();
        task.lanes = vec![lane.clone()];
        task.base = Base::Manifest(manifest.clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::Digest;
    use edgewright_model::spec::Lane;

    use super::*;

    #[test]
    fn the_order_has_the_digest_and_no_steps() {
        let request = image_request(1, "hmi").unwrap();
        let manifest = ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("m") };
        let Task::Image(task) = &request.task else { panic!("it is an image") };
        let lane = LaneOrder { lane: Lane::Rollback, ..task.lanes[0].clone() };
        let Task::Image(task) = order(&request, &lane, &manifest).task else { panic!("it is an image") };
        assert!(task.steps.is_empty());
        assert_eq!(task.lanes, [lane]);
        assert_eq!(task.base, Base::Manifest(manifest));
    }
}
