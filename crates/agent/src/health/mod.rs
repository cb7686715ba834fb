//! Whether a booted image is healthy: its check set, and greenboot's scripts.
//!
//! | module | holds |
//! |---|---|
//! | `checks` | check sets: fetched with the image, stored until after the reboot |
//! | `run` | runs them, each in a process of its own |

mod checks;
mod run;

use edgewright_model::verdict::{CheckOutcome, CheckResult};
use serde::{Deserialize, Serialize};

pub use checks::{CheckSets, fetch};
pub(crate) use run::print_line;
pub use run::{HealthSettings, Runner, run_hooks, run_order};

/// Maximum length of a message of a health check, in bytes.
const MAX_MESSAGE: usize = 2000;
/// Maximum number of lines that are kept of a check's output.
const MAX_LINES: usize = 20;

/// The result of a health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// Every check.
    pub checks: Vec<CheckResult>,
    /// What is wrong, but decides nothing: greenboot's wanted scripts, and those in `green.d` and
    /// `red.d`.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why the checks could not run to their end.
    #[serde(default)]
    pub fault: Option<String>,
}

impl HealthResult {
    /// Why the image is unhealthy; none if it is healthy.
    pub fn failure(&self) -> Option<String> {
        self.fault.clone().or_else(|| {
            self.checks.iter().find_map(|check| match &check.outcome {
                CheckOutcome::Failed { message, .. } => Some(format!("check `{}`: {message}", check.id)),
                _ => None,
            })
        })
    }

    /// The result without more than a report needs: what programs print is not bounded otherwise.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for check in &mut self.checks {
            if let CheckOutcome::Failed { message, output, .. } = &mut check.outcome {
                shorten(message);
                shorten_lines(output);
            }
            shorten_lines(&mut check.notes);
        }
        shorten_lines(&mut self.warnings);
        if let Some(fault) = &mut self.fault {
            shorten(fault);
        }
        self
    }
}

/// Keeps the last lines, each up to a length.
fn shorten_lines(lines: &mut Vec<String>) {
    let surplus = lines.len().saturating_sub(MAX_LINES);
    lines.drain(..surplus);
    lines.iter_mut().for_each(shorten);
}

fn shorten(text: &mut String) {
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
