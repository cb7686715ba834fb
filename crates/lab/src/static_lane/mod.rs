//! The `static` lane: checks of an image without running it. It needs no podman: only bootc's own check does,
//! and is skipped without it.
//!
//! ```text
//! manifest ─▶ layers, one by one ─▶ rootfs: the resulting tree, and secrets ─▶ rules, size, bound images
//!                                                                    └─▶ lint: bootc itself, in a container
//! ```
//!
//! Every finding is the result of a check of the order: the lane's own rules are checks like the user's, so
//! that `off` and exceptions apply to them.

mod bound;
mod layers;
mod lint;
mod rootfs;
mod rules;
mod size;

use std::time::{Duration, Instant};

use edgewright_model::order::{LaneOrder, ManifestRef};
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::spec::{Assertion, StaticRule};
use edgewright_model::verdict::{CheckOutcome, CheckResult};

use crate::lane::{Events, LabContext};
use crate::machine::LaneFault;
use crate::verdict::{describe, milliseconds};
use layers::Contents;

/// The limit of a result's output, in lines.
const LINES: usize = 100;

/// The finding of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// Passed, with notes.
    Passed(Vec<String>),
    /// Failed, with a message and further lines.
    Failed(String, Vec<String>),
    /// The rule does not apply.
    Skipped(String),
}

impl Finding {
    /// Failed with a list of offenders, of which the message names the first few, and what to do about them;
    /// passed if there are none.
    fn of_offenders(what: &str, offenders: Vec<String>, advice: &str) -> Self {
        /// The number that the message names.
        const NAMED: usize = 5;
        if offenders.is_empty() {
            return Self::Passed(Vec::new());
        }
        let shown = offenders[..offenders.len().min(NAMED)].join(", ");
        let more = match offenders.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let lines = if more.is_empty() { Vec::new() } else { offenders };
        Self::Failed(format!("{what}: {shown}{more}; {advice}"), lines)
    }

    fn into_outcome(self) -> (CheckOutcome, Vec<String>) {
        let cut = |mut lines: Vec<String>| {
            lines.truncate(LINES);
            lines
        };
        match self {
            Self::Passed(notes) => (CheckOutcome::Passed, cut(notes)),
            Self::Failed(message, output) => {
                let output = cut(output);
                (CheckOutcome::Failed { kind: FailureKind::Image, message, output }, Vec::new())
            }
            Self::Skipped(reason) => (CheckOutcome::Skipped { reason }, Vec::new()),
        }
    }
}

/// Inspects the layers. Gives the results of the order's checks that are about them, or why there are none.
pub(crate) async fn examine(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> Result<Vec<CheckResult>, LaneFault> {
    let start = Instant::now();
    let deadline = start + order.within.get();
    let contents = layers::read(manifest, context, deadline, order.within).await?;
    let read = start.elapsed();
    let mut results = Vec::new();
    for check in &order.checks {
        let (finding, took) = match &check.assert {
            Assertion::Size { download, unpacked } => (size::judge(&contents, *download, *unpacked), read),
            Assertion::Static { rule: StaticRule::BootcLint } => {
                let left = deadline.saturating_duration_since(Instant::now());
                let limit = check.within.get().min(left).max(Duration::from_millis(1));
                let finding = lint::run(&contents.rootfs, manifest, context, (limit, left)).await?;
                (finding, start.elapsed())
            }
            Assertion::Static { rule } => (judge(*rule, &contents), read),
            _ => continue,
        };
        let tries = u32::from(!matches!(finding, Finding::Skipped(_)));
        let (outcome, notes) = finding.into_outcome();
        let result =
            CheckResult { id: check.id.clone(), outcome, duration_ms: milliseconds(took), tries, notes };
        events(JobEvent::Log { line: describe(&result) });
        results.push(result);
    }
    Ok(results)
}

fn judge(rule: StaticRule, contents: &Contents) -> Finding {
    let rootfs = &contents.rootfs;
    match rule {
        StaticRule::Kernel => rules::kernel(rootfs),
        StaticRule::Secrets => rules::secrets(rootfs),
        StaticRule::MachineId => rules::machine_id(rootfs),
        StaticRule::UsrMerge => rules::usr_merge(rootfs),
        StaticRule::Whiteouts => {
            let titles: Vec<&str> = contents.layers.iter().map(|layer| layer.title.as_str()).collect();
            rules::whiteouts(rootfs, &titles)
        }
        StaticRule::Architecture => rules::architecture(rootfs, &contents.architecture),
        StaticRule::Units => rules::units(rootfs),
        StaticRule::BoundImages => bound::judge(rootfs),
        // The caller runs this one.
        StaticRule::BootcLint => Finding::Skipped("it was not run".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_offenders_are_named() {
        let names = |count: usize| vec!["a".to_owned(); count];
        let found = |count| Finding::of_offenders("x", names(count), "fix it");
        assert_eq!(found(0), Finding::Passed(Vec::new()));
        assert_eq!(found(2), Finding::Failed("x: a, a; fix it".to_owned(), Vec::new()));
        assert_eq!(found(7), Finding::Failed("x: a, a, a, a, a and 2 more; fix it".to_owned(), names(7)));
    }
}
