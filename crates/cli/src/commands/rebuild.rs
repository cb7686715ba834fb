//! `rebuild`: rebuilds what is released from the cached packages, without the mirror, and compares digests. A
//! server that runs on the data folder, or that `--server` names, does it; without one, this process.

use std::time::Duration;

use edgewright_api::{Client, RebuildResult, RebuildStatus, RebuildView};
use edgewright_control::SourceSettings;
use edgewright_control::context::OperationContext;
use edgewright_control::rebuilds::Rebuilt;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::run::{RebuildNumber, RebuildState};
use edgewright_process::Clock;
use edgewright_server::settings::DEFAULT_POLL;
use edgewright_server::{Composition, DataFolder, ProcessTokens, StartError, Views, rebuilt};

use super::digest;
use super::job::{executor, local_jobs};
use super::serve::{Stop, start_logging};
use crate::args::{Global, RebuildArgs};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::settings::Environment;
use crate::{output, render};

/// How often the state of a rebuild is read.
const PERIOD: Duration = Duration::from_millis(300);

/// Rebuilds a digest or a variant's newest release.
pub(crate) async fn rebuild(args: &RebuildArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "warn")?;
    let reader = Reader::open(global).await?;
    let digest = digest::named(&reader, &args.what, args.selection.source.as_ref()).await?;
    output::note(&format!("rebuilding {digest}"));
    let status = match crate::connection::server(global)? {
        Some(client) => ask(&client, &digest).await?,
        None => Box::pin(perform(args, global, &digest)).await?,
    };
    show(&status, args.format.json)
}

/// Asks the server to do it.
async fn ask(client: &Client, digest: &Digest) -> Result<RebuildStatus, Failure> {
    let mut stop = Stop::listen()?;
    let started = client.start_rebuild(digest).await?;
    let mut shown = Shown::default();
    loop {
        let status = client.rebuild(started.number).await?;
        if shown.is_over(&status) {
            return Ok(status);
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.next() => {
                output::note("the server continues; the same command follows it again");
                return Err(Failure::stopped("stopped"));
            }
        }
    }
}

/// Does it in this process.
async fn perform(args: &RebuildArgs, global: &Global, digest: &Digest) -> Result<RebuildStatus, Failure> {
    let mut settings = Environment::read().run(&args.work.serve(None), global.data.clone())?;
    let lock = super::target::lock(&settings.data)?;
    settings.sources = sources(&settings.data).await?;
    let executor = executor(local_jobs(&settings, &lock).await?);
    let tokens = ProcessTokens::generate().map_err(StartError::Random)?;
    let composition = Composition::open(&settings, lock, executor, tokens, Clock::system()).await?;
    let mut stop = Stop::listen()?;
    let rebuilt = tokio::select! {
        rebuilt = follow(&composition, digest) => rebuilt,
        () = stop.next() => Err(Failure::stopped("stopped")),
    };
    composition.shutdown().await;
    rebuilt
}

async fn follow(composition: &Composition, digest: &Digest) -> Result<RebuildStatus, Failure> {
    let number: RebuildNumber =
        composition.control.queue_rebuild(&OperationContext::operator_here(), digest).await?;
    let driving = composition.control.drive_rebuild(number);
    tokio::pin!(driving);
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            driven = &mut driving => {
                driven?;
                return Ok(composition.views.rebuild(number).await?);
            }
            () = tokio::time::sleep(PERIOD) => {
                shown.is_over(&composition.views.rebuild(number).await?);
            }
        }
    }
}

/// Every source that the data folder knows: any of them may have built the digest.
async fn sources(data: &std::path::Path) -> Result<Vec<SourceSettings>, Failure> {
    let views = Views::open(DataFolder::new(data), Clock::system()).await?;
    let mut sources = Vec::new();
    for source in views.sources().await? {
        let poll = DEFAULT_POLL.get();
        let settings = SourceSettings::new(source.name, source.url.parse()?, poll);
        sources.push(SourceSettings { branch: source.branch, ..settings });
    }
    views.close().await;
    Ok(sources)
}

/// What was printed of a rebuild last.
#[derive(Debug, Default)]
struct Shown {
    doing: Option<String>,
}

impl Shown {
    /// Prints what is new; whether the rebuild has ended.
    fn is_over(&mut self, status: &RebuildStatus) -> bool {
        if status.doing.is_some() && status.doing != self.doing {
            self.doing.clone_from(&status.doing);
            output::note(self.doing.as_deref().unwrap_or_default());
        }
        status.state.is_terminal()
    }
}

/// Prints the results on standard error; whether all is proved.
pub(super) fn show_proofs(all: Vec<Rebuilt>) -> bool {
    let views: Vec<RebuildView> = all.into_iter().map(rebuilt).collect();
    if views.is_empty() {
        output::note("nothing was built, so there is nothing to prove");
    }
    output::note(render::rebuilds(&views).trim_end());
    views.iter().all(|view| view.result == RebuildResult::Proved)
}

/// Prints the results; good if all is proved.
fn show(status: &RebuildStatus, json: bool) -> Result<End, Failure> {
    if status.state == RebuildState::Failed {
        let why = status.error.clone().unwrap_or_default();
        return Err(Failure::new(ErrorClass::Unavailable, format!("rebuild failed: {why}")));
    }
    if json {
        output::json(status)?;
    } else {
        output::print(&render::rebuilds(&status.results))?;
    }
    let proved = status.results.iter().all(|view| view.result == RebuildResult::Proved);
    Ok(if proved { End::Good } else { End::Fault })
}
