//! The report of `doctor`.

use std::fmt::Write as _;

use edgewright_api::documents::{DoctorReport, DoctorState};

use super::style::{GREEN, HINT, RED, YELLOW, paint, plain};
use super::table::Table;

/// The report as a table, then what to do.
pub(crate) fn doctor(report: &DoctorReport) -> String {
    let mut table = Table::new(["check", "state", "found"]);
    for check in &report.checks {
        let state = match check.state {
            DoctorState::Ok => paint(GREEN, "ok"),
            DoctorState::Warning => paint(YELLOW, "warning"),
            DoctorState::Missing => paint(RED, "missing"),
        };
        table.row([check.id.clone(), state, plain(&check.found)]);
    }
    let mut text = table.text("nothing was looked at");
    let hints = report.checks.iter().filter_map(|check| Some((&check.id, check.hint.as_ref()?)));
    for (id, hint) in hints {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{} {id}: {}", paint(HINT, "hint:"), plain(hint));
    }
    text.push_str(if report.ready {
        "\n\njobs can run on this machine\n"
    } else {
        "\n\njobs that start programs cannot run on this machine\n"
    });
    text
}
