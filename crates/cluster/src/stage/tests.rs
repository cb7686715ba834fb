//! Statuses as Kubernetes 1.35, Tekton 1.12 and containerd give them.

#![expect(clippy::needless_pass_by_value, reason = "helpers that take what `json!` gives")]

use serde_json::{Value, json};

use super::*;

fn run(condition: Value, more: Value) -> TaskRun {
    let mut status = json!({ "conditions": [condition], "podName": "ew-1-pod" });
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({ "metadata": { "name": "ew-1" }, "spec": {}, "status": status })).unwrap()
}

fn condition(status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": "Succeeded", "status": status, "reason": reason, "message": message })
}

fn pod(status: Value) -> Pod {
    let spec = json!({ "containers": [] });
    serde_json::from_value(json!({ "metadata": { "name": "ew-1-pod" }, "spec": spec, "status": status }))
        .unwrap()
}

fn container(name: &str, state: Value) -> Value {
    json!({ "name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0 })
}

fn ended(code: i32, reason: &str) -> Value {
    json!({ "terminated": { "exitCode": code, "reason": reason, "startedAt": "2026-11-28T12:00:00Z" } })
}

fn end(stage: Stage) -> End {
    match stage {
        Stage::Ended { end, .. } => end,
        other => panic!("it ended: {other:?}"),
    }
}

#[test]
fn a_task_run_waits_runs_and_ends() {
    let fresh: TaskRun =
        serde_json::from_value(json!({ "metadata": { "name": "ew-1" }, "spec": {} })).unwrap();
    assert_eq!(of_task_run(&fresh, None), Stage::Waits(None));
    let pending = run(condition("Unknown", "Pending", ""), json!({}));
    let unscheduled = pod(json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available:\n 1 Insufficient cpu." },
    ] }));
    assert_eq!(
        of_task_run(&pending, Some(&unscheduled)),
        Stage::Waits(Some(Wait::Node("0/1 nodes are available: 1 Insufficient cpu.".to_owned())))
    );
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } });
    let pulling = pod(json!({ "phase": "Pending", "containerStatuses": [container(CONTAINER, waiting)] }));
    let words = "waits for its image: Back-off pulling image";
    let Stage::Waits(Some(wait)) = of_task_run(&pending, Some(&pulling)) else { panic!("it waits") };
    assert_eq!(wait.to_string(), words);
    let creating = json!({ "waiting": { "reason": "PodInitializing" } });
    let starting = pod(json!({ "phase": "Pending", "containerStatuses": [container(CONTAINER, creating)] }));
    assert_eq!(of_task_run(&pending, Some(&starting)), Stage::Waits(None));
    let running = json!({ "running": { "startedAt": "2026-11-28T12:00:00Z" } });
    let running = pod(json!({ "phase": "Running", "containerStatuses": [container(CONTAINER, running)] }));
    assert_eq!(of_task_run(&pending, Some(&running)), Stage::Runs { pod: "ew-1-pod".to_owned() });
    let done = run(
        condition("True", "Succeeded", "All Steps have completed executing"),
        json!({ "results": [{ "name": "report", "type": "string", "value": "sha256:1\n" }] }),
    );
    assert_eq!(end(of_task_run(&done, None)), End::Process(Ended::Code(0)));
    assert_eq!(done.report(), Some("sha256:1"));
}

#[test]
fn the_end_of_a_task_run_has_one_reason() {
    let failed = |reason: &str, message: &str| run(condition("False", reason, message), json!({}));
    let of = |reason: &str| end(of_task_run(&failed(reason, "why"), None));
    assert_eq!(of("TaskRunTimeout"), End::TimeLimit);
    for reason in ["TaskRunCancelled", "TaskRunImagePullFailed", "PodEvicted", "Failed"] {
        assert!(matches!(of(reason), End::Infrastructure(_)), "{reason}");
    }
    for reason in
        ["TaskRunValidationFailed", "CouldntGetTask", "CreateContainerConfigError", "PodCreationFailed"]
    {
        assert!(matches!(of(reason), End::Refused(_)), "{reason}");
    }
    let exited = json!({ "phase": "Failed", "containerStatuses": [container(CONTAINER, ended(3, "Error"))] });
    let exited = pod(exited);
    assert_eq!(
        end(of_task_run(&failed("Failed", "exit code 3"), Some(&exited))),
        End::Process(Ended::Code(3))
    );
    let killed =
        pod(json!({ "phase": "Failed", "containerStatuses": [container(CONTAINER, ended(143, "Error"))] }));
    assert_eq!(end(of_task_run(&failed("Failed", ""), Some(&killed))), End::Process(Ended::Signal(15)));
    // Without its Pod, Tekton's own status of the step.
    let step =
        json!({ "steps": [{ "container": CONTAINER, "terminated": { "exitCode": 4, "reason": "Error" } }] });
    let without = run(condition("False", "Failed", ""), step);
    assert_eq!(end(of_task_run(&without, None)), End::Process(Ended::Code(4)));
}

#[test]
fn whose_memory_ended_decides() {
    let failed = run(condition("False", "Failed", ""), json!({}));
    let of = |resources: Value| {
        let mut container = container(CONTAINER, ended(137, "OOMKilled"));
        container["resources"] = resources;
        end(of_task_run(&failed, Some(&pod(json!({ "phase": "Failed", "containerStatuses": [container] })))))
    };
    assert_eq!(of(json!({ "limits": { "memory": "64Mi" } })), End::OutOfMemory);
    assert!(matches!(of(json!({ "requests": { "memory": "64Mi" } })), End::Infrastructure(_)));
    assert_eq!(of(Value::Null), End::OutOfMemory, "an older kubelet does not report limits");
}

