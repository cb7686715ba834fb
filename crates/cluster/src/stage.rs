//! What became of an attempt, from the status of its objects. Pure.

use edgewright_process::Ended;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use crate::task_run::{CONTAINER, TaskRun};
use crate::vmi::{COMPUTE, CONSOLE, Vmi};

/// The exit code of a process that SIGKILL ended, as runtimes report it.
const KILLED: i32 = 128 + 9;

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its container does not run yet; why, if the cluster gives a reason.
    Waits(Option<Wait>),
    /// Its container runs, or has run: there is a log.
    Runs {
        /// The Pod.
        pod: String,
    },
    /// It ended.
    Ended {
        /// The Pod whose log can be read, if a container ran in it.
        pod: Option<String>,
        /// How.
        end: End,
    },
}

/// Why an attempt does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The namespace's quota is used up.
    Quota(String),
    /// No node has room for it.
    Node(String),
    /// Its image is not there yet.
    Image(String),
    /// Something else.
    Other(String),
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quota(why) => write!(f, "waits for quota: {why}"),
            Self::Node(why) => write!(f, "waits for a node with room: {why}"),
            Self::Image(why) => write!(f, "waits for its image: {why}"),
            Self::Other(why) => write!(f, "waits: {why}"),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its process ended.
    Process(Ended),
    /// Its process was killed because its container reached its own memory limit.
    OutOfMemory,
    /// Its time limit in the cluster was over.
    TimeLimit,
    /// The cluster did not run it to its end: another attempt may.
    Infrastructure(String),
    /// The cluster refuses to run it: so it will another time.
    Refused(String),
}

/// How far a job's TaskRun is. Its Pod is seen sooner, and knows more about how it ended.
pub(crate) fn of_task_run(run: &TaskRun, pod: Option<&Pod>) -> Stage {
    let pod_name = run.status.as_ref().and_then(|status| status.pod_name.clone());
    let pod_name = pod_name.or_else(|| pod?.metadata.name.clone()).filter(|name| !name.is_empty());
    let status = pod.and_then(|pod| pod.status.as_ref());
    let container = status.and_then(|status| container(status, CONTAINER));
    let ran = container.is_some_and(has_run);
    let succeeded = run.succeeded();
    match succeeded.map(|condition| condition.status.as_str()) {
        Some("True") => return Stage::Ended { pod: pod_name, end: End::Process(Ended::Code(0)) },
        Some("False") => {
            // The Pod of a TaskRun that timed out or was cancelled is deleted, its log with it.
            let end = pod.and_then(disrupted).map_or_else(|| failed(run, status), End::Infrastructure);
            let pod = pod_name.filter(|_| pod.is_some());
            return Stage::Ended { pod, end };
        }
        _ => {}
    }
    if let Some(reason) = pod.and_then(disrupted) {
        return Stage::Ended { pod: pod_name.filter(|_| ran), end: End::Infrastructure(reason) };
    }
    match pod_name {
        Some(pod) if ran => Stage::Runs { pod },
        _ => Stage::Waits(waits(run, status)),
    }
}

/// How far a Pod of our own is.
pub(crate) fn of_pod(pod: &Pod, name: &str) -> Stage {
    let Some(status) = &pod.status else { return Stage::Waits(None) };
    let pod_name = pod.metadata.name.clone();
    let found = container(status, name);
    let ran = found.is_some_and(has_run);
    if let Some(reason) = disrupted(pod) {
        return Stage::Ended { pod: pod_name.filter(|_| ran), end: End::Infrastructure(reason) };
    }
    let ended = found.and_then(terminated);
    match (status.phase.as_deref(), ended) {
        (_, Some(end)) if status.reason.as_deref() != Some("DeadlineExceeded") => {
            Stage::Ended { pod: pod_name, end }
        }
        (Some("Failed" | "Succeeded"), _) => {
            let end = match status.reason.as_deref() {
                Some("DeadlineExceeded") => End::TimeLimit,
                _ => End::Infrastructure(init_failed(status)),
            };
            Stage::Ended { pod: pod_name.filter(|_| ran), end }
        }
        _ => match pod_name {
            Some(pod) if ran => Stage::Runs { pod },
            _ => Stage::Waits(pod_waits(status)),
        },
    }
}

