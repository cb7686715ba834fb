//! Comparisons with the last good digest: each is tried once, and shared by the nodes that miss its verdict.

use edgewright_plan::history::VerdictKey;

use super::handle::Actions;
use super::state::{Comparison, ComparisonStage, Index, Schedule, Stage};

impl Schedule {
    pub(super) fn comparison_ended(&mut self, verdict: &VerdictKey, actions: &mut Actions) {
        let is_running = self.comparisons.get(verdict).is_some_and(|it| it.stage == ComparisonStage::Running);
        if is_running {
            self.outstanding -= 1;
            self.end_comparison(verdict, actions);
        }
    }

    /// Nodes that miss nothing any more are judged again.
    pub(super) fn end_comparison(&mut self, verdict: &VerdictKey, actions: &mut Actions) {
        let Some(comparison) = self.comparisons.remove(verdict) else { return };
        self.compared.insert(verdict.clone());
        for place in comparison.waiters {
            self.nodes[place].missing.remove(verdict);
            if self.nodes[place].stage == Stage::Comparing && self.nodes[place].missing.is_empty() {
                self.judge(place, actions);
            }
        }
    }

    pub(super) fn wait_for_comparisons(&mut self, place: Index, actions: &mut Actions) {
        let compared = &self.compared;
        self.nodes[place].missing.retain(|verdict| !compared.contains(verdict));
        if self.nodes[place].missing.is_empty() {
            self.judge(place, actions);
            return;
        }
        self.nodes[place].stage = Stage::Comparing;
        for verdict in &self.nodes[place].missing {
            let stage = ComparisonStage::Waiting { not_before: None };
            let new = || Comparison { stage, waiters: Vec::new() };
            self.comparisons.entry(verdict.clone()).or_insert_with(new).waiters.push(place);
        }
    }
}
