//! Jobs that start no program run in this process.
//!
//! Other jobs run as child processes, so that what they start can be limited, watched and killed together. A
//! job of `files` steps without lanes starts nothing: it writes a layer and two documents, and a child
//! process would cost more than that.

use edgewright_model::order::{JobOrder, JobRequest, StepAction, Task};
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_process::{CancellationToken, OwnedTask};
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::process::bounded;
use crate::work::JobWorker;

/// Whether a job starts no program.
pub fn is_native(request: &JobRequest) -> bool {
    match &request.task {
        Task::Lock(_) => false,
        Task::Image(task) => {
            task.lanes.is_empty()
                && task.steps.iter().all(|step| matches!(step.action, StepAction::Files { .. }))
        }
    }
}

/// Runs a job in a task of its own, like a child process: within its limit, and ended when its caller stops
/// waiting.
///
/// # Errors
/// It was cancelled, or is a defect.
pub async fn run(
    worker: JobWorker,
    order: JobOrder,
    events: mpsc::Sender<JobEvent>,
    cancel: CancellationToken,
) -> Result<JobOutcome, ExecutorError> {
    let stop = cancel.child_token();
    let job = OwnedTask::spawn({
        let cancel = cancel.clone();
        async move { bounded(order, &worker, &events, &stop, cancel.cancelled()).await }
    });
    let outcome = job.await.map_err(ExecutorError::Broke)?;
    if cancel.is_cancelled() && outcome.failure.is_some() {
        return Err(ExecutorError::Cancelled);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{image_request, lock_request};

    #[test]
    fn jobs_that_start_programs_are_not_native() {
        let with_lane = image_request(1, "hmi/plant-a").unwrap();
        assert!(!is_native(&with_lane));
        let mut files_only = with_lane;
        let Task::Image(task) = &mut files_only.task else { panic!("it is an image's request") };
        task.lanes.clear();
        let containerfile = StepAction::Containerfile {
            context: match &task.steps[0].action {
                StepAction::Files { entries, .. } => entries.clone(),
                other => panic!("it has files steps: {other:?}"),
            },
            containerfile: "FROM ${BASE}".to_owned(),
            args: std::collections::BTreeMap::new(),
            target: None,
            secrets: Vec::new(),
            images: Vec::new(),
        };
        assert!(is_native(&files_only));
        let mut with_command = files_only;
        if let Task::Image(task) = &mut with_command.task {
            task.steps[1].action = containerfile;
        }
        assert!(!is_native(&with_command));
        assert!(!is_native(&lock_request(1, "base").unwrap()));
    }
}
