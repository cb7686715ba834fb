//! The files of a machine: made of the digest by a TaskRun with our image, pushed to the digest's repository.

use std::collections::BTreeMap;

use edgewright_job::ExecutorError;
use edgewright_lab::machine::LaneFault;
use edgewright_lab::remote::ARGUMENTS;
use edgewright_model::order::{Base, JobRequest, LaneOrder, ManifestRef, Task};
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::spec::{Lane, VmProfile};
use edgewright_oci::Client;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use super::image::Start;
use super::vmi::Hardware;
use crate::executor::Inner;
use crate::job::Job;
use crate::names::{OrderId, Part};

/// Makes the machine of a digest. The inner error is the lane's: the image cannot be a machine.
pub(crate) async fn make(
    inner: &Inner,
    request: &JobRequest,
    (lane, manifest): (&LaneOrder, &ManifestRef),
    (client, events): (&Client, &mpsc::Sender<JobEvent>),
    cancel: &CancellationToken,
) -> Result<Result<Hardware, LaneFault>, ExecutorError> {
    let spec = lane.vm.unwrap_or_default();
    if spec.profile == VmProfile::Uefi {
        let message = "KubeVirt starts machines of the profile `direct` only: run the lane `vm` of images with \
                       `profile: uefi` on a host, by `runs` of `[cluster]`";
        return Ok(Err(LaneFault::of_host(message.to_owned())));
    }
    let settings = &inner.settings;
    let id = OrderId::of_lane(request, (lane, manifest), &settings.server, &settings.image);
    let request = order(request, manifest);
    // The credential lives as long as the job.
    let (order, _credential) = inner.registry.order(request.clone());
    let outcome = Job { inner, request, order, events, cancel, part: Part::Machine }.run_as(&id).await?;
    let machine = match (outcome.failure, outcome.builds.last()) {
        (Some(failure), _) if failure.kind == FailureKind::Image => {
            return Ok(Err(LaneFault::of_image(failure.message)));
        }
        (Some(failure), _) => return Ok(Err(LaneFault::of_host(failure.message))),
        (None, Some(build)) => build.manifest.clone(),
        (None, None) => return Ok(Err(LaneFault::of_host("the job reported no machine".to_owned()))),
    };
    let labels: BTreeMap<String, String> = Start::read(client, &machine).await?.labels();
    let arguments = labels.get(ARGUMENTS).cloned().unwrap_or_default();
    Ok(Ok(Hardware { machine, arguments, memory_mib: spec.memory_mib() }))
}

/// The order of a job that makes the machine: the same rights, no steps.
fn order(request: &JobRequest, manifest: &ManifestRef) -> JobRequest {
    let mut request = request.clone();
    if let Task::Image(task) = &mut request.task {
        task.steps.clear();
        task.lanes.retain(|lane| lane.lane == Lane::Vm);
        task.base = Base::Manifest(manifest.clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::Digest;

    use super::*;

    #[test]
    fn the_order_has_the_digest_and_no_steps() {
        let request = image_request(1, "hmi").unwrap();
        let manifest = ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("m") };
        let Task::Image(task) = order(&request, &manifest).task else { panic!("it is an image") };
        assert!(task.steps.is_empty() && task.lanes.is_empty());
        assert_eq!(task.base, Base::Manifest(manifest));
    }
}
