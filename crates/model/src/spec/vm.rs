//! `vm:` of `test:`: the virtual machine that lanes with a kernel start.

use serde::{Deserialize, Serialize};

use crate::size::ByteSize;
use crate::spec::Lane;

const MIB: u64 = 1024 * 1024;
/// The least and the most memory of a machine, in MiB.
const MEMORY_MIB: (u64, u64) = (128, 65_536);

/// How a virtual machine starts an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmProfile {
    /// The kernel is started without firmware, on a read-only root with an overlay in memory.
    #[default]
    Direct,
    /// By UEFI firmware from a disk, with the image's own initramfs.
    Uefi,
}

/// The virtual machine of an image's lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// How it starts.
    #[serde(default)]
    pub profile: VmProfile,
    /// Its memory; 1 GiB by default.
    #[serde(default = "VmSpec::default_memory")]
    pub memory: ByteSize,
}

impl Default for VmSpec {
    fn default() -> Self {
        Self { profile: VmProfile::default(), memory: Self::default_memory() }
    }
}

impl VmSpec {
    const DIRECT: &str = "vm-direct";
    const UEFI: &str = "vm-uefi";
    const DEVICE: &str = "device-uefi";
    /// What KubeVirt starts by default, with whatever memory.
    pub const KUBEVIRT: &str = "kubevirt";
    /// The same by UEFI firmware.
    pub const KUBEVIRT_UEFI: &str = "kubevirt-uefi";
    /// A device on KubeVirt.
    pub const KUBEVIRT_DEVICE: &str = "kubevirt-device";

    const fn default_memory() -> ByteSize {
        ByteSize::from_bytes(1024 * MIB)
    }

    /// Its memory in MiB.
    pub fn memory_mib(&self) -> u32 {
        let mib = (self.memory.bytes() / MIB).clamp(MEMORY_MIB.0, MEMORY_MIB.1);
        u32::try_from(mib).unwrap_or(u32::MAX)
    }

    /// Whether a machine can have this memory.
    pub fn is_possible(&self) -> bool {
        (MEMORY_MIB.0..=MEMORY_MIB.1).contains(&(self.memory.bytes() / MIB))
    }

    /// The name of the machine's kind in verdicts: what can change a result.
    pub fn profile_name(&self) -> String {
        let name = match self.profile {
            VmProfile::Direct => Self::DIRECT,
            VmProfile::Uefi => Self::UEFI,
        };
        self.with_memory(name)
    }

    /// The same of a device that updates itself: it always starts by UEFI firmware.
    pub fn device_name(&self) -> String {
        self.with_memory(Self::DEVICE)
    }

    /// Whether this is the name of such a kind, with whatever memory.
    pub fn is_name(name: &str) -> bool {
        [Self::DIRECT, Self::UEFI, Self::DEVICE, Self::KUBEVIRT_UEFI]
            .iter()
            .any(|kind| name.starts_with(kind))
    }

    /// The name of the kind that a lane starts.
    pub fn name_in(&self, lane: Lane) -> String {
        if lane.is_update() { self.device_name() } else { self.profile_name() }
    }

    /// The name of what is started for this machine, by the name of what is started by default.
    pub fn chosen(&self, lane: Lane, default: &str) -> String {
        if default == Self::default().name_in(lane) {
            self.name_in(lane)
        } else if default == Self::KUBEVIRT {
            self.kubevirt_name(lane).to_owned()
        } else {
            // Executors that run no such machine have their own name for what they do.
            default.to_owned()
        }
    }

    /// The name of the kind that KubeVirt starts.
    pub const fn kubevirt_name(&self, lane: Lane) -> &'static str {
        match self.profile {
            _ if lane.is_update() => Self::KUBEVIRT_DEVICE,
            VmProfile::Direct => Self::KUBEVIRT,
            VmProfile::Uefi => Self::KUBEVIRT_UEFI,
        }
    }

    fn with_memory(&self, name: &str) -> String {
        if self.memory == Self::default_memory() {
            name.to_owned()
        } else {
            format!("{name}-{}", self.memory)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_name_what_can_change_them() {
        let spec = VmSpec::default();
        assert_eq!((spec.profile_name().as_str(), spec.memory_mib()), ("vm-direct", 1024));
        let spec = VmSpec { profile: VmProfile::Uefi, memory: "2GiB".parse().unwrap() };
        assert_eq!((spec.profile_name().as_str(), spec.memory_mib()), ("vm-uefi-2GiB", 2048));
        assert_eq!(spec.name_in(Lane::Upgrade), "device-uefi-2GiB");
        assert!(VmSpec::is_name("vm-uefi-2GiB") && VmSpec::is_name("device-uefi"));
        assert!(!VmSpec::is_name("podman") && !VmSpec::is_name("external"));
        assert_eq!(
            (spec.name_in(Lane::Vm), VmSpec::default().device_name().as_str()),
            (spec.profile_name(), "device-uefi")
        );
        assert_eq!(spec.chosen(Lane::Vm, "vm-direct"), "vm-uefi-2GiB");
        assert_eq!(spec.chosen(Lane::Vm, "kubevirt"), "kubevirt-uefi");
        assert_eq!(VmSpec::default().chosen(Lane::Vm, "kubevirt"), "kubevirt");
        assert_eq!(spec.chosen(Lane::Upgrade, "kubevirt-device"), "kubevirt-device");
        assert_eq!(spec.chosen(Lane::Vm, "simulated"), "simulated");
        let spec: VmSpec = serde_json::from_str("{}").unwrap();
        assert_eq!(spec, VmSpec::default());
        assert!(!VmSpec { memory: "1MiB".parse().unwrap(), ..spec }.is_possible());
    }
}
