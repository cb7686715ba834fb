//! Evidence of lanes.

use std::fmt::Write as _;

use edgewright_api::EvidenceView;
use jiff::Timestamp;

use super::style::plain;
use super::table::Table;
use super::units::{age, bytes};

/// The list of a node's evidence; `command` prints a piece.
pub(crate) fn evidence(pieces: &[EvidenceView], command: &str, now: Timestamp) -> String {
    let mut table = Table::new(["name", "lane", "platform", "size", "run", "when"]);
    for piece in pieces {
        table.row([
            plain(&piece.name),
            piece.lane.to_string(),
            piece.platform.to_string(),
            bytes(piece.size_bytes),
            piece.run.to_string(),
            age(piece.recorded, now),
        ]);
    }
    let mut text = table.text("no evidence: no lane of this node ran on a machine");
    if !pieces.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\nprint it: {command}");
    }
    text
}
