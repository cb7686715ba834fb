//! Executes the steps of an order in sequence; each is pushed before the next begins.

use std::time::Instant;

use edgewright_model::Digest;
use edgewright_model::order::{ImageTask, ManifestRef, StepAction, StepOrder};
use edgewright_model::outcome::{JobEvent, JobFailure, KeptPackages, Phase, StepBuild};
use edgewright_model::tools::ToolVersions;
use edgewright_oci::layer::Layer;

use crate::bootstrap::Leftovers;
use crate::context::{BuildContext, Events};
use crate::image_state::ImageState;
use crate::{base, bootstrap, containerfile, failure, files};

/// The outcome of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOutcome {
    /// Every prefix that was built and pushed, in step order. Also set after a failure.
    pub builds: Vec<StepBuild>,
    /// The final manifest: the last step's, or the (mirrored) base if there are no steps.
    pub result: Result<ManifestRef, JobFailure>,
}

/// Executes the steps of an order. Failures are part of the outcome.
pub async fn execute(task: &ImageTask, ctx: &BuildContext, events: Events<'_>) -> BuildOutcome {
    let mut builds = Vec::new();
    let result = run(task, ctx, events, &mut builds).await;
    BuildOutcome { builds, result }
}

async fn run(
    task: &ImageTask,
    ctx: &BuildContext,
    events: Events<'_>,
    builds: &mut Vec<StepBuild>,
) -> Result<ManifestRef, JobFailure> {
    let started = Instant::now();
    let mut state = base::open(task, ctx, events).await?;
    if let (Some(key), Some(manifest)) = (&task.base_key, &state.current) {
        builds.push(step_build((key, &ToolVersions::default()), manifest, &state, started, None));
    }
    for (number, step) in task.steps.iter().enumerate() {
        if ctx.process.cancel().is_cancelled() {
            return Err(failure::infrastructure(Phase::Build, "the job was cancelled", None));
        }
        let started = Instant::now();
        events(JobEvent::Phase { phase: Phase::Build, title: step.title.clone() });
        let (layers, left) = execute_step(task, &mut state, ctx, number, step, events).await?;
        let keeping = async {
            match (&step.action, &left) {
                (StepAction::Bootstrap { packages, .. }, Some(left)) => {
                    bootstrap::keep(task, ctx, packages, left, events).await
                }
                _ => Ok(None),
            }
        };
        let ((), kept) = tokio::try_join!(state.publish(ctx, layers, &step.title, events), keeping)?;
        if let Some(manifest) = state.current.clone() {
            builds.push(step_build((&step.key, &step.tools), &manifest, &state, started, kept));
        }
    }
    state.current.ok_or_else(|| {
        let hint = "give the image a step, or a base other than `scratch`";
        failure::image(Phase::Build, "an image from `scratch` without steps is empty", hint)
    })
}

fn step_build(
    (key, tools): (&Digest, &ToolVersions),
    manifest: &ManifestRef,
    state: &ImageState,
    started: Instant,
    kept: Option<KeptPackages>,
) -> StepBuild {
    StepBuild {
        key: key.clone(),
        manifest: manifest.clone(),
        manifest_size: state.manifest_size,
        image_size: state.image.size(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        tools: tools.clone(),
        kept,
    }
}

/// Executes a step; gives its layers, and the files of a bootstrap to keep.
async fn execute_step(
    task: &ImageTask,
    state: &mut ImageState,
    ctx: &BuildContext,
    number: usize,
    step: &StepOrder,
    events: Events<'_>,
) -> Result<(Vec<Layer>, Option<Leftovers>), JobFailure> {
    let mut left = None;
    let layers = match &step.action {
        StepAction::Bootstrap { step, packages, archive, keys, kept } => {
            if number > 0 || !state.image.layers().is_empty() {
                let hint = "make it the first step of an image `from: scratch`";
                return Err(failure::image(Phase::Build, "`bootstrap` must be the first step", hint));
            }
            let order = {
                let (archive, kept) = (archive.as_ref(), kept.as_ref());
                bootstrap::Order { step, packages, archive, keys, kept }
            };
            let (layer, leftovers) = bootstrap::build(task, ctx, &order, events).await?;
            // A rebuild from kept packages has no new packages to keep.
            left = leftovers.filter(|_| kept.is_none());
            bootstrap::set_runtime(&mut state.image);
            vec![layer]
        }
        StepAction::Containerfile { context, containerfile, args, target, secrets, images } => {
            let order = containerfile::Order {
                task,
                images,
                context,
                text: containerfile,
                args,
                target: target.as_deref(),
                secrets,
            };
            containerfile::build(state, ctx, &order, events).await?
        }
        StepAction::Files { entries, delete } => {
            vec![files::build(state, ctx, entries, delete, events).await?]
        }
    };
    Ok((layers, left))
}
