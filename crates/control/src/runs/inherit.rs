//! What a node need not run itself: lanes that have an answer, and verdicts that it inherits from its
//! representative.

use std::collections::BTreeMap;

use edgewright_model::names::VariantName;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult, Verdict, VerdictOrigin};
use edgewright_plan::NodeId;
use edgewright_plan::graph::{LaneChecks, Node};

use super::judge::{Known, Rules};

/// The representatives of a node's lanes that are built: variant and manifest.
pub(crate) type Representatives = BTreeMap<NodeId, (VariantName, ManifestRef)>;

/// The lanes that a node's job need not run: they count as passed, failed in this very run, are inherited, or
/// are run by others.
pub(crate) struct Answers<'a> {
    pub(crate) run: RunNumber,
    pub(crate) node: &'a Node,
    /// Its manifest, where it is built.
    pub(crate) manifest: Option<&'a ManifestRef>,
    pub(crate) rules: Rules<'a>,
    pub(crate) known: &'a Known,
    pub(crate) representatives: &'a Representatives,
}

impl Answers<'_> {
    /// Whether a lane has an answer that this run need not ask for again.
    pub(crate) fn has(&self, lane: &LaneChecks) -> bool {
        if lane.lane == Lane::External {
            return true;
        }
        let own = self.manifest.and_then(|manifest| self.known.get(&manifest.digest, lane));
        if let (Some(found), Some(variant)) = (own, self.node.variant()) {
            let evaluation = self.rules.evaluate(&found.verdict, variant);
            let is_found_now = found.run == self.run && evaluation.kind() == Some(FailureKind::Image);
            if evaluation.passed() || is_found_now {
                return true;
            }
        }
        representative(lane, self.known, self.representatives).is_some()
    }
}

/// The verdict to inherit: only one that passed as it is. A representative that failed, or passed by an
/// exception, may have done so for reasons of its own.
fn representative<'a>(
    lane: &LaneChecks,
    known: &'a Known,
    representatives: &'a Representatives,
) -> Option<(&'a VariantName, &'a Verdict)> {
    let (variant, manifest) = representatives.get(lane.inherit.as_ref()?)?;
    Some((variant, known.passed(&manifest.digest, &lane.as_inherited())?))
}

/// The verdicts that a node inherits for lanes in which its job just `ran` none, and none of its own passed
/// before.
pub(crate) fn inherit(
    node: &Node,
    manifest: &ManifestRef,
    ran: &[Verdict],
    known: &Known,
    representatives: &Representatives,
) -> Vec<Verdict> {
    let lanes = node.lanes.iter().filter(|lane| {
        lane.inherit.is_some()
            && !ran.iter().any(|verdict| verdict.lane == lane.lane)
            && known.passed(&manifest.digest, lane).is_none()
    });
    lanes
        .filter_map(|lane| {
            let (variant, source) = representative(lane, known, representatives)?;
            Some(take_over(lane, manifest, variant.clone(), source.clone()))
        })
        .collect()
}

/// The representative's verdict as another variant's: nothing ran here, and the evidence stays where it is.
fn take_over(lane: &LaneChecks, manifest: &ManifestRef, variant: VariantName, source: Verdict) -> Verdict {
    let skipped = |check: CheckResult| CheckResult {
        outcome: CheckOutcome::Skipped { reason: format!("inherited from {variant}") },
        duration_ms: 0,
        tries: 0,
        ..check
    };
    let checks = source.checks.into_iter().map(skipped).collect();
    Verdict {
        lane: lane.lane,
        manifest: manifest.clone(),
        check_set: lane.check_set.clone(),
        inputs: source.inputs.with_from(lane.from_digest().cloned()),
        recorded_on: source.recorded_on,
        result: LaneResult::Passed,
        checks,
        evidence: Vec::new(),
        duration_ms: 0,
        origin: VerdictOrigin::Inherited {
            rule: "differs from the representative in files steps only".to_owned(),
            variant,
            from: source.manifest,
        },
    }
}
