//! `rebuild`: builds what is released again, from the kept packages and without the mirror, and compares digests.

use edgewright_api::rebuild::{RebuildResult, RebuildStep, RebuildView};
use edgewright_control::SourceSettings;
use edgewright_control::runs::Rebuilt;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::VariantName;
use edgewright_process::Clock;
use edgewright_server::settings::DEFAULT_POLL;
use edgewright_server::{Composition, DataFolder, Views};

use super::job::local_executor;
use super::serve::{Stop, start_logging};
use crate::args::{Global, RebuildArgs, ServeArgs};
use crate::exit::{End, Failure};
use crate::settings::Surroundings;
use crate::{output, render};

/// Builds a digest or a variant's newest release again.
pub(crate) async fn rebuild(args: &RebuildArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "warn")?;
    let serve = ServeArgs { listen: Some(([127, 0, 0, 1], 0).into()), ..ServeArgs::default() };
    let mut settings = Surroundings::read().run(&serve, global.data.clone())?;
    let views = Views::open(DataFolder::new(&settings.data), Clock::system()).await?;
    let digest = wanted(args, &views).await?;
    for source in views.sources().await? {
        settings.sources.push(SourceSettings {
            name: source.name,
            remote: source.url.parse()?,
            branch: source.branch,
            poll: DEFAULT_POLL.get(),
            pull_requests: false,
        });
    }
    views.close().await;
    let lock = DataFolder::new(&settings.data).lock()?;
    let executor = local_executor(&settings, &lock).await?;
    let composition = Composition::open(&settings, lock, executor, Clock::system()).await?;
    let mut stop = Stop::listen()?;
    output::note(&format!("building {digest} again"));
    let rebuilt = tokio::select! {
        rebuilt = composition.control.rebuild(&digest) => rebuilt.map_err(Failure::from),
        () = stop.next() => Err(Failure::user("stopped")),
    };
    composition.shutdown().await;
    show(&rebuilt?, args.format.json)
}

/// The digest that is asked for, or the newest one of the variant.
async fn wanted(args: &RebuildArgs, views: &Views) -> Result<Digest, Failure> {
    if let Ok(digest) = args.what.parse() {
        return Ok(digest);
    }
    let variant: VariantName = args.what.parse().map_err(|_| {
        Failure::user(format!("`{}` is neither a digest nor a variant", args.what))
            .hint("such as sha256:… or hmi/plant-a; `edgewright images` lists them")
    })?;
    let image = views.image(&variant, args.selection.source.as_ref()).await?;
    image.builds.first().map(|build| build.manifest.digest.clone()).ok_or_else(|| {
        Failure::new(ErrorClass::NotFound, format!("`{variant}` was not built yet"))
            .hint("`edgewright images` says how it stands")
    })
}

/// Says on standard error what came of it, and whether all is proved.
pub(super) fn tell(rebuilt: &[Rebuilt]) -> bool {
    let views: Vec<RebuildView> = rebuilt.iter().map(view).collect();
    if views.is_empty() {
        output::note("nothing was built, so there is nothing to prove");
    }
    output::note(render::rebuilds(&views).trim_end());
    rebuilt.iter().all(Rebuilt::is_proved)
}

/// Prints what came of it; good if all is proved.
fn show(rebuilt: &[Rebuilt], json: bool) -> Result<End, Failure> {
    let views: Vec<RebuildView> = rebuilt.iter().map(view).collect();
    if json {
        output::json(&views)?;
    } else {
        output::print(&render::rebuilds(&views))?;
    }
    let proved = views.iter().all(|view| view.result == RebuildResult::Proved);
    Ok(if proved { End::Good } else { End::Fault })
}

fn view(rebuilt: &Rebuilt) -> RebuildView {
    let refuted = rebuilt.steps.iter().any(|step| !step.is_proved());
    RebuildView {
        run: rebuilt.run,
        node: rebuilt.node.clone(),
        platform: rebuilt.platform.clone(),
        result: match &rebuilt.failure {
            _ if refuted => RebuildResult::Refuted,
            Some(_) => RebuildResult::Failed,
            None => RebuildResult::Proved,
        },
        steps: rebuilt
            .steps
            .iter()
            .map(|step| RebuildStep {
                title: step.title.clone(),
                key: step.key.clone(),
                was: step.was.clone(),
                now: step.now.clone(),
            })
            .collect(),
        failure: rebuilt.failure.clone(),
    }
}
