//! KubeVirt's VirtualMachineInstance: the parts of it that we write and read.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::custom::{Custom, CustomKind};

/// The group and version of virtual machines.
pub const API_VERSION: &str = "kubevirt.io/v1";
/// The container of the launcher Pod whose log is the serial console.
pub(crate) const CONSOLE: &str = "guest-console-log";
/// The container of the launcher Pod that runs QEMU.
pub(crate) const COMPUTE: &str = "compute";
/// The resource by which the launcher Pod gets hardware virtualization.
const KVM: &str = "devices.kubevirt.io/kvm";

/// A VirtualMachineInstance of `kubevirt.io/v1`.
pub type Vmi = Custom<VmiStatus>;

/// The status of a VirtualMachineInstance, in part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VmiStatus {
    /// `Pending`, `Scheduling`, `Scheduled`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// `Synchronized` has the reason if it does not start.
    pub conditions: Vec<VmiCondition>,
}

/// A condition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VmiCondition {
    /// `Ready`, `Synchronized`, and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl CustomKind for VmiStatus {
    const GROUP: &'static str = "kubevirt.io";
    const KIND: &'static str = "VirtualMachineInstance";
    const PLURAL: &'static str = "virtualmachineinstances";
}

impl Vmi {
    /// The condition `Synchronized` of one that KubeVirt cannot bring further.
    pub(crate) fn not_synchronized(&self) -> Option<&VmiCondition> {
        let conditions = &self.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.kind == "Synchronized" && condition.status == "False")
    }

    /// Whether it ended. The phase is no verdict: machines that powered themselves off were seen as `Failed`.
    pub(crate) fn has_ended(&self) -> bool {
        let phase = self.status.as_ref().map(|status| status.phase.as_str());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

/// Whether a Pod is the launcher of this machine.
pub(crate) fn is_launcher_of(pod: &Pod, vmi: &Vmi) -> bool {
    let uid = vmi.uid().unwrap_or_default();
    !uid.is_empty()
        && pod.owner_references().iter().any(|owner| owner.uid == uid && owner.kind == VmiStatus::KIND)
}

/// Whether the machine of a launcher Pod has hardware virtualization.
pub(crate) fn has_kvm(launcher: &Pod) -> bool {
    let containers = launcher.spec.iter().flat_map(|spec| &spec.containers);
    let limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref());
    limits.flatten().any(|(name, _)| name == KVM)
}
