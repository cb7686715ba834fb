//! Runs and their nodes.

use edgewright_api::{Counts, DiagnosticView, NodeAction, NodeView, RunSummary, RunView, VerdictSummary};
use edgewright_model::names::SourceName;
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_store::nodes::NodeRow;
use edgewright_store::results::VerdictRow;
use edgewright_store::runs::RunRow;
use edgewright_store::unchanged::Tally;
use jiff::Timestamp;

use super::{ViewError, Views, is_asked};

impl Views {
    /// The newest runs, newest first.
    pub async fn runs(&self, source: Option<&SourceName>, limit: u32) -> Result<Vec<RunSummary>, ViewError> {
        let mut rows = Vec::new();
        if source.is_some() {
            for source in self.selected(source).await? {
                rows.extend(self.store.runs(Some(source.id), limit).await?);
            }
        } else {
            rows = self.store.runs(None, limit).await?;
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.number));
        rows.truncate(limit as usize);
        let mut runs = Vec::with_capacity(rows.len());
        for row in rows {
            runs.push(self.summary(row).await?);
        }
        Ok(runs)
    }

    /// One run.
    pub async fn run(&self, number: RunNumber) -> Result<RunView, ViewError> {
        let mut row = self.run_row(number).await?;
        let domain = row.domain();
        let rows = self.store.nodes(number).await?;
        let (diagnostics, reason) = (std::mem::take(&mut row.diagnostics), row.failure.take());
        let diagnostics = diagnostics.into_iter().map(DiagnosticView::error).collect();
        let mut nodes = Vec::with_capacity(rows.len());
        for node in &rows {
            let asked = node.lanes.as_deref();
            let mut verdicts = match &node.digest {
                Some(digest) => self.lane_verdicts(domain, digest, asked).await?,
                None => Vec::new(),
            };
            // The digest may have been tested with the checks of other commits.
            verdicts.retain(|row| is_asked(&row.verdict, asked));
            nodes.push(view(node, &verdicts));
        }
        let updates = self.store.update_checks(number).await?;
        let run = self.summary(row).await?;
        // The store has one text for both.
        let is_about_release = |why: &String| run.state == RunState::Passed || why.ends_with(": no release");
        let (no_release, error) =
            if reason.as_ref().is_some_and(is_about_release) { (reason, None) } else { (None, reason) };
        Ok(RunView { run, diagnostics, updates, nodes, error, no_release })
    }

    pub(super) async fn run_row(&self, number: RunNumber) -> Result<RunRow, ViewError> {
        self.store.run(number).await?.ok_or_else(|| ViewError::NotFound {
            what: format!("run {number} not found"),
            hint: "`edgewright runs` lists them".to_owned(),
        })
    }

    pub(super) async fn summary(&self, row: RunRow) -> Result<RunSummary, ViewError> {
        Ok(RunSummary {
            number: row.number,
            source: self.store.source(row.source).await?.name,
            branch: row.branch,
            commit: row.commit.to_string(),
            subject: row.subject,
            author: row.author,
            trigger: row.trigger,
            state: row.state,
            summary: row.summary,
            counts: counts(&self.store.tally(row.number).await?),
            created: row.created_at,
            started: row.started_at,
            finished: row.finished_at,
            release: row.release,
        })
    }
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

fn view(node: &NodeRow, verdicts: &[VerdictRow]) -> NodeView {
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
        verdicts: verdicts.iter().map(verdict).collect(),
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
