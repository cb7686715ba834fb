//! Lanes in virtual machines of KubeVirt.

use edgewright_model::frame::Framer;
use edgewright_model::order::{Base, ManifestRef};
use edgewright_model::reference::RepoName;
use edgewright_model::verdict::CheckOutcome;

use super::fake::kubevirt;
use super::lanes::{checked, registry};
use super::*;

/// A job that tests a digest in a virtual machine.
fn tested(number: u128) -> JobRequest {
    let mut request = checked(number);
    let Task::Image(task) = &mut request.task else { panic!("it is an image") };
    task.steps.clear();
    task.lanes[0].lane = Lane::Vm;
    let digest = Digest::of("under test");
    task.base = Base::Manifest(ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest });
    request
}

fn server(fake: &Fake, registry: &JobRegistry) -> Server {
    fake.install("kubevirt.io/v1");
    Server::with(fake, registry.clone(), |settings| {
        settings.lanes = edgewright_cluster::kubernetes_lanes(Lane::ALL);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_runs_in_a_machine_that_a_job_made_and_again_if_the_cluster_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _running) = registry(folder.path()).await;
    let fake = Fake::new();
    let server = server(&fake, &registry);
    let job = server.run(tested(1), &CancellationToken::new()).await;
    let machine = kubevirt::make(&fake, &registry, "plant-os/hmi", "console=ttyS0 panic=0").await;
    let first = kubevirt::launch(&fake, 1).await;
    kubevirt::evict(&fake, &first);
    let second = kubevirt::launch(&fake, 2).await;
    let spec = fake.get("virtualmachineinstances", &second).unwrap()["spec"].clone();
    kubevirt::run(&fake, &second).await;
    kubevirt::end(&fake, &second, "Failed");
    let (outcome, lines) = job.end().await;
    let outcome = outcome.unwrap();
    let [verdict] = outcome.verdicts.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(verdict.result, LaneResult::Passed, "{lines:?}");
    assert_eq!((verdict.inputs.profile.as_str(), outcome.builds.len()), ("kubevirt", 0));
    assert_eq!(verdict.recorded_on.accelerator.as_deref(), Some("tcg"));
    assert!(lines.iter().any(|line| line.contains("disk pressure")), "{lines:?}");
    let evidence: Vec<_> = verdict.evidence.iter().map(|piece| piece.name.as_str()).collect();
    assert!(evidence.contains(&"console") && evidence.contains(&"runner"), "{evidence:?}");
    let boot = &spec["domain"]["firmware"]["kernelBoot"];
    assert_eq!(boot["kernelArgs"], "console=ttyS0 panic=0");
    let image = format!("registry/plant-os/hmi@{machine}");
    assert_eq!(boot["container"]["image"], image);
    assert_eq!(spec["volumes"][0]["containerDisk"]["image"], image);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_the_images_fault_and_a_cancelled_machine_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _running) = registry(folder.path()).await;
    let fake = Fake::new();
    let server = server(&fake, &registry);
    let job = server.run(tested(1), &CancellationToken::new()).await;
    kubevirt::make(&fake, &registry, "plant-os/hmi", "").await;
    let name = kubevirt::launch(&fake, 1).await;
    let panic = "[    2.1] Kernel panic - not syncing: Attempted to kill init!";
    fake.write(&kubevirt::launcher(&name), &[panic.to_owned()]);
    let verdict = job.end().await.0.unwrap().verdicts.remove(0);
    let LaneResult::Failed { kind, message, .. } = &verdict.result else { panic!("{verdict:?}") };
    assert_eq!(*kind, FailureKind::Image);
    assert_eq!(message, "the kernel panicked: Attempted to kill init! before the checks were done");
    assert!(fake.get("virtualmachineinstances", &name).is_none(), "it would stay where it panicked");

    let cancel = CancellationToken::new();
    let mut request = tested(2);
    let Task::Image(task) = &mut request.task else { panic!("it is an image") };
    // Another lane, so it has names of its own.
    task.lanes[0].within = "7m".parse().unwrap();
    for taskrun in fake.names("taskruns") {
        fake.delete("taskruns", &taskrun);
    }
    let job = server.run(request, &cancel).await;
    kubevirt::make(&fake, &registry, "plant-os/hmi", "").await;
    let name = kubevirt::launch(&fake, 1).await;
    cancel.cancel();
    let failure = job.end().await.0.unwrap_err();
    assert!(matches!(failure, ExecutorError::Cancelled), "{failure:?}");
    assert!(fake.get("virtualmachineinstances", &name).is_none() && fake.get("secrets", &name).is_none());
}

/// A job that tests a digest on a device.
fn on_device(number: u128, lane: Lane, from: Option<&str>) -> JobRequest {
    let mut request = tested(number);
    let Task::Image(task) = &mut request.task else { panic!("it is an image") };
    let repository: RepoName = "plant-os/hmi".parse().unwrap();
    task.lanes[0].lane = lane;
    task.lanes[0].from = from.map(|from| ManifestRef { repository, digest: Digest::of(from) });
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_a_release_is_skipped_and_starts_no_machine() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _running) = registry(folder.path()).await;
    let fake = Fake::new();
    let server = server(&fake, &registry);
    let job = server.run(on_device(1, Lane::Upgrade, None), &CancellationToken::new()).await;
    let verdict = job.end().await.0.unwrap().verdicts.remove(0);
    assert_eq!((&verdict.result, verdict.inputs.profile.as_str()), (&LaneResult::Passed, "kubevirt-device"));
    let CheckOutcome::Skipped { reason } = &verdict.checks[0].outcome else { panic!("{verdict:?}") };
    assert!(reason.contains("nothing is released yet"), "{reason}");
    assert!(fake.names("taskruns").is_empty() && fake.names("virtualmachineinstances").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_fails_is_the_images_fault_unless_it_is_the_released_one() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _running) = registry(folder.path()).await;
    let fake = Fake::new();
    let server = server(&fake, &registry);
    let fault = r#"{"line":"fault","message":"the device restarted 12 times"}"#;
    let settled = r#"{"line":"settled"}"#;
    let end = r#"{"line":"end"}"#;
    for (number, records, kind) in [
        (1, vec![fault, end], FailureKind::Infrastructure),
        (2, vec![settled, fault, end], FailureKind::Image),
    ] {
        let mut request = on_device(number, Lane::Upgrade, Some("released"));
        let Task::Image(task) = &mut request.task else { panic!("it is an image") };
        // Another lane, so it has names of its own.
        task.lanes[0].within = format!("{number}h").parse().unwrap();
        for taskrun in fake.names("taskruns") {
            fake.delete("taskruns", &taskrun);
        }
        let job = server.run(request, &CancellationToken::new()).await;
        kubevirt::make(&fake, &registry, "plant-os/hmi", "").await;
        let name = kubevirt::launch_for(&fake, Lane::Upgrade, 1).await;
        let mut framer = Framer::default();
        let lines: Vec<String> = records.iter().flat_map(|record| framer.lines(record)).collect();
        fake.write(&kubevirt::launcher(&name), &lines);
        let verdict = job.end().await.0.unwrap().verdicts.remove(0);
        let LaneResult::Failed { kind: found, message, .. } = &verdict.result else { panic!("{verdict:?}") };
        assert_eq!((*found, message.contains("released image")), (kind, number == 1), "{message}");
        assert!(message.contains("restarted 12 times"), "{message}");
        assert!(fake.get("virtualmachineinstances", &name).is_none(), "a device that failed is removed");
        fake.until(|fake| fake.names("virtualmachineinstances").is_empty().then_some(())).await;
    }
}
