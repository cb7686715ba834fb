//! `run`: build, test and release a source once, without a server: server and control in this process.

use std::path::Path;

use edgewright_api::RunView;
use edgewright_control::SourceSettings;
use edgewright_control::context::OperationContext;
use edgewright_control::events::RunEvent;
use edgewright_control::runs::selection::Selection;
use edgewright_model::names::{SourceName, VariantName};
use edgewright_model::resolve;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_model::spec::{Definition, Lane};
use edgewright_process::Clock;
use edgewright_server::settings::{DEFAULT_POLL, name_of};
use edgewright_server::{Composition, DataFolder, ProcessTokens, StartError};
use edgewright_source::Remote;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::check::{Folder, show};
use super::job::{executor, local_jobs};
use super::serve::{Stop, start_logging};
use super::shell::kept_here;
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
        return Err(Failure::user("--watch wants a folder").hint("clone the repository, and watch the clone"));
    }
    let mut watch = Watch::new(Path::new(&what.target));
    loop {
        // Before the run: what changes meanwhile is run next.
        watch.arm();
        let seen = tree_of(&what.target).await;
        if let Err(failure) = Box::pin(once(args, &what, global, &mut stop)).await {
            exit::report(&failure);
        }
        // Even where it came too late to cancel the run: it was meant for the watching, too.
        if stop.is_asked() {
            return Ok(End::Good);
        }
        output::note(&format!("\nwatching {}; Ctrl-C ends it", what.target));
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

/// What to run of what.
#[derive(Debug)]
struct What {
    target: String,
    selection: Option<Selection>,
}

impl What {
    /// A target that is neither folder nor address, but could be a variant, is one of the source in this folder.
    fn of(args: &RunArgs) -> Result<Self, Failure> {
        let mut target = args.target.clone();
        let mut only = args.only.clone();
        if !is_address(&target)
            && !Path::new(&target).exists()
            && let Ok(variant) = target.parse::<VariantName>()
        {
            only.push(variant);
            ".".clone_into(&mut target);
        }
        let is_narrowed = !only.is_empty() || !args.lane.is_empty() || args.keep;
        if is_narrowed && args.update {
            return Err(Failure::user("--update is for whole runs"));
        }
        let selection = is_narrowed.then(|| Selection {
            variants: only.into_iter().collect(),
            lanes: args.lane.iter().copied().collect(),
            keep: args.keep,
        });
        Ok(Self { target, selection })
    }

    /// Refuses variants that the source does not declare, and lanes that none of them runs.
    fn check(&self, folder: Option<&Folder>) -> Result<(), Failure> {
        let definition = folder.and_then(|folder| folder.parsed.definition.as_ref());
        if let (Some(definition), Some(selection)) = (definition, &self.selection) {
            for variant in &selection.variants {
                resolve::vars(definition, variant).map_err(|error| {
                    Failure::from(error)
                        .hint("`edgewright check` shows all errors, `edgewright plan --all` all variants")
                })?;
            }
            refuse_untested(definition, selection)?;
        }
        Ok(())
    }
}

/// A run that would test nothing, or keep nothing, of what was asked for.
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
    let who = if others == 0 { format!("`{first}` is") } else { format!("`{first}` and {others} more are") };
    Err(Failure::user(format!("{who} not tested in the lane {names}")).hint(format!(
        "--lane chooses among the lanes of an image: write `test: {{lanes: [{names}]}}` in images/{image}/image.yaml"
    )))
}

