//! Evidence of a virtual machine, gathered before it ends.

use std::time::Duration;

use edgewright_checks::FAILED_UNITS;
use edgewright_guest::frame::Program;
use edgewright_process::Stream;
use edgewright_vm::{Channel, Machine};

use crate::evidence::{Piece, bound, keep_end};

/// The time limit to gather one piece, before scaling.
const GATHERING: Duration = Duration::from_secs(10);

const JOURNAL: &[&str] = &["journalctl", "--boot", "--no-pager", "--output=short-precise", "--lines=4000"];

/// Gathers the console, and from a guest that answers its journal and failed units.
pub(super) async fn gather(machine: &Machine, answers: bool, scale: f64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if answers && let Some(channel) = machine.channel() {
        let within = GATHERING.mul_f64(scale);
        for (name, words) in [("journal", JOURNAL), ("failed-units", FAILED_UNITS)] {
            pieces.push(Piece::text(name, output(channel, words, within).await));
        }
    }
    pieces.push(Piece::text("console", machine.console().await.text().to_vec()));
    pieces.retain(|piece| !piece.bytes.is_empty());
    pieces
}

/// Both streams of a program in the guest, even if it fails.
async fn output(channel: &Channel, words: &[&str], within: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut append = |_: Stream, piece: &[u8]| {
        bytes.extend_from_slice(piece);
        keep_end(&mut bytes);
    };
    let run = channel.run(Program::new(words.iter().copied()), b"", &mut append);
    // What it wrote until then is kept.
    if let Err(error) = tokio::time::timeout(within, run).await.map_err(|_| "no end in time") {
        tracing::debug!(error, "evidence is incomplete");
    }
    bound(&mut bytes);
    bytes
}
