//! The steps of a job in segments: those that our own programs execute, and each `containerfile` step, which
//! the platform builds.
//!
//! ```text
//! bootstrap, files ─▶ TaskRun ─digest─▶ containerfile ─▶ the platform ─digest─▶ files, `static` ─▶ TaskRun
//! ```

use edgewright_job::ExecutorError;
use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::order::{Base, ImageTask, JobRequest, StepAction, StepOrder, Task};
use edgewright_model::outcome::{JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::executor::Inner;
use crate::platform_build;
use crate::settings::PlatformBuild;

/// A part of a job.
#[derive(Debug, Clone, PartialEq)]
enum Segment {
    /// Mirrors the base, so that the platform finds it in our registry.
    Mirror(ImageTask),
    /// Our own programs.
    Own(ImageTask),
    /// The platform.
    Platform(ImageTask),
}

/// Whether a job has a step that the platform builds.
pub(crate) fn has_containerfile(request: &JobRequest) -> bool {
    matches!(&request.task, Task::Image(task) if task.steps.iter().any(is_containerfile))
}

const fn is_containerfile(step: &StepOrder) -> bool {
    matches!(step.action, StepAction::Containerfile { .. })
}

/// The segments of a task, in order. All but the first start from what the one before has built.
fn segments(task: &ImageTask) -> Vec<Segment> {
    let of = |steps: &[StepOrder]| ImageTask {
        steps: steps.to_vec(),
        lanes: Vec::new(),
        base_key: None,
        ..task.clone()
    };
    let mut segments = Vec::new();
    if let (Base::External { digest, .. }, true) =
        (&task.base, task.steps.first().is_some_and(is_containerfile))
    {
        // Nothing is recorded under this key: the base is no image of its own.
        let key = Digest::of(format!("base {digest}"));
        segments.push(Segment::Mirror(ImageTask { base_key: Some(key), ..of(&[]) }));
    }
    for steps in task.steps.chunk_by(|a, b| !is_containerfile(a) && !is_containerfile(b)) {
        let is_ours = steps.first().is_some_and(|step| !is_containerfile(step));
        segments.push(if is_ours { Segment::Own(of(steps)) } else { Segment::Platform(of(steps)) });
    }
    match segments.last_mut() {
        Some(Segment::Own(last)) => last.lanes.clone_from(&task.lanes),
        _ if !task.lanes.is_empty() => {
            segments.push(Segment::Own(ImageTask { lanes: task.lanes.clone(), ..of(&[]) }));
        }
        _ => {}
    }
    segments
}

/// Runs the segments one after the other.
pub(crate) async fn run(
    inner: &Inner,
    build: &PlatformBuild,
    request: JobRequest,
    (events, cancel): (&mpsc::Sender<JobEvent>, &CancellationToken),
) -> Result<JobOutcome, ExecutorError> {
    let Task::Image(task) = &request.task else { return inner.own_job(request, events, cancel).await };
    let until = Instant::now() + request.within.get();
    let (mut outcome, mut base) = (JobOutcome::empty(), None);
    for segment in segments(task) {
        let (Segment::Mirror(mut part) | Segment::Own(mut part) | Segment::Platform(mut part)) =
            segment.clone();
        if let Some(manifest) = base.take() {
            part.base = Base::Manifest(manifest);
        }
        let left = until.saturating_duration_since(Instant::now()).as_secs().max(1);
        let part = JobRequest { task: Task::Image(part), within: Span::from_secs(left), ..request.clone() };
        let done = match segment {
            Segment::Platform(_) => platform_build::run(inner, build, part, (events, cancel)).await,
            _ => inner.own_job(part, events, cancel).await,
        };
        let done = match done {
            Ok(done) => done,
            // What was built and pushed counts.
            Err(error) if !outcome.builds.is_empty() && !cancel.is_cancelled() => {
                outcome.failure = Some(JobFailure { phase: Phase::Build, ..error.failure() });
                return Ok(outcome);
            }
            Err(error) => return Err(error),
        };
        base = done.builds.last().map(|build| build.manifest.clone());
        if !matches!(segment, Segment::Mirror(_)) {
            outcome.builds.extend(done.builds);
        }
        outcome.verdicts.extend(done.verdicts);
        if done.failure.is_some() {
            outcome.failure = done.failure;
            return Ok(outcome);
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::order::Context;

    use super::*;

    fn task(kinds: &str, base: Base) -> ImageTask {
        let Task::Image(mut task) = image_request(1, "hmi").unwrap().task else { panic!("an image") };
        let files = task.steps[0].clone();
        let containerfile = StepAction::Containerfile {
            context: Context::Inline { tar: String::new() },
            containerfile: "FROM ${BASE}".to_owned(),
            args: std::collections::BTreeMap::new(),
            target: None,
            secrets: Vec::new(),
            images: Vec::new(),
        };
        task.base = base;
        task.steps = kinds
            .chars()
            .enumerate()
            .map(|(index, kind)| StepOrder {
                key: Digest::of(index.to_string()),
                action: if kind == 'c' { containerfile.clone() } else { files.action.clone() },
                ..files.clone()
            })
            .collect();
        task
    }

    #[test]
    fn each_containerfile_step_is_a_segment_of_its_own() {
        let external = Base::External {
            registry: "quay.io".to_owned(),
            repository: "example/os".parse().unwrap(),
            digest: Digest::of("os"),
        };
        let shown = |kinds: &str, base: &Base| -> Vec<String> {
            let show = |segment: Segment| match segment {
                Segment::Mirror(_) => "mirror".to_owned(),
                Segment::Own(task) => format!("own {} {}", task.steps.len(), task.lanes.len()),
                Segment::Platform(task) => format!("platform {} {}", task.steps.len(), task.lanes.len()),
            };
            segments(&task(kinds, base.clone())).into_iter().map(show).collect()
        };
        let lanes = task("f", Base::Scratch).lanes.len();
        let last = |steps: usize| format!("own {steps} {lanes}");
        assert_eq!(shown("ffcf", &Base::Scratch), ["own 2 0".to_owned(), "platform 1 0".to_owned(), last(1)]);
        assert_eq!(
            shown("cc", &external),
            ["mirror".to_owned(), "platform 1 0".to_owned(), "platform 1 0".to_owned(), last(0)]
        );
        assert_eq!(shown("f", &external), [last(1)]);
    }
}
