//! The Pod of a lane.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_model::order::{JobRequest, ManifestRef};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, Pod, PodSpec,
    ResourceRequirements, SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{ByteString, api::core::v1 as core};

use super::image::Start;
use crate::names::Attempt;
use crate::settings::{ClusterSettings, Resources};
use crate::task_run::WAITING;

/// The container with the image under test.
pub(crate) const CONTAINER: &str = "image";
/// Where our programs are. CRI-O prepares a container for systemd if its command's path contains
/// `/sbin/init`.
const FOLDER: &str = "/ew";
const INIT: &str = "/ew/sbin/init";
const ORDER_FOLDER: &str = "/ew-order";
const ORDER_KEY: &str = "order.json";

/// The Pod of one attempt. It waits for the Secret of the same name.
pub(crate) fn pod(
    attempt: &Attempt,
    request: &JobRequest,
    (manifest, start): (&ManifestRef, &Start),
    settings: &ClusterSettings,
) -> Pod {
    let mut metadata = attempt.meta(&settings.server, request);
    metadata.namespace = Some(settings.namespace.clone());
    let volume = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    let memory = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: None };
    let secret = SecretVolumeSource { secret_name: metadata.name.clone(), ..SecretVolumeSource::default() };
    let volumes = vec![
        Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..volume("programs") },
        Volume { empty_dir: Some(memory), ..volume("run") },
        Volume { secret: Some(secret), ..volume("order") },
    ];
    let limit = request.within.get() + WAITING;
    let spec = PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(seconds(limit)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(1),
        service_account_name: settings.service_account.clone(),
        image_pull_secrets: Some(pull_secrets(settings)),
        volumes: Some(volumes),
        init_containers: Some(vec![runner(settings)]),
        containers: vec![image(manifest, start, settings)],
        ..PodSpec::default()
    };
    Pod { metadata, spec: Some(spec), status: None }
}

/// Copies the check runner into the Pod.
fn runner(settings: &ClusterSettings) -> Container {
    let mut command = settings.install_runner.clone();
    command.push(INIT.to_owned());
    Container {
        name: "runner".to_owned(),
        image: Some(settings.image.clone()),
        command: Some(command),
        volume_mounts: Some(vec![mount("programs", FOLDER, false)]),
        resources: Some(small()),
        security_context: Some(unprivileged()),
        ..Container::default()
    }
}

/// The image under test, as it is.
fn image(manifest: &ManifestRef, start: &Start, settings: &ClusterSettings) -> Container {
    let mut arguments = vec![
        "pod".to_owned(),
        format!("{ORDER_FOLDER}/{ORDER_KEY}"),
        start.user().unwrap_or(edgewright_checks::pod::ROOT).to_owned(),
    ];
    // Kubernetes expands `$(NAME)` in arguments; `$$` is `$`.
    arguments.extend(start.command().iter().map(|word| word.replace("$(", "$$(")));
    let ManifestRef { repository, digest } = manifest;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(format!("{}/{repository}@{digest}", settings.pull_from)),
        command: Some(vec![INIT.to_owned()]),
        args: Some(arguments),
        env: Some(vec![EnvVar {
            name: "container".to_owned(),
            value: Some("oci".to_owned()),
            ..EnvVar::default()
        }]),
        volume_mounts: Some(vec![
            mount("programs", FOLDER, true),
            mount("run", "/run", false),
            mount("order", ORDER_FOLDER, true),
        ]),
        resources: Some(requirements(&settings.test)),
        // systemd mounts; the runner becomes the image's user after it has started the checks as root.
        security_context: Some(SecurityContext {
            run_as_user: Some(0),
            capabilities: Some(Capabilities { add: Some(vec!["SYS_ADMIN".to_owned()]), drop: None }),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// What a container of ours needs that only prints or copies.
pub(crate) fn small() -> ResourceRequirements {
    requirements(&Resources { cpu: "10m".to_owned(), memory: "32Mi".to_owned(), memory_limit: None })
}

/// A container of ours that needs no rights.
pub(crate) fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

/// With what nodes pull images.
pub(crate) fn pull_secrets(settings: &ClusterSettings) -> Vec<LocalObjectReference> {
    settings.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn requirements(resources: &Resources) -> ResourceRequirements {
    let Resources { cpu, memory, memory_limit } = resources;
    let quantity = |name: &str, value: &String| (name.to_owned(), Quantity(value.clone()));
    let requests = BTreeMap::from([quantity("cpu", cpu), quantity("memory", memory)]);
    let limits = memory_limit.as_ref().map(|limit| BTreeMap::from([quantity("memory", limit)]));
    ResourceRequirements { requests: Some(requests), limits, ..core::ResourceRequirements::default() }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The Secret with the order of the checks, which ends with its Pod, if that is given.
pub(crate) fn secret(meta: &ObjectMeta, owner: Option<OwnerReference>, order: Vec<u8>) -> Secret {
    let metadata = ObjectMeta { owner_references: owner.map(|owner| vec![owner]), ..meta.clone() };
    let data = BTreeMap::from([(ORDER_KEY.to_owned(), ByteString(order))]);
    Secret { metadata, immutable: Some(true), data: Some(data), ..Secret::default() }
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
    fn the_pod_of_a_lane() {
        let request = image_request(1, "hmi/plant-a").unwrap();
        let order = OrderId::of(&request, "plant", "image");
        let attempt = Attempt { order, part: Part::Lane(Lane::Container), number: 1 };
        let manifest = ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("m") };
        let start = r#"{"Entrypoint": ["/lib/systemd/systemd"], "Cmd": ["--unit=$(cat /unit)"], "User": "app:plant"}"#;
        let start: Start = serde_json::from_str(start).unwrap();
        insta::assert_json_snapshot!(pod(&attempt, &request, (&manifest, &start), &sample()));
    }
}
