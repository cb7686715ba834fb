//! What is known that matters to a plan: builds, where variants are, verdicts.

use std::collections::BTreeSet;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::names::VariantName;
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::Trigger;
use edgewright_model::spec::Exception;
use edgewright_model::verdict::LaneResult;
use edgewright_plan::history::PreviousBuild;
use edgewright_plan::{Graph, History};
use edgewright_store::heads::Head;
use edgewright_store::results::VerdictRow;
use jiff::Timestamp;

use super::facts::released_checks;
use super::judge::{Findings, Known, Rules, judge_known};
use super::prepare::Planner;
use super::scope::Scope;
use crate::ControlError;
use crate::releases::newest::{LastGood, Released};
use crate::verdicts::day;

/// The history of a graph, and what else was found on the way.
pub(super) struct Loaded {
    pub(super) history: History,
    pub(super) findings: Findings,
    pub(super) heads: Vec<Head>,
    pub(super) released: Arc<Released>,
}

impl Planner {
    /// What is known that matters to a graph, which learns what it is compared with. A run on request forgets
    /// failures: it tries again.
    pub(super) async fn load_history(
        &self,
        scope: &Scope,
        graph: &mut Graph,
        exceptions: &[Exception],
    ) -> Result<Loaded, ControlError> {
        let run = &scope.run;
        let keys = graph.keys();
        let domain = run.domain();
        let (builds, heads) =
            tokio::try_join!(self.store.built(&keys, domain), self.store.heads(domain, &run.branch))?;
        let lane_inputs = self.jobs.lane_inputs();
        let mut history = History { builds, lane_inputs: lane_inputs.clone(), ..History::default() };
        let now = self.store.confirmed_time(self.clock.now()).await?;
        self.add_heads(&mut history, graph, &heads, now);
        // The last good digests are compared with; they may have other keys.
        let released = self.releases.newest(run.source, &run.branch).await?;
        let before = self.on_devices(scope, &released).await?;
        graph.compare_with(&history.builds, |variant, platform| {
            before.good.get(&(variant.clone(), platform.clone())).cloned()
        });
        let manifests = history.builds.values().chain(released.good.values());
        let digests: BTreeSet<&Digest> = manifests.map(|build| &build.digest).collect();
        let verdicts = self.store.newest_verdicts(&digests, domain).await?;
        for row in &verdicts {
            add_verdict(&mut history, row, run.trigger);
        }
        let rules = Rules { exceptions, today: day(self.clock.now()) };
        let failed = failed_good(&verdicts, &released.good);
        let checks = released_checks(&self.store, failed).await?;
        let known = Known::of(&lane_inputs, verdicts);
        let findings = judge_known(graph, rules, &known, (&released.good, &checks), &mut history);
        Ok(Loaded { history, findings, heads, released })
    }

    /// What devices have before they take what this run makes: what a channel holds, whose update is tested;
    /// what its branch released, or the default branch where that is nothing, as of pull requests.
    async fn on_devices(&self, scope: &Scope, own: &Arc<Released>) -> Result<Arc<Released>, ControlError> {
        if let Some(update) = scope.update() {
            return Ok(Arc::new(self.releases.released(scope.run.source, update.from).await?));
        }
        if own.number.is_some() {
            return Ok(Arc::clone(own));
        }
        match self.store.source(scope.run.source).await?.default_branch {
            Some(branch) => self.releases.newest(scope.run.source, &branch).await,
            None => Ok(Arc::default()),
        }
    }

    /// What variants had before. What was retired is shown for a while, and then forgotten.
    fn add_heads(&self, history: &mut History, graph: &Graph, heads: &[Head], now: Timestamp) {
        let grace = now.checked_sub(self.retired_for).unwrap_or(Timestamp::MIN);
        let declared: BTreeSet<&VariantName> =
            graph.nodes.keys().filter_map(|id| id.name.variant()).collect();
        for head in heads {
            let is_forgotten = head.retired_at.is_some_and(|at| at < grace);
            if declared.contains(&head.variant) || !is_forgotten {
                let build = PreviousBuild { key: head.key.clone(), manifest: head.digest.clone() };
                let platforms = history.variants.entry(head.variant.clone()).or_default();
                platforms.insert(head.platform.clone(), build);
            }
        }
    }
}

/// The last good digests that fail some lane: failures may be compared with theirs.
fn failed_good<'a>(verdicts: &[VerdictRow], good: &'a LastGood) -> BTreeSet<&'a Digest> {
    let failed = verdicts.iter().filter(|row| row.verdict.result != LaneResult::Passed);
    let failed: BTreeSet<&Digest> = failed.map(|row| &row.verdict.manifest.digest).collect();
    good.values().map(|manifest| &manifest.digest).filter(|digest| failed.contains(digest)).collect()
}

/// Adds a verdict that is newer than those of the same key before it.
fn add_verdict(history: &mut History, row: &VerdictRow, trigger: Trigger) {
    let key = row.verdict.key();
    history.passed.remove(&key);
    history.failed.remove(&key);
    match &row.verdict.result {
        LaneResult::Passed => drop(history.passed.insert(key)),
        LaneResult::Failed { kind: FailureKind::Image, message } if trigger != Trigger::Manual => {
            history.failed.insert(key, message.clone());
        }
        LaneResult::Failed { .. } => {}
    }
}
