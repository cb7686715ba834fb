//! Machines for KubeVirt: made and pushed in a job, started elsewhere.

use edgewright_model::order::{LaneOrder, ManifestRef};
use edgewright_model::spec::VmProfile;
use edgewright_vm::publish::{Published, publish};
use edgewright_vm::{Profile, Source};

use super::machine::{fault, vm_context};
use crate::device;
use crate::lane::{Events, LabContext};
use crate::machine::LaneFault;

/// Makes the machine of a lane on a digest, and pushes it to the digest's repository.
///
/// # Errors
/// As in the lane on a host: the image cannot be a machine, or the host cannot make one.
pub async fn publish_machine(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> Result<Published, LaneFault> {
    if order.lane.is_update() {
        return device::publish::publish(order, manifest, context, events).await;
    }
    let profile = match order.vm.unwrap_or_default().profile {
        VmProfile::Direct => Profile::Direct,
        VmProfile::Uefi => Profile::Uefi,
    };
    let own = vm_context(context);
    let source = Source { client: context.client.clone(), manifest: manifest.clone() };
    let image = context.vm.cache().open(&source, &own).await.map_err(|error| fault(&error))?;
    publish(&image, (context.vm.programs, profile), &own).await.map_err(|error| fault(&error))
}
