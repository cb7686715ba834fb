//! One function per subcommand: ask, render, print.

mod audit;
mod backup;
mod cancel;
mod channel;
mod check;
mod config;
mod device;
mod digest;
mod disk;
mod doctor;
mod evidence;
mod executors;
mod export;
mod find_run;
mod init;
mod init_from;
mod job;
mod list;
mod login;
mod logs;
mod plan;
mod plan_explain;
mod rebuild;
mod restore;
mod retry;
mod rollout;
mod rollouts;
mod run;
mod run_request;
mod run_results;
mod schema;
mod serve;
mod shell;
mod shell_sandbox;
mod shell_vm;
mod shipped;
mod show;
mod target;
mod tools;
mod update;
mod user;
mod verdict;
mod watch_run;

pub(crate) use check::Folder;

use edgewright_api::documents::Document;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use edgewright_process::Clock;

use crate::args::{
    AuditArgs, AuditCommand, ChannelCommand, Cli, Command, ExportCommand, Format, Global, ImageCommand,
    JobCommand, ReleaseCommand, RunCommand, SiteCommand, SourceCommand, VerdictCommand,
};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::{connection, output, render};

/// Runs the command.
pub(crate) async fn dispatch(cli: Cli) -> Result<End, Failure> {
    let global = cli.global;
    if !matches!(cli.command, Command::Job { .. } | Command::Serve(_) | Command::Logout) {
        login::refresh().await?;
    }
    match cli.command {
        Command::Init { dir, from: None } => init::init(&dir).await,
        Command::Init { dir, from: Some(containerfile) } => init_from::init(&containerfile, &dir).await,
        Command::Schema { kind } => schema::print(kind.as_deref()),
        Command::Check { dir, format } => check::check(&dir, format).await,
        Command::Vars(args) => check::vars(&args.variant, &args.dir, args.format).await,
        Command::Plan(args) => plan::plan(&args, &global).await,
        Command::Run(mut args) => match args.command.take() {
            Some(command) => runs(command, &global).await,
            None => run::run(&args, &global).await,
        },
        Command::Serve(args) => serve::serve(&args, &global).await,
        Command::Doctor(args) => doctor::doctor(&args, &global).await,
        Command::Tools { command } => tools::tools(&command).await,
        Command::Job { command: JobCommand::Run(args) } => job::run(&args, &global).await,
        Command::Job { command: JobCommand::Pod(args) } => job::in_pod(&args, &global).await,
        Command::Job { command: JobCommand::Tools } => job::print_tools().await,
        Command::Job { command: JobCommand::InstallRunner { path } } => job::install_runner(&path),
        Command::Logs(args) => logs::logs(&global, args).await,
        Command::Evidence(args) => evidence::evidence(&global, args).await,
        Command::Rebuild(args) => rebuild::rebuild(&args, &global).await,
        Command::Update(args) => Box::pin(update::update(&args, &global)).await,
        Command::Shell { variant, rm, command } => {
            shell::shell(&global, variant.as_ref(), rm, &command).await
        }
        Command::Disk(args) => Box::pin(disk::disk(&args, &global)).await,
        Command::Export { command: ExportCommand::Tekton(args) } => export::tekton(&args, &global).await,
        Command::Rollout { command } => Box::pin(rollouts::rollout(command, &global)).await,
        Command::Rollouts(page) => rollouts::rollouts(&page, &global).await,
        Command::Promote(args) => rollouts::promote(args, &global).await,
        Command::Rollback(args) => rollouts::roll_back(args, &global).await,
        Command::Quarantine { command } => rollouts::quarantine(command, &global).await,
        Command::Config { command } => config::config(&command),
        Command::Completions { shell } => shipped::completions(shell),
        Command::Man { dir } => shipped::man(&dir),
        Command::Verdict { command: VerdictCommand::Post(args) } => verdict::post(&args, &global).await,
        Command::Backup { file } => backup::backup(&global, &file).await,
        Command::Restore { file } => restore::restore(&global, &file).await,
        Command::Channel { command } => channels(command, &global).await,
        Command::Device { command } => device::device(command, &global).await,
        Command::Devices(args) => device::devices(&connection::client(&global)?, &args).await,
        Command::User { command } => user::user(&global, command).await,
        Command::Login(args) => login::login(&global, args).await,
        Command::Logout => login::logout(&global).await,
        Command::Whoami { format } => login::whoami(&global, format).await,
        Command::Audit(AuditArgs {
            command: Some(AuditCommand::Verify { file: Some(file), anchor }),
            ..
        }) => audit::verify_file(file, anchor).await,
        Command::Source { command: SourceCommand::Poll { source } } | Command::Poll { source } => {
            poll(&global, &source).await
        }
        other => read(other, &global).await,
    }
}

