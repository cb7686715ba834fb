//! `run`: build, test and release a source once, without a server: server and control in this process.

use std::path::Path;

use edgewright_api::RunView;
use edgewright_control::context::OperationContext;
use edgewright_control::events::RunEvent;
use edgewright_control::runs::selection::{NoRelease, Selection};
use edgewright_model::names::{SourceName, VariantName};
use edgewright_model::resolve;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_model::spec::{Definition, Lane};
use edgewright_process::Clock;
use edgewright_server::{Composition, ProcessTokens, StartError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::check::Folder;
use super::job::{executor, local_jobs};
use super::serve::{Stop, start_logging};
use super::shell::kept_here;
use super::target::{self, Place, Target, is_address};
use crate::args::{Global, RunArgs};
use crate::exit::{self, End, Failure};
use crate::progress::Progress;
use crate::settings::Surroundings;
use crate::watch::Watch;
use crate::{output, render};

/// Runs a source once, or with `--watch` at every change.
pub(crate) async fn run(args: &RunArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "warn")?;
    let mut stop = Stop::listen()?;
    let what = What::of(args)?;
    if !args.watch {
        return Box::pin(once(args, &what, global, &mut stop)).await;
    }
    if is_address(&what.target) {
        return Err(Failure::user("--watch needs a folder").hint("clone the repository, and watch the clone"));
    }
    let mut watch = Watch::new(Path::new(&what.target));
    loop {
        // Before the run: what changes meanwhile is run next.
        watch.arm();
        let seen = tree_of(&what.target).await;
        if let Err(failure) = Box::pin(once(args, &what, global, &mut stop)).await {
            exit::report(&failure);
        }
        // Even if it came too late to cancel the run: it was meant for the watching, too.
        if stop.is_asked() {
            return Ok(End::Good);
        }
        output::note(&format!("\nwatching {}; press Ctrl-C to stop", what.target));
        loop {
            tokio::select! {
                () = watch.changed() => {}
                () = stop.next() => return Ok(End::Good),
            }
            if tree_of(&what.target).await != seen {
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

/// What to run of which source.
#[derive(Debug)]
struct What {
    target: String,
    selection: Option<Selection>,
}

impl What {
    fn of(args: &RunArgs) -> Result<Self, Failure> {
        let place = Place::of(args.target.as_deref(), args.dir.as_deref())?;
        let mut only = args.only.clone();
        only.extend(place.variant);
        let is_narrowed = !only.is_empty() || !args.lane.is_empty() || args.keep;
        if is_narrowed && args.update {
            return Err(Failure::user("cannot use --update for some variants only: it resolves all locks")
                .hint("run without a variant"));
        }
        if is_narrowed && args.release {
            return Err(Failure::user(
                "cannot use --release for some variants only: a release has all of them",
            )
            .hint("run without a variant"));
        }
        let selection = is_narrowed.then(|| Selection {
            why: NoRelease::Narrowed,
            variants: only.into_iter().collect(),
            lanes: args.lane.iter().copied().collect(),
            keep: args.keep,
        });
        Ok(Self { target: place.dir, selection })
    }

    /// Checks that the source declares the variants, and that one of them runs the lanes.
    fn check(&self, folder: Option<&Folder>) -> Result<(), Failure> {
        let definition = folder.and_then(|folder| folder.parsed.definition.as_ref());
        if let (Some(definition), Some(selection)) = (definition, &self.selection) {
            for variant in &selection.variants {
                target::resolved(definition, variant)?;
            }
            refuse_untested(definition, selection)?;
        }
        Ok(())
    }

    /// What of the plan is run; none for a run that releases. Only committed files are released unless the
    /// user asks for more.
    fn selection(&self, args: &RunArgs, is_dirty: bool) -> Option<Selection> {
        if self.selection.is_some() || args.release {
            return self.selection.clone();
        }
        let why = if is_dirty { NoRelease::Uncommitted } else { NoRelease::Watching };
        (is_dirty || args.watch).then(|| Selection { why, ..Selection::default() })
    }
}

/// Notes in what way this run differs from a plain one.
fn announce(is_dirty: bool, selection: Option<&Selection>) {
    match selection.map(|selection| selection.why) {
        Some(NoRelease::Uncommitted) => output::note(
            "note: uncommitted files are built and tested, and not released; --release releases them, too",
        ),
        Some(NoRelease::Watching) => {
            output::note("note: --watch builds and tests, and does not release; --release does, too");
        }
        Some(NoRelease::Narrowed) | None if is_dirty => {
            output::note("note: the folder is built as it is, uncommitted files included");
        }
        Some(NoRelease::Narrowed) | None => {}
    }
}

/// Refuses a run that would test nothing, or keep nothing, of what was asked for.
fn refuse_untested(definition: &Definition, selection: &Selection) -> Result<(), Failure> {
    let mut asked = selection.lanes.clone();
    if selection.keep && !asked.is_empty() && !asked.contains(&Lane::Container) {
        return Err(Failure::user("--keep keeps machines of the lane container, which is not run")
            .hint("add --lane container, or leave --lane out"));
    }
    if selection.keep && asked.is_empty() {
        asked.insert(Lane::Container);
    }
    let variants = if selection.variants.is_empty() {
        resolve::variants(definition)
    } else {
        selection.variants.iter().cloned().collect()
    };
    let lanes = |variant: &VariantName| definition.images.get(&variant.image).map(|image| &image.test.lanes);
    let is_run = |variant| lanes(variant).is_some_and(|lanes| asked.iter().any(|lane| lanes.contains(lane)));
    let Some(first) = variants.first().filter(|_| !asked.is_empty() && !variants.iter().any(is_run)) else {
        return Ok(());
    };
    let names = asked.iter().map(|lane| lane.name()).collect::<Vec<_>>().join(", ");
    let (others, image) = (variants.len() - 1, &first.image);
    let subject =
        if others == 0 { format!("`{first}` is") } else { format!("`{first}` and {others} more are") };
    Err(Failure::user(format!("{subject} not tested in the lane {names}")).hint(format!(
        "--lane selects from the lanes of an image: write `test: {{lanes: [{names}]}}` in images/{image}/image.yaml"
    )))
}

/// Runs once.
async fn once(args: &RunArgs, what: &What, global: &Global, stop: &mut Stop) -> Result<End, Failure> {
    // The folder's files stay readable as long as the target lives.
    let Some(target) = target::read(&what.target, args.branch.as_deref()).await? else {
        return Ok(End::Fault);
    };
    let Target { settings: source, folder, is_dirty } = &target;
    what.check(folder.as_ref())?;
    let selection = what.selection(args, *is_dirty);
    announce(*is_dirty, selection.as_ref());
    // Any free port of this machine: the registry lives as long as the run.
    let mut settings = Surroundings::read().run(&args.work.serve(args.jobs), global.data.clone())?;
    settings.sources = vec![source.clone()];
    let data = settings.data.display().to_string();
    let lock = target::lock(&settings.data)?;
    let executor = executor(local_jobs(&settings, &lock).await?);
    let tokens = ProcessTokens::generate().map_err(StartError::Random)?;
    let composition = Composition::open(&settings, lock, executor, tokens, Clock::system()).await?;
    let trigger = match &selection {
        // The locks of a run that is only for them are resolved again whatever it does with what it built.
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
    show_end(&view, what, args, global, &data).await?;
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
    what: &What,
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
    if what.selection.as_ref().is_some_and(|selection| selection.keep) {
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn only_committed_files_are_released() {
        let (narrowed, dirty, watching) =
            (Some(NoRelease::Narrowed), Some(NoRelease::Uncommitted), Some(NoRelease::Watching));
        for (line, in_clean_folder, in_dirty_folder) in [
            ("edgewright run", None, dirty),
            ("edgewright run --release", None, None),
            ("edgewright run --update", None, dirty),
            ("edgewright run --watch", watching, dirty),
            ("edgewright run --watch --release", None, None),
            ("edgewright run hmi/plant-a", narrowed, narrowed),
            ("edgewright run --keep", narrowed, narrowed),
        ] {
            let Ok(Cli { command: Command::Run(args), .. }) = Cli::try_parse_from(line.split(' ')) else {
                panic!("{line}");
            };
            let what = What::of(&args).unwrap();
            let why = |is_dirty| what.selection(&args, is_dirty).map(|selection| selection.why);
            assert_eq!((why(false), why(true)), (in_clean_folder, in_dirty_folder), "{line}");
        }
        assert!(Cli::try_parse_from("edgewright run --release --keep".split(' ')).is_err());
        let Ok(Cli { command: Command::Run(args), .. }) =
            Cli::try_parse_from("edgewright run hmi/plant-a --release".split(' '))
        else {
            panic!("parses");
        };
        assert!(What::of(&args).is_err());
    }
}
