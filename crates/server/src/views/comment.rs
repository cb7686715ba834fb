//! A run as a comment on a pull request: short Markdown, failures first.

use std::fmt::Write as _;

use edgewright_api::{NodeAction, NodeView, RunView};
use edgewright_control::sources::refs::pull_request_tag;
use edgewright_model::run::{NodeState, RunNumber, RunState};

use super::{ViewError, Views};

/// The number of nodes in each list; the rest is counted.
const SHOWN: usize = 50;
/// The number of lines of a failure's output.
const LINES: usize = 20;

impl Views {
    /// A run's plan and verdicts as Markdown.
    pub async fn comment(&self, number: RunNumber) -> Result<String, ViewError> {
        let view = self.run(number).await?;
        let mut text = comment(&view);
        if let Some(tag) = pull_request_tag(&view.run.branch) {
            text.push_str(&self.tagged(&view, &tag).await?);
        }
        Ok(text)
    }

    /// How to pull the images that a pull request changes, until it is closed.
    async fn tagged(&self, view: &RunView, tag: &str) -> Result<String, ViewError> {
        let mut rows = Vec::new();
        for source in self.selected(Some(&view.run.source)).await? {
            rows.extend(self.store.pull_requests(source.id).await?);
        }
        rows.retain(|row| row.run == view.run.number);
        let host = self.registry().map(|registry| format!("{}/", registry.host)).unwrap_or_default();
        let mut text = String::new();
        if !rows.is_empty() {
            line(&mut text, format_args!("\nImages that this pull request changes, until it is closed:\n"));
        }
        for row in rows.iter().take(SHOWN) {
            line(&mut text, format_args!("- `{host}{}:{tag}`", row.repository));
        }
        if rows.len() > SHOWN {
            line(&mut text, format_args!("- … and {} more", rows.len() - SHOWN));
        }
        Ok(text)
    }
}

/// Text from a repository is put into code spans or blocks, so nothing needs escaping.
fn comment(view: &RunView) -> String {
    let run = &view.run;
    let (mark, word) = match run.state {
        RunState::Passed => ("✅", "passed"),
        RunState::Failed => ("❌", "failed"),
        RunState::Cancelled => ("⏹", "was cancelled"),
        RunState::Superseded => ("⏭", "was superseded by a newer commit"),
        _ => ("⏳", "is in progress"),
    };
    let short: String = run.commit.chars().take(10).collect();
    let mut text = format!("### {mark} Edgewright run {} {word}\n\n", run.number);
    line(&mut text, format_args!("Commit {} of {}", code(&short), code(&run.branch)));
    if let Some(summary) = &run.summary {
        line(&mut text, format_args!("Plan: {summary}"));
    }
    if let Some(failure) = view.error.as_ref().or(view.no_release.as_ref()) {
        block(&mut text, failure);
    }
    for diagnostic in view.diagnostics.iter().take(SHOWN) {
        let file = diagnostic.file.as_ref().map(ToString::to_string).unwrap_or_default();
        let place = diagnostic.place.map_or(file.clone(), |place| format!("{file}:{}", place.line));
        let shown = if place.is_empty() { String::new() } else { format!("{}: ", code(&place)) };
        line(&mut text, format_args!("- {shown}{}", code(&diagnostic.message)));
    }
    failures(&mut text, view);
    let jobs: Vec<&NodeView> = view
        .nodes
        .iter()
        .filter(|node| matches!(node.action, NodeAction::Build | NodeAction::Test | NodeAction::Retire))
        .collect();
    if !jobs.is_empty() {
        text.push_str("\n| image | plan | reason | state | verdict |\n|---|---|---|---|---|\n");
        for node in jobs.iter().take(SHOWN) {
            let verdicts: Vec<String> =
                node.verdicts.iter().map(|verdict| format!("{} {}", verdict.lane, result(verdict))).collect();
            line(
                &mut text,
                format_args!(
                    "| {} | {} | {} | {} | {} |",
                    code(&node.node),
                    node.action.name(),
                    code(&node.reason),
                    node.state,
                    verdicts.join(", ")
                ),
            );
        }
        if jobs.len() > SHOWN {
            line(&mut text, format_args!("\n… and {} more", jobs.len() - SHOWN));
        }
    }
    if run.counts.reuse > 0 {
        line(&mut text, format_args!("\n{} more are unchanged.", run.counts.reuse));
    }
    text
}

fn failures(text: &mut String, view: &RunView) {
    for node in view.nodes.iter().filter(|node| node.state == NodeState::Failed).take(SHOWN) {
        let Some(failure) = &node.failure else { continue };
        line(
            text,
            format_args!("\n**{}** failed ({}): {}", code(&node.node), failure.kind, code(&failure.message)),
        );
        if !failure.output.is_empty() {
            let from = failure.output.len().saturating_sub(LINES);
            block(text, &failure.output[from..].join("\n"));
        }
    }
}

fn result(verdict: &edgewright_api::VerdictSummary) -> &'static str {
    use edgewright_model::verdict::LaneResult;
    match verdict.result {
        LaneResult::Passed => "passed",
        LaneResult::Failed { .. } => "failed",
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// External text on one line, as code: its markup and mentions of users have no effect.
fn code(text: &str) -> String {
    let flat: String = text
        .chars()
        .map(|c| if c.is_control() || c == '`' { ' ' } else { c })
        .collect::<String>()
        .replace('|', "¦");
    format!("`{}`", flat.trim())
}

/// External text on several lines, in a fence longer than any fence in it.
fn block(text: &mut String, body: &str) {
    let mut fence = "```".to_owned();
    while body.contains(&fence) {
        fence.push('`');
    }
    line(text, format_args!("\n{fence}text\n{body}\n{fence}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_external_text_has_no_effect() {
        assert_eq!(code("a`b`|@all\n<img>"), "`a b ¦@all <img>`");
        let mut text = String::new();
        block(&mut text, "x\n```\ny");
        assert_eq!(text, "\n````text\nx\n```\ny\n````\n");
    }
}
