//! A device that leads itself, as a container image from which KubeVirt starts it: an installed disk, and one
//! with our programs and all that it is offered.

use std::collections::BTreeMap;

use edgewright_checks::device::{DeviceOrder, Journey as Way};
use edgewright_checks::{InvalidOrder, RunOrder};
use edgewright_model::Digest;
use edgewright_model::order::{LaneOrder, ManifestRef};
use edgewright_vm::publish::{DISK, Files, PROGRAMS, Published, push};
use edgewright_vm::{Acceleration, Source, device};

use super::disk::Disks;
use super::journey::{Journey, Offer};
use super::machine::checks_of;
use super::registry::Registry;
use super::settings::Led;
use super::{blame, obstacle, successor};
use crate::lane::{Events, LabContext};
use crate::machine::LaneFault;
use crate::vm::machine::{fault, vm_context};

/// The label with the digest that the device is offered.
pub const TARGET: &str = "dev.edgewright.device.target";
/// The label with the reason where there is nothing to do; such an image has no files.
pub const SKIPPED: &str = "dev.edgewright.device.skipped";

/// Makes the device of a lane, and pushes it to the candidate's repository.
pub(crate) async fn publish(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> Result<Published, LaneFault> {
    let own = vm_context(context);
    let source = Source { client: context.client.clone(), manifest: manifest.clone() };
    let journey = match Journey::of(order.lane, manifest, order.from.as_ref()) {
        Ok(journey) => match obstacle(order, manifest, context).await? {
            None => Ok(journey),
            Some(reason) => Err(reason),
        },
        Err(reason) => Err(reason),
    };
    let journey = match journey {
        Ok(journey) => journey,
        Err(reason) => {
            let labels = BTreeMap::from([(SKIPPED.to_owned(), reason)]);
            let nothing = Files { labels, ..Files::default() };
            return push(&source, nothing, &own).await.map_err(|error| fault(&error));
        }
    };
    let folder = tempfile::Builder::new().prefix("device-").tempdir_in(&context.scratch);
    let io = |error: std::io::Error| LaneFault::of_host(format!("cannot prepare the device: {error}"));
    let folder = folder.map_err(io)?;
    let [blobs, offer] = ["blobs", "offer"].map(|name| folder.path().join(name));
    for path in [&blobs, &offer] {
        tokio::fs::create_dir(path).await.map_err(io)?;
    }
    let (installed, candidate) = (&journey.installed, &manifest.digest);
    let registry = Registry::serve(context.client.clone(), &blobs);
    registry.offer(installed, checks_of(order, &installed.digest, candidate)).await?;
    let target = match &journey.offer {
        Offer::Nothing => None,
        Offer::Image(image) => {
            registry.offer(image, checks_of(order, &image.digest, candidate)).await?;
            Some(image.digest.clone())
        }
        Offer::Bad => {
            let made = successor::make(&context.client, installed, &blobs).await?;
            registry.offer_successor(&made, &successor::checks());
            Some(made.manifest.digest)
        }
    };
    let acceleration = Acceleration::detect(Some(context.vm.folder()), &own).await;
    let mut acceleration = acceleration.map_err(|error| fault(&error))?;
    let disks = Disks::new(context.vm.folder().join("disks"), Led::ByItself);
    let disk = disks.open(installed, context, &mut acceleration, events).await;
    let disk = disk.map_err(|fault| blame(fault, &installed.digest, candidate))?;
    registry.lay(&offer).await?;
    let [qcow2, programs] = ["disk.qcow2", "programs.erofs"].map(|name| folder.path().join(name));
    let pushed = async {
        device::qcow2(&disk.path(), &qcow2, &own).await?;
        device::programs_disk_of(context.vm.programs, &offer, &programs, &own).await?;
        let labels = target.map(|target| (TARGET.to_owned(), target.to_string()));
        let files = vec![(DISK, qcow2), (PROGRAMS, programs)];
        push(&source, Files { labels: labels.into_iter().collect(), files }, &own).await
    };
    pushed.await.map_err(|error| fault(&error))
}

/// Why a lane has nothing to do, as far as it is known without a device.
pub fn skips(order: &LaneOrder, manifest: &ManifestRef) -> Option<String> {
    Journey::of(order.lane, manifest, order.from.as_ref()).err()
}

/// The image that is installed on the device of a lane.
pub fn installed(order: &LaneOrder, manifest: &ManifestRef) -> Option<Digest> {
    Some(Journey::of(order.lane, manifest, order.from.as_ref()).ok()?.installed.digest)
}

/// The fault of a device that has not come as far as the update: if a released image is installed on it, it
/// is not the candidate's.
pub fn blame_installed(fault: LaneFault, installed: &Digest, candidate: &Digest) -> LaneFault {
    blame(fault, installed, candidate)
}

/// The order of a device: the checks of `run`, and its way to `target`.
///
/// # Errors
/// `run` is no order of the check runner, or the lane has nothing to do.
pub fn device_order(
    (order, manifest): (&LaneOrder, &ManifestRef),
    run: &[u8],
    (target, within): (Option<Digest>, std::time::Duration),
) -> Result<Vec<u8>, InvalidOrder> {
    let run = RunOrder::parse(run)?;
    let journey = Journey::of(order.lane, manifest, order.from.as_ref());
    let (installed, ends_on, checks_first) = match &journey {
        Ok(journey) => (&journey.installed.digest, journey.ends_on(), journey.checks_first),
        Err(_) => (&manifest.digest, &manifest.digest, false),
    };
    let is_bad = journey.as_ref().is_ok_and(|journey| journey.offer == Offer::Bad);
    let journey =
        Way { installed: installed.clone(), target, ends_on: ends_on.clone(), is_bad, checks_first };
    let mark = format!("lane {} of {}", order.lane, manifest.digest.short());
    Ok(serde_json::to_vec(&DeviceOrder { run, journey, mark, within: within.as_secs() })?)
}
