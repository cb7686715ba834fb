//! Machines for KubeVirt: made and pushed in a job, started elsewhere.

use edgewright_model::order::ManifestRef;
use edgewright_vm::Source;
use edgewright_vm::publish::{Published, publish};

use super::machine::{fault, vm_context};
use crate::lane::LabContext;
use crate::machine::LaneFault;

/// Makes the machine of a digest and pushes it to the digest's repository.
///
/// # Errors
/// As in the lane `vm`: the image cannot be a machine, or the host cannot make one.
pub async fn publish_machine(manifest: &ManifestRef, context: &LabContext) -> Result<Published, LaneFault> {
    let own = vm_context(context);
    let source = Source { client: context.client.clone(), manifest: manifest.clone() };
    let image = context.vm.cache().open(&source, &own).await.map_err(|error| fault(&error))?;
    publish(&image, context.vm.programs, &own).await.map_err(|error| fault(&error))
}
