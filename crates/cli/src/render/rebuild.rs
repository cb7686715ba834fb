//! What rebuilds gave.

use std::fmt::Write as _;

use edgewright_api::rebuild::{RebuildResult, RebuildView};

use super::style::{BOLD, GREEN, HINT, RED, YELLOW, paint, plain};

/// A line for each node, and for each that differs where.
pub(crate) fn rebuilds(views: &[RebuildView]) -> String {
    let mut text = String::new();
    for view in views {
        let result = match view.result {
            RebuildResult::Proved => paint(GREEN, "proved"),
            RebuildResult::Refuted => paint(RED, "refuted"),
            RebuildResult::Failed => paint(YELLOW, "not built"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {}: {result}, {} step{}",
            paint(BOLD, &view.node),
            view.platform,
            view.steps.len(),
            if view.steps.len() == 1 { "" } else { "s" }
        );
        if let Some(step) =
            view.steps.iter().find(|step| step.was.as_ref().is_some_and(|was| *was != step.now))
        {
            let was = step.was.as_ref().map_or("", |was| was.short());
            let _ = writeln!(text, "  {} gave {} instead of {was}", plain(&step.title), step.now.short());
            for difference in &step.differences {
                let _ = writeln!(text, "    {}", plain(difference));
            }
            let _ = writeln!(
                text,
                "{} find what the step depends on besides its inputs: the time, a download, random data",
                paint(HINT, " hint:")
            );
        }
        if let Some(failure) = &view.failure {
            let _ = writeln!(text, "  {}", plain(&failure.message));
            for line in &failure.output {
                let _ = writeln!(text, "  {}", plain(line));
            }
        }
    }
    text
}
