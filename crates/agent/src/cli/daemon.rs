//! `run`: the service.

use std::process::ExitCode;
use std::time::Duration;

use edgewright_process::{CancellationToken, Tasks};
use tokio::signal::unix::{SignalKind, signal};

use super::args::Cli;
use super::commands::{boot_id, open_state, setup, socket, stopped};
use super::exit::Failure;
use crate::blocking::blocking;
use crate::control;
use crate::engine::Engine;
use crate::sd::ServiceManager;

/// How long the parts of the agent may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the agent until SIGTERM or SIGINT.
pub(super) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    let manager = ServiceManager::of_environment();
    let state = open_state(&cli).await?;
    let folder = state.clone();
    let _lock = blocking(move || folder.lock()).await.map_err(|error| stopped(&error))??;
    let setup = setup(&cli, state).await?;
    let (mut engine, questions) = Engine::start(setup, boot_id().await?).await?;
    let tasks = Tasks::new();
    control::serve(&socket(&cli), questions, &tasks)
        .map_err(|error| Failure::unavailable("cannot open the socket", &error))?;
    let cancel = CancellationToken::new();
    watch_signals(&tasks, cancel.clone())?;
    manager.notify("READY=1");
    let beat = || manager.notify("WATCHDOG=1");
    let end = engine.run(&cancel, &beat).await;
    manager.notify("STOPPING=1");
    // The reason of the end counts more than tasks that were slow.
    if let Err(stuck) = tasks.shutdown(SHUTDOWN_TIMEOUT).await {
        tracing::warn!(error = %stuck, "tasks were aborted");
    }
    end?;
    Ok(ExitCode::SUCCESS)
}

fn watch_signals(tasks: &Tasks, cancel: CancellationToken) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::unavailable("cannot wait for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let token = tasks.token().clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            () = token.cancelled() => {}
            _ = terminate.recv() => cancel.cancel(),
            _ = interrupt.recv() => cancel.cancel(),
        }
    });
    Ok(())
}
