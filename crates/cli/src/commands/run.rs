//! `run`: build, test and release a source once, without a server: server and control in this process.

use std::path::Path;

use edgewright_control::SourceSettings;
use edgewright_control::events::RunEvent;
use edgewright_model::names::SourceName;
use edgewright_model::run::{RunNumber, RunState, Trigger};
use edgewright_process::Clock;
use edgewright_server::settings::{DEFAULT_POLL, name_of};
use edgewright_server::{Composition, DataFolder};
use edgewright_source::Remote;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::check::{Folder, show};
use super::job::local_executor;
use super::serve::{Stop, start_logging};
use crate::args::{Global, RunArgs, ServeArgs};
use crate::exit::{End, Failure};
use crate::progress::Progress;
use crate::settings::Surroundings;
use crate::{output, render};

/// Runs a source once.
pub(crate) async fn run(args: &RunArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "warn")?;
    // The folder's files stay readable as long as it lives.
    let Some((source, _folder)) = target(args).await? else { return Ok(End::Fault) };
    // Any free port of this machine: the registry lives as long as the run.
    let serve =
        ServeArgs { listen: Some(([127, 0, 0, 1], 0).into()), jobs: args.jobs, ..ServeArgs::default() };
    let mut settings = Surroundings::read().run(&serve, global.data.clone())?;
    settings.sources = vec![source.clone()];
    let lock = DataFolder::new(&settings.data).lock()?;
    let executor = local_executor(&settings, &lock).await?;
    let composition = Composition::open(&settings, lock, executor, Clock::system()).await?;
    let mut stop = Stop::listen()?;
    let trigger = if args.update { Trigger::Lock } else { Trigger::Manual };
    let ended = follow(&composition, &source.name, trigger, &mut stop).await;
    let view = match &ended {
        Ok(number) => Some(composition.views.run(*number).await),
        Err(_) => None,
    };
    tokio::select! {
        () = composition.shutdown() => {}
        () = stop.next() => return Err(Failure::user("stopped before everything was closed")),
    }
    ended?;
    let Some(view) = view.transpose()? else { return Ok(End::Fault) };
    if args.format.json {
        output::json(&view)?;
    } else {
        output::print(&format!("\n{}", render::run(&view, Clock::system().now())))?;
        if view.run.release.is_some() {
            let data = settings.data.display();
            output::note(&format!(
                "
To pull the images: edgewright serve --data {data}"
            ));
        }
    }
    Ok(if view.run.state == RunState::Passed { End::Good } else { End::Fault })
}

/// Drives one run to its end, showing what happens. The first signal cancels it.
async fn follow(
    composition: &Composition,
    source: &SourceName,
    trigger: Trigger,
    stop: &mut Stop,
) -> Result<RunNumber, Failure> {
    let mut events = composition.control.events().subscribe();
    let number = composition.queue(source, trigger).await?;
    let mut progress = Progress::new();
    output::note(&format!("run {number} of {source}"));
    let driving = composition.control.drive(number);
    tokio::pin!(driving);
    let ended = loop {
        tokio::select! {
            ended = &mut driving => break ended,
            event = events.recv() => shown(&mut progress, event),
            () = stop.next() => {
                output::note("cancelling the run; once more to leave at once");
                // Over already: then it ends by itself.
                drop(composition.control.cancel(number).await);
                tokio::select! {
                    ended = &mut driving => break ended,
                    () = stop.next() => return Err(Failure::user("stopped while the run was being cancelled")),
                }
            }
        }
    };
    rest(&mut progress, &mut events);
    progress.end();
    ended?;
    Ok(number)
}

fn shown(progress: &mut Progress, event: Result<RunEvent, RecvError>) {
    // Events that were lost tell nothing that the run's end does not tell again.
    if let Ok(event) = event {
        progress.event(&event);
    }
}

/// What had happened before the run's end, and was not shown yet.
fn rest(progress: &mut Progress, events: &mut broadcast::Receiver<RunEvent>) {
    while let Ok(event) = events.try_recv() {
        progress.event(&event);
    }
}

/// The source to run, with the folder that it is read from; none where the folder's definitions cannot even be read, which
/// is then said.
async fn target(args: &RunArgs) -> Result<Option<(SourceSettings, Option<Folder>)>, Failure> {
    let poll = DEFAULT_POLL.get();
    let is_address = args.target.contains("://") || (args.target.contains('@') && args.target.contains(':'));
    if is_address {
        let remote: Remote = args.target.parse()?;
        let name = name_of(remote.address()).ok_or_else(|| {
            Failure::user("no source name can be made from that address")
                .hint("give it one in a settings file, and use `edgewright serve`")
        })?;
        let branch = args.branch.clone();
        return Ok(Some((SourceSettings { name, remote, branch, poll }, None)));
    }
    let dir = Path::new(&args.target);
    let folder = Folder::read(dir).await?;
    let Some(definition) = &folder.parsed.definition else {
        show(&folder.parsed.diagnostics, &folder.worktree.tree);
        return Ok(None);
    };
    let name = definition.source.name.clone();
    let (remote, branch) =
        if args.branch.is_none() && (folder.worktree.dirty || folder.worktree.head.is_none()) {
            output::note("note: the folder is built as it stands, uncommitted files included");
            let (branch, _) = folder.worktree.publish(&folder.git).await?;
            (Remote::from_path(folder.worktree.repository.folder())?, Some(branch))
        } else {
            let path = dir.canonicalize().map_err(|error| Failure::file("cannot use", dir, &error))?;
            (Remote::from_path(&path)?, args.branch.clone().or_else(|| folder.worktree.branch.clone()))
        };
    Ok(Some((SourceSettings { name, remote, branch, poll }, Some(folder))))
}