/// How far a virtual machine is. Its phase is no verdict, only its end.
pub(crate) fn of_machine(vmi: &Vmi, launcher: Option<&Pod>) -> Stage {
    let status = launcher.and_then(|pod| pod.status.as_ref());
    let ran = status.and_then(|status| container(status, CONSOLE)).is_some_and(has_run);
    let pod = launcher.and_then(|pod| pod.metadata.name.clone()).filter(|_| ran);
    if let Some(reason) = launcher.and_then(disrupted) {
        return Stage::Ended { pod, end: End::Infrastructure(reason) };
    }
    if vmi.has_ended() {
        let compute = status.and_then(|status| container(status, COMPUTE)).and_then(terminated);
        let end = match compute {
            Some(End::OutOfMemory) => {
                End::Infrastructure("the process of the virtual machine reached its memory limit".to_owned())
            }
            Some(end @ (End::Infrastructure(_) | End::Refused(_))) => end,
            _ if pod.is_none() => {
                End::Infrastructure("the virtual machine ended before it was started".to_owned())
            }
            _ => End::Process(Ended::Code(0)),
        };
        return Stage::Ended { pod, end };
    }
    match pod {
        Some(pod) => Stage::Runs { pod },
        None => Stage::Waits(status.and_then(pod_waits).or_else(|| machine_waits(vmi))),
    }
}

/// Why a virtual machine without a Pod does not start.
fn machine_waits(vmi: &Vmi) -> Option<Wait> {
    let condition = vmi.not_synchronized()?;
    let message = one_line(&condition.message);
    Some(if message.contains("exceeded quota") {
        Wait::Quota(message)
    } else if condition.reason.contains("Image") {
        Wait::Image(message)
    } else {
        Wait::Other(format!("{}: {message}", condition.reason))
    })
}

fn container<'s>(status: &'s PodStatus, name: &str) -> Option<&'s ContainerStatus> {
    // Sidecars are init containers.
    let all = [&status.container_statuses, &status.init_container_statuses];
    all.into_iter().flatten().flatten().find(|container| container.name == name)
}

fn has_run(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    // One that was never started is `terminated` without a start.
    state.is_some_and(|state| {
        state.running.is_some() || state.terminated.as_ref().is_some_and(|ended| ended.started_at.is_some())
    })
}

fn terminated(container: &ContainerStatus) -> Option<End> {
    let Some(ContainerState { terminated: Some(ended), .. }) = &container.state else { return None };
    let limited = container.resources.as_ref().is_none_or(|resources| {
        resources.limits.as_ref().is_some_and(|limits| limits.contains_key("memory"))
    });
    Some(match (ended.reason.as_deref(), ended.exit_code) {
        (Some("OOMKilled"), _) if limited => End::OutOfMemory,
        (Some("OOMKilled"), _) => {
            End::Infrastructure("the node ran out of memory and killed the process".to_owned())
        }
        (Some("ContainerStatusUnknown"), _) => {
            End::Infrastructure("the node lost the state of the container".to_owned())
        }
        (Some("StartError" | "ContainerCannotRun"), code) => {
            let message = ended.message.as_deref().unwrap_or("unknown reason");
            End::Refused(format!("the container cannot be started (exit code {code}): {}", one_line(message)))
        }
        (_, code) => End::Process(process(code)),
    })
}

fn process(code: i32) -> Ended {
    match code {
        129..=159 => Ended::Signal(code - 128),
        code => Ended::Code(code),
    }
}

