//! Lanes in Pods, and the Pod that prints the versions of tools.

use super::*;

/// A registry of this process, and a job's worker that pushes to it.
pub(crate) async fn registry(folder: &std::path::Path) -> (JobRegistry, edgewright_registry::Registry) {
    use edgewright_registry::{NoReservedTags, Open, Registry, RegistrySettings};
    let settings = RegistrySettings::new(folder.join("registry"));
    let registry =
        Registry::open(settings, Arc::new(NoReservedTags), Arc::new(Open::new(None))).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = registry.router();
    #[expect(
        clippy::let_underscore_future,
        clippy::disallowed_methods,
        reason = "ends with the test's runtime"
    )]
    let _ = tokio::task::spawn(async move { axum::serve(listener, router).await });
    (JobRegistry::anonymous(url), registry)
}

/// A request whose lane has a check that holds.
pub(crate) fn checked(number: u128) -> JobRequest {
    let mut request = request(number);
    let Task::Image(task) = &mut request.task else { panic!("it is an image") };
    let checks = json!([{ "id": "works", "assert": { "kind": "command", "argv": ["true"], "exit": 0 }, "within": "10s" }]);
    task.lanes[0].checks = serde_json::from_value(checks).unwrap();
    task.lanes[0].check_set = check_set_digest(&task.lanes[0].checks);
    request
}

/// The Pod of an attempt at the lane.
async fn lane_pod(fake: &Fake, attempt: u32) -> String {
    let suffix = format!("-container-{attempt}");
    fake.until(|fake| fake.names("pods").into_iter().find(|name| name.ends_with(&suffix))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_runs_in_a_pod_on_what_the_job_built() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _running) = registry(folder.path()).await;
    let fake = Fake::new();
    let server = Server::testing_in_pods(&fake, registry.clone());
    let _tekton = Tekton::pushing(&fake, registry);
    let job = server.run(checked(1), &CancellationToken::new()).await;
    // The cluster ends the first attempt.
    let first = lane_pod(&fake, 1).await;
    fake.set_status(
        "pods",
        &first,
        json!({ "phase": "Failed", "reason": "Evicted", "message": "disk pressure" }),
    );
    let second = lane_pod(&fake, 2).await;
    let pod = fake.get("pods", &second).unwrap();
    fake::lanes::run(&fake, &second, true).await;
    let (outcome, lines) = job.end().await;
    let outcome = outcome.unwrap();
    let built = outcome.builds.last().unwrap().manifest.clone();
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
    assert_eq!(image, format!("registry/{}@{}", built.repository, built.digest));
    let arguments = json!(["pod", "/ew-order/order.json", "root", "/sbin/init"]);
    assert_eq!(pod["spec"]["containers"][0]["args"], arguments);
    let [verdict] = outcome.verdicts.as_slice() else { panic!("{outcome:?}") };
    assert_eq!((&verdict.manifest, &verdict.result), (&built, &LaneResult::Passed), "{lines:?}");
    assert_eq!(verdict.inputs.profile, "pod");
    let evidence: Vec<_> = verdict.evidence.iter().map(|piece| piece.name.as_str()).collect();
    assert!(evidence.contains(&"console") && evidence.contains(&"runner"), "{evidence:?}");
    assert!(lines.iter().any(|line| line.contains("disk pressure")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_ends_is_the_images_fault_and_a_cancelled_lane_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _running) = registry(folder.path()).await;
    let fake = Fake::new();
    let server = Server::testing_in_pods(&fake, registry.clone());
    let _tekton = Tekton::pushing(&fake, registry);
    let job = server.run(checked(1), &CancellationToken::new()).await;
    fake::lanes::run(&fake, &lane_pod(&fake, 1).await, false).await;
    let verdict = job.end().await.0.unwrap().verdicts.remove(0);
    let LaneResult::Failed { kind, message, .. } = &verdict.result else { panic!("{verdict:?}") };
    assert_eq!(*kind, FailureKind::Image);
    assert_eq!(message, "the image's init `/sbin/init` ended with 3 before the checks were done");

    let cancel = CancellationToken::new();
    let mut request = checked(2);
    let Task::Image(task) = &mut request.task else { panic!("it is an image") };
    task.node = "edge".to_owned();
    let before = fake.names("pods");
    let job = server.run(request, &cancel).await;
    let is_new = |name: &String| name.contains("-container-") && !before.contains(name);
    let name = fake.until(|fake| fake.names("pods").into_iter().find(is_new)).await;
    fake::lanes::schedule(&fake, &name);
    fake.object("secrets", &name).await;
    cancel.cancel();
    let failure = job.end().await.0.unwrap().failure.unwrap();
    assert!(failure.message.contains("cancelled"), "{failure:?}");
    assert!(fake.get("pods", &name).is_none() && fake.get("secrets", &name).is_none());
}

#[tokio::test]
async fn the_versions_of_tools_are_printed_by_a_pod_once() {
    let fake = Fake::new();
    let server = Server::with(&fake, JobRegistry::anonymous("http://127.0.0.1:1"), |settings| {
        settings.tools = JobTools::Printed(vec!["edgewright".into(), "job".into(), "tools".into()]);
    });
    let cancel = CancellationToken::new();
    let (sender, mut events) = mpsc::channel(EVENTS);
    // Once with a program that fails, once with one that prints.
    for (code, printed, expected) in [(1, "no such command", 0), (0, r#"{"buildah": "1.39.3"}"#, 1)] {
        let pod = async {
            let is_it = |name: &String| name.starts_with("ew-tools-");
            let name = fake.until(|fake| fake.names("pods").into_iter().find(is_it)).await;
            fake.write(&name, &[printed.to_owned()]);
            fake.close(&name);
            fake::lanes::end(&fake, &name, "tools", code);
        };
        let (versions, ()) = tokio::join!(server.executor.tools(sender.clone(), &cancel), pod);
        assert_eq!(versions.0.len(), expected, "{versions:?}");
        assert!(!fake.names("pods").iter().any(|name| name.starts_with("ew-tools-")), "its Pod is removed");
    }
    let JobEvent::Log { line } = events.try_recv().unwrap() else { panic!("the failure is in the log") };
    assert!(line.contains("exit code 1"), "{line}");
    let requests = fake.requests().len();
    let known = server.executor.tools(sender, &cancel).await;
    assert_eq!(
        (known.0.get("buildah").map(String::as_str), fake.requests().len()),
        (Some("1.39.3"), requests)
    );
}
