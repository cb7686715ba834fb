//! The virtual machine of a lane.

use edgewright_lab::remote::{DISK, INITRD, KERNEL, ORDER_DISK, ROOT_DISK};
use edgewright_model::order::{JobRequest, ManifestRef};
use serde_json::{Value, json};

use crate::names::Attempt;
use crate::settings::ClusterSettings;
use crate::vmi::Vmi;

/// The processors of a machine.
const CORES: u32 = 2;

/// How a machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hardware {
    /// The container image with its files.
    pub(crate) machine: ManifestRef,
    /// The kernel's arguments.
    pub(crate) arguments: String,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
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
    let memory = format!("{}Mi", hardware.memory_mib);
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "cpu": { "cores": CORES },
            "memory": { "guest": memory },
            "resources": { "requests": { "cpu": settings.machines.cpu } },
            "firmware": { "kernelBoot": {
                "kernelArgs": hardware.arguments,
                "container": image(json!({ "kernelPath": KERNEL, "initrdPath": INITRD })),
            } },
            "devices": {
                "autoattachPodInterface": false,
                "autoattachGraphicsDevice": false,
                "autoattachMemBalloon": false,
                "logSerialConsole": true,
                "rng": {},
                "disks": [disk("root", ROOT_DISK), disk("order", ORDER_DISK)],
            },
        },
        "volumes": [
            { "name": "root", "containerDisk": image(json!({ "path": DISK })) },
            { "name": "order", "secret": { "secretName": metadata.name } },
        ],
    });
    Vmi::new(metadata, spec)
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::Digest;
    use edgewright_model::spec::Lane;

    use super::*;
    use crate::names::{OrderId, Part};
    use crate::settings::tests::sample;

    #[test]
    fn the_machine_of_a_lane() {
        let request = image_request(1, "hmi/plant-a").unwrap();
        let order = OrderId::of(&request, "plant", "image");
        let attempt = Attempt { order, part: Part::Lane(Lane::Vm), number: 1 };
        let machine = ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("m") };
        let hardware = Hardware { machine, arguments: "console=ttyS0".to_owned(), memory_mib: 1024 };
        insta::assert_json_snapshot!(vmi(&attempt, &request, &hardware, &sample()));
    }
}