#[test]
fn a_pod_that_the_cluster_ended_is_not_the_jobs_fault() {
    let pending = run(condition("Unknown", "Running", ""), json!({}));
    for status in [
        json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." }),
        json!({ "phase": "Failed", "reason": "NodeShutdown" }),
        json!({ "phase": "Running", "reason": "NodeLost", "message": "Node n is unresponsive" }),
        json!({ "phase": "Failed", "conditions": [
            { "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempting" },
        ] }),
    ] {
        let pod = pod(status.clone());
        for stage in [of_task_run(&pending, Some(&pod)), of_pod(&pod, "image")] {
            assert!(matches!(end(stage), End::Infrastructure(_)), "{status}");
        }
    }
}

#[test]
fn a_pod_of_our_own_ends_with_its_container() {
    let of = |status: Value| of_pod(&pod(status), "image");
    let with = |state: Value| json!({ "phase": "Failed", "containerStatuses": [container("image", state)] });
    assert_eq!(of(json!({ "phase": "Pending" })), Stage::Waits(None));
    assert_eq!(end(of(with(ended(127, "Error")))), End::Process(Ended::Code(127)));
    let start = json!({ "terminated": { "exitCode": 128, "reason": "StartError", "message": "exec /ew/sbin/init:\n no such file" } });
    assert_eq!(
        end(of(with(start))),
        End::Refused(
            "the container cannot be started (exit code 128): exec /ew/sbin/init: no such file".to_owned()
        )
    );
    let late = json!({ "phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": [container("image", ended(137, "Error"))] });
    assert_eq!(end(of(late)), End::TimeLimit);
    let init =
        json!({ "phase": "Failed", "initContainerStatuses": [container("runner", ended(1, "Error"))] });
    assert_eq!(end(of(init)), End::Infrastructure("`runner` ended with exit code 1: no message".to_owned()));
}

fn machine(phase: &str, conditions: Value) -> Vmi {
    let status = json!({ "phase": phase, "conditions": conditions });
    serde_json::from_value(json!({ "metadata": { "name": "ew-1-vm-1" }, "spec": {}, "status": status }))
        .unwrap()
}

/// A launcher Pod: the console's container is a sidecar.
fn launcher(console: Value, compute: Value) -> Pod {
    pod(json!({
        "phase": "Running",
        "initContainerStatuses": [container(CONSOLE, console)],
        "containerStatuses": [container(COMPUTE, compute)],
    }))
}

#[test]
fn a_machine_runs_when_its_console_can_be_read_and_its_phase_is_no_verdict() {
    let running = || json!({ "running": { "startedAt": "2026-11-28T12:00:00Z" } });
    let starting = || json!({ "waiting": { "reason": "PodInitializing" } });
    let scheduling = machine("Scheduling", json!([]));
    assert_eq!(of_machine(&scheduling, None), Stage::Waits(None));
    assert_eq!(of_machine(&scheduling, Some(&launcher(starting(), starting()))), Stage::Waits(None));
    let runs = Stage::Runs { pod: "ew-1-pod".to_owned() };
    let phase = machine("Running", json!([]));
    assert_eq!(of_machine(&phase, Some(&launcher(running(), running()))), runs);
    for phase in ["Succeeded", "Failed"] {
        let pod = launcher(running(), ended(0, "Completed"));
        let over = of_machine(&machine(phase, json!([])), Some(&pod));
        let end = End::Process(Ended::Code(0));
        assert_eq!(over, Stage::Ended { pod: Some("ew-1-pod".to_owned()), end }, "{phase}");
    }
    let over = |compute| end(of_machine(&machine("Failed", json!([])), Some(&launcher(running(), compute))));
    assert!(matches!(over(ended(137, "OOMKilled")), End::Infrastructure(_)));
    assert!(matches!(end(of_machine(&machine("Failed", json!([])), None)), End::Infrastructure(_)));
}

#[test]
fn what_a_machine_waits_for_is_its_own_or_its_pods_reason() {
    let waits = |reason: &str, message: &str| {
        let condition =
            json!([{ "type": "Synchronized", "status": "False", "reason": reason, "message": message }]);
        let Stage::Waits(Some(wait)) = of_machine(&machine("Pending", condition), None) else {
            panic!("it waits")
        };
        wait
    };
    let quota = "failed to create virtual machine pod: exceeded quota: full";
    assert_eq!(waits("FailedCreate", quota), Wait::Quota(quota.to_owned()));
    assert_eq!(waits("ImagePullBackOff", "back-off"), Wait::Image("back-off".to_owned()));
    assert_eq!(
        waits("FailedCreate", "needs a privileged namespace"),
        Wait::Other("FailedCreate: needs a privileged namespace".to_owned())
    );
    let pulling = json!({ "waiting": { "reason": "ErrImagePull", "message": "not found" } });
    let pod = launcher(pulling, json!({ "waiting": { "reason": "PodInitializing" } }));
    let Stage::Waits(Some(wait)) = of_machine(&machine("Scheduling", json!([])), Some(&pod)) else {
        panic!("it waits")
    };
    assert_eq!(wait, Wait::Image("not found".to_owned()));
}
