//! `run`: build, test and release a source once, without a server: server and control in this process.

use std::path::Path;

use edgewright_api::RunView;
use edgewright_control::context::OperationContext;
use edgewright_control::events::RunEvent;
use edgewright_control::runs::selection::Selection;
use edgewright_model::names::SourceName;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::Clock;
use edgewright_server::{Composition, ProcessTokens, StartError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::check::Folder;
use super::job::{executor, local_jobs};
use super::run_request::{RunRequest, announce};
use super::serve::{Stop, start_logging};
use super::shell::kept_here;
use super::target::{self, Target, is_address};
use crate::args::{Global, RunArgs};
use crate::exit::{self, End, Failure};
use crate::progress::Progress;
use crate::settings::Environment;
use crate::watch::Watch;
use crate::{output, render};

/// Runs a source once, or with `--watch` at every change.
pub(crate) async fn run(args: &RunArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "warn")?;
    let mut stop = Stop::listen()?;
    let request = RunRequest::of(args)?;
    if !args.watch {
        return Box::pin(once(args, &request, global, &mut stop)).await;
    }
    if is_address(&request.target) {
        return Err(Failure::user("--watch needs a folder").hint("clone the repository, and watch the clone"));
    }
    let mut watch = Watch::new(Path::new(&request.target));
    loop {
        // Before the run: what changes meanwhile is run next.
        watch.arm();
        let seen = tree_of(&request.target).await;
        if let Err(failure) = Box::pin(once(args, &request, global, &mut stop)).await {
            exit::report(&failure);
        }
        // Even if it came too late to cancel the run: it was meant for the watching, too.
        if stop.is_asked() {
            return Ok(End::Good);
        }
        output::note(&format!("\nwatching {}; press Ctrl-C to stop", request.target));
        loop {
            tokio::select! {
                () = watch.changed() => {}
                () = stop.next() => return Ok(End::Good),
            }
            if tree_of(&request.target).await != seen {
                break;
            }
        }
    }
}

/// The id of a folder's files; none while they cannot be read, as in the middle of a checkout.
async fn tree_of(target: &str) -> Option<String> {
    let folder = Folder::read(Path::new(target)).await.ok()?;
    Some(folder.worktree.tree_id().to_owned())
}

/// Runs once.
async fn once(
    args: &RunArgs,
    request: &RunRequest,
    global: &Global,
    stop: &mut Stop,
) -> Result<End, Failure> {
    // The folder's files stay readable as long as the target lives.
    let Some(target) = target::read(&request.target, args.branch.as_deref()).await? else {
        return Ok(End::Fault);
    };
    let Target { settings: source, folder, is_dirty } = &target;
    request.check(folder.as_ref())?;
    let selection = request.selection(args, *is_dirty);
    announce(*is_dirty, selection.as_ref());
    // Any free port of this machine: the registry lives as long as the run.
    let environment = Environment::read();
    let mut settings = environment.run(&args.work.serve(args.jobs), global.data.clone())?;
    settings.sources = vec![source.clone()];
    if args.keep && environment.is_in_namespace() && !settings.unsafe_host_tools {
        return Err(Failure::user(
            "--keep needs root: the sandboxes of another user end with the command that made them",
        )
        .hint(
            "run it as root, or add --unsafe-host-tools if you trust this source's files and base images",
        ));
    }
    let data = settings.data.display().to_string();
    let lock = target::lock(&settings.data)?;
    let executor = executor(local_jobs(&settings, &lock).await?);
    let tokens = ProcessTokens::generate().map_err(StartError::Random)?;
    let composition = Composition::open(&settings, lock, executor, tokens, Clock::system()).await?;
    let trigger = match &selection {
        // `--update` resolves all locks again, whether or not the run releases.
        _ if args.update => Trigger::Lock,
        Some(_) => Trigger::Selected,
        None => Trigger::Manual,
    };
    let ended = Box::pin(follow(&composition, &source.name, trigger, selection, &data, stop)).await;
    let view = match &ended {
        Ok(number) => Some(composition.views.run(*number).await),
        Err(_) => None,
    };
    let mut proofs = None;
    if args.verify_reproducible
        && let Ok(number) = &ended
    {
        output::note("rebuilding what was built");
        proofs = Some(tokio::select! {
            rebuilt = composition.control.verify(*number) => rebuilt.map_err(Failure::from),
            () = stop.next() => Err(Failure::stopped("stopped while rebuilding")),
        });
    }
    tokio::select! {
        () = composition.shutdown() => {}
        () = stop.next() => return Err(Failure::stopped("stopped before everything was closed")),
    }
    ended?;
    let Some(view) = view.transpose()? else { return Ok(End::Fault) };
    show_end(&view, request, args, global, &data).await?;
    let mut end = End::of(view.run.state);
    if let Some(rebuilt) = proofs.transpose()? {
        // The run's document is the result; proofs are printed beside it.
        let proved = super::rebuild::show_proofs(rebuilt);
        end = if proved { end } else { End::Fault };
    }
    Ok(end)
}

