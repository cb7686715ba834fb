//! Runs and their nodes.

use std::collections::BTreeMap;

use edgewright_api::{Counts, DiagnosticView, NodeAction, NodeView, RunSummary, RunView, VerdictSummary};
use edgewright_model::names::SourceName;
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_store::nodes::NodeRow;
use edgewright_store::results::VerdictRow;
use edgewright_store::runs::RunRow;
use edgewright_store::unchanged::Tally;
use jiff::Timestamp;

use super::page::{Page, PageRequest};
use super::{ViewError, Views, is_asked};

impl Views {
    /// The newest runs, newest first.
    pub async fn runs(&self, source: Option<&SourceName>, limit: u32) -> Result<Vec<RunSummary>, ViewError> {
        Ok(self.run_page(source, &PageRequest::first(limit)).await?.rows)
    }

    /// A page of runs, newest first.
    pub async fn run_page(
        &self,
        source: Option<&SourceName>,
        page: &PageRequest,
    ) -> Result<Page<RunSummary>, ViewError> {
        let below = page.after(|text| text.parse().ok())?;
        let wanted = page.limit.saturating_add(1);
        let mut rows = Vec::new();
        if source.is_some() {
            for source in self.selected(source).await? {
                rows.extend(self.store.run_page(Some(source.id), below, wanted).await?);
            }
            rows.sort_by_key(|row| std::cmp::Reverse(row.number));
        } else {
            rows = self.store.run_page(None, below, wanted).await?;
        }
        rows.truncate(page.rows());
        let runs = self.summaries(rows).await?;
        Ok(page.cut(runs, |last| last.number.to_string()))
    }

    /// One run.
    pub async fn run(&self, number: RunNumber) -> Result<RunView, ViewError> {
        let mut row = self.run_row(number).await?;
        let domain = row.domain();
        let rows = self.store.nodes(number).await?;
        let (diagnostics, reason) = (std::mem::take(&mut row.diagnostics), row.failure.take());
        let diagnostics = diagnostics.into_iter().map(DiagnosticView::error).collect();
        let digests = rows.iter().filter_map(|node| node.digest.as_ref()).collect();
        let verdicts = self.verdicts(domain, &digests).await?;
        let view_of = |node: &NodeRow| {
            let asked = node.lanes.as_deref();
            let known = node.digest.as_ref().and_then(|digest| verdicts.get(digest));
            let mut verdicts = self.lane_verdicts(known, asked);
            // The digest may have been tested with the checks of other commits.
            verdicts.retain(|row| is_asked(&row.verdict, asked));
            view(node, &verdicts)
        };
        let nodes = rows.iter().map(view_of).collect();
        let updates = self.store.update_checks(number).await?;
        let Some(run) = self.summaries(vec![row]).await?.pop() else { return Err(no_run(number)) };
        // The store has one text for both.
        let is_about_release = |why: &String| run.state == RunState::Passed || why.ends_with(": no release");
        let (no_release, error) =
            if reason.as_ref().is_some_and(is_about_release) { (reason, None) } else { (None, reason) };
        Ok(RunView { run, diagnostics, updates, nodes, error, no_release })
    }

    pub(super) async fn run_row(&self, number: RunNumber) -> Result<RunRow, ViewError> {
        self.store.run(number).await?.ok_or_else(|| no_run(number))
    }

    /// Runs as in a list: two queries for all of them.
    pub(super) async fn summaries(&self, rows: Vec<RunRow>) -> Result<Vec<RunSummary>, ViewError> {
        let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
        let tallies = self.store.tallies(&numbers).await?;
        let sources = self.store.sources().await?;
        let names: BTreeMap<_, _> = sources.into_iter().map(|source| (source.id, source.name)).collect();
        let summary = |row: RunRow| {
            Some(RunSummary {
                source: names.get(&row.source)?.clone(),
                number: row.number,
                branch: row.branch,
                commit: row.commit.to_string(),
                subject: row.subject,
                author: row.author,
                trigger: row.trigger,
                state: row.state,
                summary: row.summary,
                counts: tallies.get(&row.number).map(counts).unwrap_or_default(),
                created: row.created_at,
                started: row.started_at,
                finished: row.finished_at,
                release: row.release,
            })
        };
        Ok(rows.into_iter().filter_map(summary).collect())
    }
}

pub(super) fn no_run(number: RunNumber) -> ViewError {
    let hint = "`edgewright runs` lists them".to_owned();
    ViewError::NotFound { what: format!("run {number} not found"), hint }
}

fn counts(tally: &Tally) -> Counts {
    let mut counts = Counts::default();
    for (action, state, nodes) in tally {
        match NodeAction::from_name(action) {
            NodeAction::Build => counts.build += nodes,
            NodeAction::Test => counts.test += nodes,
            NodeAction::Reuse => counts.reuse += nodes,
            NodeAction::Retire => counts.retire += nodes,
            NodeAction::Lock | NodeAction::Blocked | NodeAction::Failed | NodeAction::Other => {}
        }
        match state {
            NodeState::Failed => counts.failed += nodes,
            NodeState::Blocked => counts.blocked += nodes,
            _ => {}
        }
    }
    counts
}

fn view(node: &NodeRow, verdicts: &[&VerdictRow]) -> NodeView {
    NodeView {
        node: node.node.clone(),
        variant: node.variant.clone(),
        platform: Some(node.platform.clone()),
        action: NodeAction::from_name(&node.action),
        reason: node.reason.clone(),
        state: node.state,
        key: node.key.clone(),
        digest: node.digest.clone(),
        job: node.job,
        phase: node.phase,
        attempts: node.attempts,
        not_before: node.not_before,
        started: node.started_at,
        finished: node.finished_at,
        duration_ms: node.started_at.zip(node.finished_at).map(|(from, to)| between(from, to)),
        failure: node.failure.clone(),
        notes: node.notes.clone(),
        verdicts: verdicts.iter().copied().map(verdict).collect(),
    }
}

pub(super) fn verdict(row: &VerdictRow) -> VerdictSummary {
    VerdictSummary {
        lane: row.verdict.lane,
        result: row.verdict.result.clone(),
        duration_ms: row.verdict.duration_ms,
    }
}

/// Milliseconds from one time to a later one; 0 if the clock was set back.
fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}
