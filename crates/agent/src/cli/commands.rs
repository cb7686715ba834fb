//! One function for each command.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use edgewright_model::error::ErrorClass;
use edgewright_process::{CancellationToken, Clock};
use serde::Serialize;

use super::args::{Cli, CommandLine};
use super::exit::Failure;
use super::{daemon, enrol, install, render};
use crate::blocking::blocking;
use crate::config::Config;
use crate::control::{Control, Request, Response};
use crate::engine::{Engine, Setup, StatusDocument};
use crate::health::{CheckSets, Runner, run_order};
use crate::history::History;
use crate::machine::{Command, State};
use crate::report::Outbox;
use crate::store::StateFolder;
use crate::{health, updaters};

/// Maximum length of an order of checks, in bytes.
const MAX_ORDER: u64 = 16 * 1024 * 1024;
/// How often a running agent is asked while a command waits for it.
const ASK_PAUSE: Duration = Duration::from_millis(300);
/// The ID of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const SOCKET: &str = "control.sock";

/// Executes a command and returns its exit code.
pub(super) async fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let command = match &cli.command {
        CommandLine::Status => return status(&cli).await,
        CommandLine::Logs { lines } => return logs(&cli, *lines).await,
        CommandLine::Health => return health_now(&cli).await,
        CommandLine::Run => return daemon::run(cli).await,
        CommandLine::Enrol(args) => return enrol::run(&cli, args).await,
        CommandLine::Install(args) => return install::run(args, cli.json).await,
        child @ (CommandLine::RunChecks | CommandLine::RunHooks { .. }) => {
            return Ok(self::child(child).unwrap_or(ExitCode::FAILURE));
        }
        CommandLine::Check => Command::Check,
        CommandLine::Update { retry } => Command::Update { retry: *retry },
        CommandLine::Rollback => Command::RollBack,
        CommandLine::Hold { reason } => Command::Hold { reason: reason.clone() },
        CommandLine::Resume => Command::Resume,
    };
    let document = execute(&cli, command).await?;
    print(&cli, &document, |document| render::status(document, Clock::system().now()))?;
    Ok(if document.problem.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Executes a command by the running agent, or here if none runs, and waits for what follows from it.
async fn execute(cli: &Cli, command: Command) -> Result<StatusDocument, Failure> {
    let control = control(cli);
    let is_quick = matches!(command, Command::Hold { .. } | Command::Resume);
    match ask(&control, &Request::Do { command: command.clone() }).await? {
        Some(document) => wait(&control, document, is_quick).await,
        None => execute_here(cli, command).await,
    }
}

async fn wait(
    control: &Control,
    mut document: StatusDocument,
    is_quick: bool,
) -> Result<StatusDocument, Failure> {
    // A reboot ends this process, too.
    while !is_quick
        && !document.state.is_at_rest()
        && !matches!(document.state, State::Rebooting { armed: true, .. })
    {
        tokio::time::sleep(ASK_PAUSE).await;
        match ask(control, &Request::Status).await? {
            Some(next) => document = next,
            None => break,
        }
    }
    Ok(document)
}

async fn execute_here(cli: &Cli, command: Command) -> Result<StatusDocument, Failure> {
    let state = open_state(cli).await?;
    let folder = state.clone();
    let _lock = blocking(move || folder.lock()).await.map_err(|error| stopped(&error))??;
    let setup = setup(cli, state).await?;
    let boot = boot_id().await?;
    let (mut engine, _questions) = Engine::start(setup, boot).await?;
    if let Err(rejected) = engine.command(command).await? {
        return Err(Failure::new(ErrorClass::Conflict, rejected.to_string(), None));
    }
    engine.run_to_rest(&CancellationToken::new()).await?;
    Ok(StatusDocument { is_running: false, ..engine.status().await })
}

async fn ask(control: &Control, request: &Request) -> Result<Option<StatusDocument>, Failure> {
    match control.ask(request).await {
        Ok(None) => Ok(None),
        Ok(Some(Response::Status { status })) => Ok(Some(*status)),
        Ok(Some(Response::Rejected { message })) => Err(Failure::new(ErrorClass::Conflict, message, None)),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let hint = Some("run it as root".to_owned());
            Err(Failure::new(ErrorClass::Denied, "cannot connect to the agent: permission denied", hint))
        }
        Err(error) => Err(Failure::unavailable("the agent does not answer", &error)),
    }
}