/// Runs once.
async fn once(args: &RunArgs, what: &What, global: &Global, stop: &mut Stop) -> Result<End, Failure> {
    // The folder's files stay readable as long as it lives.
    let Some((source, folder)) = target(&what.target, args.branch.as_deref()).await? else {
        return Ok(End::Fault);
    };
    what.check(folder.as_ref())?;
    // Any free port of this machine: the registry lives as long as the run.
    let mut settings = Surroundings::read().run(&args.work.serve(args.jobs), global.data.clone())?;
    settings.sources = vec![source.clone()];
    let data = settings.data.display().to_string();
    let lock = DataFolder::new(&settings.data).lock()?;
    let executor = executor(local_jobs(&settings, &lock).await?);
    let tokens = ProcessTokens::generate().map_err(StartError::Random)?;
    let composition = Composition::open(&settings, lock, executor, tokens, Clock::system()).await?;
    let trigger = match &what.selection {
        Some(_) => Trigger::Selected,
        None if args.update => Trigger::Lock,
        None => Trigger::Manual,
    };
    let ended =
        Box::pin(follow(&composition, &source.name, trigger, what.selection.clone(), &data, stop)).await;
    let view = match &ended {
        Ok(number) => Some(composition.views.run(*number).await),
        Err(_) => None,
    };
    let mut proofs = None;
    if args.verify_reproducible
        && let Ok(number) = &ended
    {
        output::note("building again what was built");
        proofs = Some(tokio::select! {
            rebuilt = composition.control.verify(*number) => rebuilt.map_err(Failure::from),
            () = stop.next() => Err(Failure::stopped("stopped while building again")),
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
        // The run's document is the result; what is proved goes beside it.
        let proved = super::rebuild::tell(rebuilt);
        end = if proved { end } else { End::Fault };
    }
    Ok(end)
}

/// Prints a run that is over, and what can be done now.
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
    // Who named the data folder has to name it again.
    let flag = global.data.as_ref().map(|_| format!(" --data {data}")).unwrap_or_default();
    if view.run.release.is_some() {
        output::note(&format!(
            "\nnext: edgewright images{flag}          what there is, and `edgewright image show VARIANT`\n      \
             edgewright serve{flag}           hosts it for podman, skopeo and bootc, on http://127.0.0.1:5080"
        ));
    }
    if what.selection.as_ref().is_some_and(|selection| selection.keep) {
        for kept in kept_here(global).await {
            let line = format!("{} ({})", kept.repository, kept.status);
            output::note(&format!(
                "\nkept: {line}\n  edgewright shell{flag} enters it, edgewright shell{flag} --rm removes it"
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
            event = events.recv() => shown(&mut progress, event),
            () = stop.next() => {
                output::note("cancelling the run; once more to leave at once");
                // Over already: then it ends by itself.
                drop(composition.control.cancel(&context, number).await);
                tokio::select! {
                    ended = &mut driving => break ended,
                    () = stop.next() => return Err(Failure::stopped("stopped while the run was being cancelled")),
                }
            }
        }
    };
    rest(&mut progress, &mut events);
    progress.end();
    ended?;
    // No server runs that would move them when their time has come.
    composition.control.advance_channels().await?;
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

/// Whether a target is an address, not a path.
fn is_address(target: &str) -> bool {
    target.contains("://") || (target.contains('@') && target.contains(':'))
}

/// The source to run, with the folder that it is read from; none where the folder's definitions cannot even be read, which
/// is then said.
pub(super) async fn target(
    target: &str,
    branch: Option<&str>,
) -> Result<Option<(SourceSettings, Option<Folder>)>, Failure> {
    let poll = DEFAULT_POLL.get();
    if is_address(target) {
        let remote: Remote = target.parse()?;
        let name = name_of(remote.address()).ok_or_else(|| {
            Failure::user("no source name can be made from that address")
                .hint("give it one in a settings file, and use `edgewright serve`")
        })?;
        let branch = branch.map(str::to_owned);
        return Ok(Some((SourceSettings { branch, ..SourceSettings::new(name, remote, poll) }, None)));
    }
    let dir = Path::new(target);
    let folder = Folder::read(dir).await?;
    let Some(definition) = &folder.parsed.definition else {
        show(&folder.parsed.diagnostics, &folder.worktree.tree);
        return Ok(None);
    };
    let name = definition.source.name.clone();
    let path = tokio::fs::canonicalize(dir).await;
    let path = path.map_err(|error| Failure::file("cannot use", dir, &error))?;
    let own = Remote::from_path(&path)?;
    let (remote, branch) = if branch.is_none() && (folder.worktree.dirty || folder.worktree.head.is_none()) {
        output::note("note: the folder is built as it stands, uncommitted files included");
        let (branch, _) = folder.worktree.publish(&folder.git).await?;
        (Remote::from_path(folder.worktree.repository.folder())?.displayed_as(&own), Some(branch))
    } else {
        (own, branch.map(str::to_owned).or_else(|| folder.worktree.branch.clone()))
    };
    Ok(Some((SourceSettings { branch, ..SourceSettings::new(name, remote, poll) }, Some(folder))))
}
