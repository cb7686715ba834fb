//! A plan, before anything is done.

use edgewright_plan::{Action, Plan};

use super::style::{BOLD, DIM, GREEN, RED, YELLOW, paint, plain};
use super::table::Table;

/// A plan's nodes with their actions and reasons. What is reused is counted only, unless `all` is wanted.
pub(crate) fn plan(plan: &Plan, all: bool) -> String {
    let mut table = Table::new(["node", "action", "reason"]);
    let several = plan.nodes.keys().any(|id| plan.nodes.keys().any(|other| other.platform != id.platform));
    for (id, planned) in &plan.nodes {
        if !all && matches!(planned.action, Action::Reuse { .. }) {
            continue;
        }
        let style = match planned.action {
            Action::Build { .. } | Action::Test { .. } => YELLOW,
            Action::Reuse { .. } => GREEN,
            Action::Retire => DIM,
            Action::Blocked | Action::Failed => RED,
        };
        let reasons: Vec<String> = planned.reasons.iter().map(|reason| plain(&reason.to_string())).collect();
        table.row([
            if several {
                format!("{} ({})", planned.display_name(), id.platform)
            } else {
                planned.display_name()
            },
            paint(style, planned.action.name()),
            reasons.join("; "),
        ]);
    }
    let summary = paint(BOLD, plan.summary());
    format!("{}\n{summary}\n", table.text("nothing to do").trim_end())
}