/// Prints a run that has ended, and what can be done now.
async fn show_end(
    view: &RunView,
    request: &RunRequest,
    args: &RunArgs,
    global: &Global,
    data: &str,
) -> Result<(), Failure> {
    if args.format.json {
        return output::json(view);
    }
    output::print(&format!("\n{}", render::run(view, Clock::system().now())))?;
    // A data folder that was named has to be named again.
    let flag = global.data.as_ref().map(|_| format!(" --data {data}")).unwrap_or_default();
    if view.run.release.is_some() {
        output::note(&format!(
            "\nnext: edgewright images{flag}          list the images; `edgewright image show VARIANT` shows one\n      \
             edgewright serve{flag}           host them for podman, skopeo and bootc, on http://127.0.0.1:5080"
        ));
    }
    if request.selection.as_ref().is_some_and(|selection| selection.keep) {
        for kept in kept_here(global).await {
            let line = format!("{} ({})", kept.repository, kept.status);
            output::note(&format!(
                "\nkept: {line}\n  `edgewright shell{flag}` enters it, `edgewright shell{flag} --rm` removes it"
            ));
        }
    }
    Ok(())
}

/// Drives one run to its end, showing what happens. The first signal cancels it.
async fn follow(
    composition: &Composition,
    source: &SourceName,
    trigger: Trigger,
    selection: Option<Selection>,
    data: &str,
    stop: &mut Stop,
) -> Result<RunNumber, Failure> {
    let context = OperationContext::operator_here();
    let mut events = composition.control.events().subscribe();
    let number = composition.queue(&context, source, trigger).await?;
    if let Some(selection) = selection {
        composition.control.select(&context, number, selection)?;
    }
    let mut progress = Progress::new();
    output::note(&format!("run {number} of {source}, in {data}"));
    let driving = composition.control.drive(number);
    tokio::pin!(driving);
    let ended = loop {
        tokio::select! {
            ended = &mut driving => break ended,
            event = events.recv() => show_event(&mut progress, event),
            () = progress.heartbeat() => {}
            () = stop.next() => {
                output::note("cancelling the run; press Ctrl-C again to leave at once");
                // It may have ended already.
                drop(composition.control.cancel(&context, number).await);
                tokio::select! {
                    ended = &mut driving => break ended,
                    () = stop.next() => return Err(Failure::stopped("stopped while the run was being cancelled")),
                }
            }
        }
    };
    show_rest(&mut progress, &mut events);
    progress.end();
    ended?;
    // No server runs that would move them when they are due.
    composition.control.advance_channels().await?;
    Ok(number)
}

fn show_event(progress: &mut Progress, event: Result<RunEvent, RecvError>) {
    // The end of the run shows again what lost events would have shown.
    if let Ok(event) = event {
        progress.event(&event);
    }
}

/// Shows what happened before the run's end and was not shown yet.
fn show_rest(progress: &mut Progress, events: &mut broadcast::Receiver<RunEvent>) {
    while let Ok(event) = events.try_recv() {
        progress.event(&event);
    }
}
