//! How a variant comes about.

use std::fmt::Write as _;

use super::style::{BOLD, DIM, GREEN, YELLOW, paint, plain};
use super::table::Table;
use crate::commands::{Explanation, StepExplanation};

/// How many inputs of a step are named before the rest is counted.
const NAMED: usize = 4;
/// How much of a key people compare.
const SHORT: usize = 12;

/// Every step of a variant.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let mut text = String::new();
    for platform in &explanation.platforms {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {}: {}: {}",
            paint(BOLD, &explanation.variant),
            platform.platform,
            paint(YELLOW, &platform.action),
            plain(&platform.reasons.join("; "))
        );
        let mut table = Table::new(["key", "step", "", "shared with", "hashes"]);
        for step in &platform.steps {
            table.row([
                short(&step.key),
                plain(&step.title),
                change(step),
                count(&step.shared_with, 2),
                plain(&count(&step.inputs, NAMED)),
            ]);
        }
        text.push_str(&table.text("no steps"));
    }
    text
}

fn short(key: &str) -> String {
    key.strip_prefix("sha256:").unwrap_or(key).chars().take(SHORT).collect()
}

fn change(step: &StepExplanation) -> String {
    match step.change {
        None => String::new(),
        Some("same") => paint(GREEN, "same"),
        Some("follows") => paint(DIM, "follows"),
        Some(word) => paint(YELLOW, word),
    }
}

/// `a, b (+3 more)`.
fn count(items: &[String], named: usize) -> String {
    let mut text = items.iter().take(named).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > named {
        let _ = write!(text, " (+{} more)", items.len() - named);
    }
    text
}