/// Why the cluster ended a Pod, if it was the cluster.
fn disrupted(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let target = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    let words = |reason: &str, message: Option<&str>| {
        let message = message.filter(|message| !message.is_empty());
        format!(
            "the Pod was ended by the cluster ({reason}){}",
            message.map_or_else(String::new, |message| { format!(": {}", one_line(message)) })
        )
    };
    if let Some(target) = target {
        return Some(words(target.reason.as_deref().unwrap_or("disruption"), target.message.as_deref()));
    }
    match (status.phase.as_deref(), status.reason.as_deref()) {
        // A reason of the whole Pod is the kubelet's or the node controller's.
        (Some("Failed"), Some(reason)) if reason != "DeadlineExceeded" => {
            Some(words(reason, status.message.as_deref()))
        }
        (_, Some("NodeLost")) => Some(words("NodeLost", status.message.as_deref())),
        _ => None,
    }
}

/// How a TaskRun with `Succeeded: False` ended.
fn failed(run: &TaskRun, status: Option<&PodStatus>) -> End {
    let condition = run.succeeded().cloned().unwrap_or_default();
    let message = one_line(&condition.message);
    match condition.reason.as_str() {
        "TaskRunTimeout" => return End::TimeLimit,
        "TaskRunCancelled" => {
            return End::Infrastructure("the TaskRun was cancelled by another client".to_owned());
        }
        "TaskRunImagePullFailed" | "PullImageFailed" => {
            return End::Infrastructure(format!("the image cannot be pulled: {message}"));
        }
        "PodEvicted" | "Evicted" => return End::Infrastructure(format!("the Pod was evicted: {message}")),
        "PodCreationFailed" | "CreateContainerConfigError" | "CreateContainerError" => {
            return End::Refused(format!("the Pod cannot be created: {message}"));
        }
        reason if reason.starts_with("TaskRunValidation") || reason.starts_with("Couldnt") => {
            return End::Refused(format!("Tekton refuses the TaskRun ({reason}): {message}"));
        }
        _ => {}
    }
    if let Some(end) = status.and_then(|status| container(status, CONTAINER)).and_then(terminated) {
        return end;
    }
    let steps = run.status.as_ref().map(|status| status.steps.as_slice()).unwrap_or_default();
    let step =
        steps.iter().find(|step| step.container == CONTAINER).and_then(|step| step.terminated.as_ref());
    match step {
        // Without its Pod, it is not known whose memory ended.
        Some(ended) if ended.reason.as_deref() == Some("OOMKilled") => End::OutOfMemory,
        Some(ended) if ended.exit_code != 0 && ended.exit_code != KILLED => {
            End::Process(process(ended.exit_code))
        }
        _ => End::Infrastructure(format!("the TaskRun ended as `{}`: {message}", condition.reason)),
    }
}

/// Why a TaskRun does not start.
fn waits(run: &TaskRun, status: Option<&PodStatus>) -> Option<Wait> {
    let condition = run.succeeded()?;
    let message = one_line(&condition.message);
    match condition.reason.as_str() {
        "ExceededResourceQuota" => Some(Wait::Quota(message)),
        "ExceededNodeResources" => Some(Wait::Node(message)),
        _ => status.and_then(pod_waits),
    }
}

fn pod_waits(status: &PodStatus) -> Option<Wait> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    if let Some(condition) = scheduled.filter(|condition| condition.status == "False") {
        return Some(Wait::Node(one_line(condition.message.as_deref().unwrap_or("it is not scheduled"))));
    }
    let all = [&status.init_container_statuses, &status.container_statuses];
    let waiting = all.into_iter().flatten().flatten().find_map(|container| {
        container.state.as_ref()?.waiting.as_ref().filter(|waiting| {
            !matches!(waiting.reason.as_deref(), None | Some("PodInitializing" | "ContainerCreating"))
        })
    })?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = one_line(waiting.message.as_deref().unwrap_or(reason));
    Some(if reason.contains("Image") || reason.contains("Registry") {
        Wait::Image(message)
    } else {
        Wait::Other(format!("{reason}: {message}"))
    })
}

fn init_failed(status: &PodStatus) -> String {
    let all = status.init_container_statuses.as_deref().unwrap_or_default();
    let failed = all.iter().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        let message = ended.message.as_deref().unwrap_or("no message");
        Some(format!("`{}` ended with exit code {}: {}", container.name, ended.exit_code, one_line(message)))
    });
    failed.unwrap_or_else(|| "the Pod ended before its container was started".to_owned())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