async fn status(cli: &Cli) -> Result<ExitCode, Failure> {
    let document = if let Some(document) = ask(&control(cli), &Request::Status).await? {
        document
    } else {
        let config = config(cli).await?;
        let state = open_state(cli).await?;
        let now = Clock::system().now();
        let (record, queued) = blocking(move || {
            let queued = Outbox::open(&state.join("outbox")).and_then(|outbox| outbox.len()).ok();
            state.load(now).map(|record| (record, queued))
        })
        .await
        .map_err(|error| stopped(&error))??;
        StatusDocument::stored(&record, &config, queued)
    };
    print(cli, &document, |document| render::status(document, Clock::system().now()))?;
    Ok(ExitCode::SUCCESS)
}

async fn logs(cli: &Cli, count: usize) -> Result<ExitCode, Failure> {
    let history = History::new(cli.state.join("history.jsonl"));
    let lines = blocking(move || history.last(count)).await.map_err(|error| stopped(&error))?;
    let lines = lines.map_err(|error| Failure::unavailable("cannot read the history", &error))?;
    print(cli, &lines, |lines| render::logs(lines))?;
    Ok(ExitCode::SUCCESS)
}

async fn health_now(cli: &Cli) -> Result<ExitCode, Failure> {
    let config = config(cli).await?;
    let state = open_state(cli).await?;
    let updater = updaters::choose(config.updater, cli.bootc.clone()).await?;
    let booted = updater.status().await?.booted.map(|booted| booted.digest);
    let checks = blocking(move || match booted {
        Some(digest) => CheckSets::open(&state.join("checks"))?.load(&digest),
        None => Ok(Vec::new()),
    })
    .await
    .map_err(|error| stopped(&error))??;
    let runner = runner(&config)?;
    let result = runner.run(runner.checks(checks), &CancellationToken::new()).await;
    print(cli, &result, render::health)?;
    Ok(if result.failure().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does the work of a child of a health check, if the command is one: it needs no runtime.
pub(super) fn child(command: &CommandLine) -> Option<ExitCode> {
    match command {
        CommandLine::RunChecks => Some(run_checks()),
        CommandLine::RunHooks { kind, root } => {
            health::run_hooks(kind == "green", root, &health::print_line);
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}

fn run_checks() -> ExitCode {
    let mut order = Vec::new();
    if let Err(error) = std::io::stdin().take(MAX_ORDER).read_to_end(&mut order) {
        return Failure::unavailable("cannot read standard input", &error).report(false);
    }
    match run_order(&order, &health::print_line) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => Failure::unavailable("cannot run the checks", &error).report(false),
    }
}

/// What an engine is made of.
pub(super) async fn setup(cli: &Cli, state: StateFolder) -> Result<Setup, Failure> {
    let config = config(cli).await?;
    let updater = updaters::choose(config.updater, cli.bootc.clone()).await?;
    let runner = runner(&config)?;
    let reboot = match &cli.reboot {
        Some(program) => vec![program.to_string_lossy().into_owned()],
        None => vec!["systemctl".to_owned(), "reboot".to_owned()],
    };
    let downloads = state.join("downloads");
    Ok(Setup { config, updater, state, downloads, runner, reboot, clock: Clock::system() })
}

pub(super) async fn boot_id() -> Result<String, Failure> {
    let text = tokio::fs::read_to_string(BOOT_ID).await;
    text.map(|text| text.trim().to_owned()).map_err(|error| Failure::unavailable(BOOT_ID, &error))
}

pub(super) async fn open_state(cli: &Cli) -> Result<StateFolder, Failure> {
    let path = cli.state.clone();
    Ok(blocking(move || StateFolder::open(&path)).await.map_err(|error| stopped(&error))??)
}

pub(super) fn socket(cli: &Cli) -> PathBuf {
    cli.run.join(SOCKET)
}

pub(super) fn stopped(error: &crate::blocking::Stopped) -> Failure {
    Failure::new(ErrorClass::Unavailable, error.to_string(), None)
}

fn control(cli: &Cli) -> Control {
    Control::new(socket(cli))
}

async fn config(cli: &Cli) -> Result<Config, Failure> {
    let path = cli.config.clone();
    Ok(blocking(move || Config::read(&path)).await.map_err(|error| stopped(&error))??)
}

fn runner(config: &Config) -> Result<Runner, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::unavailable("cannot find this program", &error))?;
    Ok(Runner { program, settings: config.health.clone(), root: PathBuf::from("/") })
}

fn print<T: Serialize>(cli: &Cli, document: &T, text: impl Fn(&T) -> String) -> Result<(), Failure> {
    let text = if cli.json {
        serde_json::to_string_pretty(document)
            .map(|json| json + "\n")
            .map_err(|error| Failure::unavailable("cannot print", &error))?
    } else {
        text(document)
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Who reads may have enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::unavailable("cannot print", &error))
        }
        _ => Ok(()),
    }
}
