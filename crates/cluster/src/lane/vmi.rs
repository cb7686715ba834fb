//! The virtual machine of a lane.

use edgewright_lab::remote::{
    DISK, INITRD, KERNEL, ORDER_DISK, PROGRAMS, PROGRAMS_DISK, ROOT_DISK, STATE_DISK,
};
use edgewright_model::Digest;
use edgewright_model::order::{JobRequest, ManifestRef};
use serde_json::{Value, json};

use crate::names::Attempt;
use crate::settings::ClusterSettings;
use crate::vmi::Vmi;

/// The processors of a machine.
const CORES: u32 = 2;

/// The size of the disk with a device's state: one sector of it is used.
const STATE_CAPACITY: &str = "1Mi";

/// How a machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hardware {
    /// The container image with its files.
    pub(crate) machine: ManifestRef,
    /// What starts.
    pub(crate) boot: Boot,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
}

/// What starts a machine's system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boot {
    /// QEMU, with these arguments of the kernel. The root is read-only.
    Kernel {
        /// The kernel's arguments.
        arguments: String,
    },
    /// Firmware and boot loader, from a disk.
    Firmware,
    /// The same from an installed disk, again and again.
    Device {
        /// What the device is offered; none: it runs it already.
        target: Option<Digest>,
    },
}

/// The machine of one attempt. It waits for the Secret of the same name.
pub(crate) fn vmi(
    attempt: &Attempt,
    request: &JobRequest,
    hardware: &Hardware,
    settings: &ClusterSettings,
) -> Vmi {
    let mut metadata = attempt.meta(&settings.server, request);
    metadata.namespace = Some(settings.machines.namespace.clone());
    let ManifestRef { repository, digest } = &hardware.machine;
    let image = |more: Value| {
        let mut image = json!({
            "image": format!("{}/{repository}@{digest}", settings.pull_from),
            "imagePullPolicy": "IfNotPresent",
        });
        if let Some(secret) = settings.pull_secrets.first() {
            image["imagePullSecret"] = json!(secret);
        }
        if let (Value::Object(image), Value::Object(more)) = (&mut image, more) {
            image.extend(more);
        }
        image
    };
    let disk =
        |name: &str, serial: &str| json!({ "name": name, "serial": serial, "disk": { "bus": "virtio" } });
    let mut root = disk("root", ROOT_DISK);
    let mut disks = vec![disk("order", ORDER_DISK)];
    let mut volumes = vec![
        json!({ "name": "root", "containerDisk": image(json!({ "path": DISK })) }),
        json!({ "name": "order", "secret": { "secretName": metadata.name } }),
    ];
    let firmware = match &hardware.boot {
        Boot::Kernel { arguments } => json!({ "kernelBoot": {
            "kernelArgs": arguments,
            "container": image(json!({ "kernelPath": KERNEL, "initrdPath": INITRD })),
        } }),
        Boot::Firmware | Boot::Device { .. } => {
            root["bootOrder"] = json!(1);
            json!({ "bootloader": { "efi": { "secureBoot": false } } })
        }
    };
    if matches!(hardware.boot, Boot::Device { .. }) {
        disks.extend([disk("programs", PROGRAMS_DISK), disk("state", STATE_DISK)]);
        volumes.push(json!({ "name": "programs", "containerDisk": image(json!({ "path": PROGRAMS })) }));
        // It lives as long as the machine, through its restarts.
        volumes.push(json!({ "name": "state", "emptyDisk": { "capacity": STATE_CAPACITY } }));
    }
    disks.insert(0, root);
    let memory = format!("{}Mi", hardware.memory_mib);
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "cpu": { "cores": CORES },
            "memory": { "guest": memory },
            "resources": { "requests": { "cpu": settings.machines.cpu } },
            "firmware": firmware,
            "devices": {
                "autoattachPodInterface": false,
                "autoattachGraphicsDevice": false,
                "autoattachMemBalloon": false,
                "logSerialConsole": true,
                "rng": {},
                "disks": disks,
            },
        },
        "volumes": volumes,
    });
    Vmi::new(metadata, spec)
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::spec::Lane;

    use super::*;
    use crate::names::{OrderId, Part};
    use crate::settings::tests::sample;

    fn made(lane: Lane, boot: Boot) -> Vmi {
        let request = image_request(1, "hmi/plant-a").unwrap();
        let order = OrderId::of(&request, "plant", "image");
        let attempt = Attempt { order, part: Part::Lane(lane), number: 1 };
        let machine = ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("m") };
        let hardware = Hardware { machine, boot, memory_mib: 1024 };
        vmi(&attempt, &request, &hardware, &sample())
    }

    #[test]
    fn the_machine_of_a_lane() {
        let boot = Boot::Kernel { arguments: "console=ttyS0".to_owned() };
        insta::assert_json_snapshot!(made(Lane::Vm, boot));
    }

    #[test]
    fn the_machine_of_a_device() {
        insta::assert_json_snapshot!(made(Lane::Upgrade, Boot::Device { target: None }));
    }

    #[test]
    fn a_machine_with_firmware_has_no_disk_of_a_device() {
        let vmi = serde_json::to_value(made(Lane::Vm, Boot::Firmware)).unwrap();
        assert_eq!(vmi["spec"]["volumes"].as_array().unwrap().len(), 2, "{vmi}");
        assert_eq!(vmi["spec"]["domain"]["devices"]["disks"][0]["bootOrder"], 1, "{vmi}");
        assert!(vmi["spec"]["domain"]["firmware"]["bootloader"]["efi"].is_object(), "{vmi}");
    }
}
