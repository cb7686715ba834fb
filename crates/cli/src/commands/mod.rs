//! One function per subcommand: ask, render, print.

mod backup;
mod cancel;
mod channel;
mod check;
mod init;
mod init_from;
mod job;
mod logs;
mod plan;
mod plan_explain;
mod rebuild;
mod restore;
mod retry;
mod run;
mod schema;
mod serve;
mod shell;
mod shipped;
mod update;
mod verdict;

use edgewright_api::AuditFilter;
use edgewright_api::documents::{ChannelList, Document, ImageList, ReleaseList, RunList, SiteList};
use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use edgewright_process::Clock;

use crate::args::{Cli, Command, Global, ImageCommand, JobCommand, RunCommand, SiteCommand, VerdictCommand};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::{connection, output, render};

/// Runs the command.
pub(crate) async fn dispatch(cli: Cli) -> Result<End, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Init { dir, from: None } => init::init(&dir).await,
        Command::Init { dir, from: Some(containerfile) } => init_from::init(&containerfile, &dir).await,
        Command::Schema { kind } => schema::print(kind.as_deref()),
        Command::Check { dir, format } => check::check(&dir, format).await,
        Command::Vars { variant, dir, format } => check::vars(&variant, &dir, format).await,
        Command::Plan(args) => plan::plan(&args, &global).await,
        Command::Run(args) => match args.command {
            Some(RunCommand::Show { number, comment: true, .. }) => {
                output::print(&Reader::open(&global).await?.comment(number).await?)?;
                Ok(End::Good)
            }
            Some(RunCommand::Show { number, comment: false, format }) => {
                let view = Reader::open(&global).await?.run(number).await?;
                print(format.json, &view, |view| render::run(view, now()))
            }
            Some(RunCommand::Cancel { number }) => cancel::cancel(&global, number).await,
            Some(RunCommand::Retry { number }) => retry::retry(&global, number).await,
            None => run::run(&args, &global).await,
        },
        Command::Serve(args) => serve::serve(&args, &global).await,
        Command::Job { command: JobCommand::Run { work, secret, nice, storage_mib } } => {
            job::run(&work, &secret, nice, storage_mib, &global).await
        }
        Command::Logs { run, node, follow } => logs::logs(&global, run, node, follow).await,
        Command::Rebuild(args) => rebuild::rebuild(&args, &global).await,
        Command::Update(args) => update::update(&args, &global).await,
        Command::Shell { variant, rm, command } => {
            shell::shell(&global, variant.as_ref(), rm, &command).await
        }
        Command::Completions { shell } => shipped::completions(shell),
        Command::Man { dir } => shipped::man(&dir),
        Command::Verdict { command: VerdictCommand::Post(args) } => verdict::post(&args, &global).await,
        Command::Backup { file } => backup::backup(&global, &file).await,
        Command::Restore { file } => restore::restore(&global, &file).await,
        Command::Channel { command } => channel::change(&global, command).await,
        Command::Poll { source } => poll(&global, &source).await,
        other => read(other, &global).await,
    }
}

/// The commands that read one document and print it.
async fn read(command: Command, global: &Global) -> Result<End, Failure> {
    let reader = Reader::open(global).await?;
    match command {
        Command::Status { verbose, format } => {
            let mut status = reader.status().await?;
            if global.server.is_none() {
                status.kept = shell::kept_here(global).await;
                if verbose && let Some(server) = connection::server(global)? {
                    // Only the running server knows.
                    status.reconcilers = server.status().await?.reconcilers;
                }
            }
            print(format.json, &status, |status| {
                let more = if verbose { render::reconcilers(status) } else { String::new() };
                render::status(status) + &more
            })
        }
        Command::Runs { list } => {
            let runs = reader.runs(list.selection.source.as_ref(), list.limit).await?;
            print(list.format.json, &RunList { runs }, |list| render::runs(&list.runs, now()))
        }
        Command::Images { selection, format } => {
            let images = reader.images(selection.source.as_ref()).await?;
            print(format.json, &ImageList { images }, |list| render::images(&list.images))
        }
        Command::Image { command: ImageCommand::Show { variant, selection, format } } => {
            let view = reader.image(&variant, selection.source.as_ref()).await?;
            print(format.json, &view, |view| render::image(view, now()))
        }
        Command::Releases { list } => {
            let releases = reader.releases(list.selection.source.as_ref(), list.limit).await?;
            print(list.format.json, &ReleaseList { releases }, |list| render::releases(&list.releases, now()))
        }
        Command::Channels { selection, format } => {
            let channels = reader.channels(selection.source.as_ref()).await?;
            print(format.json, &ChannelList { channels }, |list| render::channels(&list.channels, now()))
        }
        Command::Sites { selection, format } => {
            let sites = reader.sites(selection.source.as_ref()).await?;
            print(format.json, &SiteList { sites }, |list| render::sites(&list.sites, now()))
        }
        Command::Site { command: SiteCommand::Show { name, selection, format } } => {
            let view = reader.site(&name, selection.source.as_ref()).await?;
            print(format.json, &view, |view| render::site(view, now()))
        }
        Command::Audit(args) => {
            let filter = AuditFilter {
                actor: args.actor,
                operation: args.operation,
                object: args.object,
                since: args.since,
                limit: args.limit,
                cursor: args.cursor,
            };
            let page = reader.audit(&filter).await?;
            print(args.format.json, &page, |page| render::audit(page, now()))
        }
        other => Err(Failure::new(ErrorClass::Bug, format!("a command is not dispatched: {other:?}"))),
    }
}

fn print<T: Document>(json: bool, document: &T, text: impl FnOnce(&T) -> String) -> Result<End, Failure> {
    if json {
        output::json(document)?;
    } else {
        output::print(&text(document))?;
    }
    Ok(End::Good)
}

/// Runs blocking work on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let failed = |error| Failure::new(ErrorClass::Bug, format!("a command broke off: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn now() -> jiff::Timestamp {
    Clock::system().now()
}

async fn poll(global: &Global, source: &SourceName) -> Result<End, Failure> {
    let answer = connection::client(global)?.poll(source).await?;
    output::note(&format!("{} is polled now", answer.source));
    Ok(End::Good)
}