/// `run …`: the commands on runs.
async fn runs(command: RunCommand, global: &Global) -> Result<End, Failure> {
    match command {
        RunCommand::List(page) => list::runs(&Reader::open(global).await?, &page).await,
        RunCommand::Show { number, comment: true, .. } => {
            output::print(&Reader::open(global).await?.comment(number).await?)?;
            Ok(End::Good)
        }
        RunCommand::Show { number, comment: false, format } => {
            let view = Reader::open(global).await?.run(number).await?;
            print(format.json, &view, |view| render::run(view, now()))
        }
        RunCommand::Watch(args) => Box::pin(watch_run::watch(global, &args)).await,
        RunCommand::Cancel { number } => cancel::cancel(global, number).await,
        RunCommand::Retry { number } => retry::retry(global, number).await,
    }
}

/// `channel …`: what only reads, and what changes a channel.
async fn channels(command: ChannelCommand, global: &Global) -> Result<End, Failure> {
    match command {
        ChannelCommand::List(args) => list::channels(&Reader::open(global).await?, &args).await,
        ChannelCommand::Show { channel } => show::channel(&Reader::open(global).await?, &channel).await,
        other => channel::change(global, other).await,
    }
}

/// The commands that read one document and print it.
async fn read(command: Command, global: &Global) -> Result<End, Failure> {
    let reader = Reader::open(global).await?;
    match command {
        Command::Status { verbose, format } => status(&reader, global, verbose, format).await,
        Command::Runs(page) => list::runs(&reader, &page).await,
        Command::Images(args) | Command::Image { command: ImageCommand::List(args) } => {
            list::images(&reader, &args).await
        }
        Command::Image { command: ImageCommand::Show { variant, selection, format } } => {
            let view = reader.image(&variant, selection.source.as_ref()).await?;
            print(format.json, &view, |view| render::image(view, now()))
        }
        Command::Releases(page) | Command::Release { command: ReleaseCommand::List(page) } => {
            list::releases(&reader, &page).await
        }
        Command::Release { command: ReleaseCommand::Show { number, selection, format } } => {
            show::release(&reader, number, selection.source.as_ref(), format).await
        }
        Command::Channels(args) => list::channels(&reader, &args).await,
        Command::Sites(args) | Command::Site { command: SiteCommand::List(args) } => {
            list::sites(&reader, &args).await
        }
        Command::Site { command: SiteCommand::Show { name, selection, format } } => {
            let view = reader.site(&name, selection.source.as_ref()).await?;
            print(format.json, &view, |view| render::site(view, now()))
        }
        Command::Source { command: SourceCommand::List { rows, format } } => {
            list::sources(&reader, rows, format).await
        }
        Command::Audit(args) => audit::audit(&reader, args).await,
        other => Err(Failure::new(ErrorClass::Bug, format!("a command is not dispatched: {other:?}"))),
    }
}

async fn status(reader: &Reader, global: &Global, verbose: bool, format: Format) -> Result<End, Failure> {
    let mut status = reader.status().await?;
    if reader.is_local() {
        status.kept = shell::kept_here(global).await;
        if verbose && let Some(server) = connection::server(global)? {
            // Only the running server knows.
            status.reconcilers = server.status().await?.reconcilers;
        }
    }
    let program = status.server_pid.filter(|_| reader.is_local()).and_then(passing_program);
    print(format.json, &status, |status| {
        let more = if verbose { render::reconcilers(status) } else { String::new() };
        render::status(status, program.as_deref()) + &more
    })
}

/// The command of the process that holds the data folder, if that is not `serve`, such as `edgewright run`.
fn passing_program(process: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next()?;
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let command = words.find(|word| matches!(&**word, "run" | "update" | "rebuild" | "serve"))?;
    (name == "edgewright" && command != "serve").then(|| format!("edgewright {command}"))
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
    let failed = |error| Failure::new(ErrorClass::Bug, format!("a command ended early: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn now() -> jiff::Timestamp {
    Clock::system().now()
}

async fn poll(global: &Global, source: &SourceName) -> Result<End, Failure> {
    let response = connection::client(global)?.poll(source).await?;
    output::note(&format!("polling {}", response.source));
    Ok(End::Good)
}
