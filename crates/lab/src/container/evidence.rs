//! Evidence of a container, gathered before it is removed.

use std::time::Duration;

use edgewright_checks::FAILED_UNITS;
use edgewright_model::error::Chain;
use edgewright_process::{Command, ProcessContext, Stream};

use super::life::Container;
use crate::evidence::{Piece, bound, keep_end};
use crate::machine::MachineState;

/// The time limit to gather one piece.
const GATHERING: Duration = Duration::from_secs(20);

const JOURNAL: &[&str] = &["journalctl", "--boot", "--no-pager", "--output=short-precise", "--lines=8000"];

/// Gathers journal, failed units and console concurrently.
pub(super) async fn gather(
    container: &Container<'_>,
    processes: &ProcessContext,
    state: &MachineState,
) -> Vec<Piece> {
    let console = async { Piece::text("console", output(container.console(processes)).await) };
    let mut pieces = if *state == MachineState::Runs {
        let exec = |name, argv: &'static [&'static str]| async move {
            Piece::text(name, output(container.exec(argv, processes, GATHERING)).await)
        };
        let (journal, failed, console) =
            tokio::join!(exec("journal", JOURNAL), exec("failed-units", FAILED_UNITS), console);
        vec![journal, failed, console]
    } else {
        vec![console.await]
    };
    pieces.retain(|piece| !piece.bytes.is_empty());
    pieces
}

/// Both streams of a command, even if it fails.
async fn output(command: Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    let append = |_: Stream, line: &str| {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        keep_end(&mut bytes);
    };
    if let Err(error) = command.run_lines_status(append).await {
        tracing::debug!(error = %Chain(&error), "evidence is incomplete");
    }
    bound(&mut bytes);
    bytes
}
