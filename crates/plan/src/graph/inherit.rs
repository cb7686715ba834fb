//! Which variants take over whose verdicts: `test: {inherit: …}`.
//!
//! Variants of one image are alike where they start from the same base and their steps are equal but for `files` steps. The
//! first of them by name, the representative, runs an inherited lane for all that have the same checks in it; whoever has
//! checks of its own is asked other questions, and answers for itself.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{ImageName, Platform};
use edgewright_model::spec::{Definition, Lane};

use super::{Node, NodeId};
use crate::step::PlannedStep;

/// What variants have in common that share a representative in a lane.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kin {
    image: ImageName,
    platform: Platform,
    lane: Lane,
    check_set: Digest,
    base: Digest,
    /// The inputs of all steps but `files`, in order.
    steps: Vec<Digest>,
}

/// Names the representative in every lane that is inherited.
pub(super) fn assign(definition: &Definition, nodes: &mut BTreeMap<NodeId, Node>) {
    let mut first: BTreeMap<Kin, NodeId> = BTreeMap::new();
    // In name order, so that the first of its kin that is met is the representative.
    for (id, node) in nodes.iter_mut() {
        let image = id.name.image();
        let spec = definition.images.get(image);
        let Some(inherit) = spec.and_then(|spec| spec.test.inherit.as_ref()) else { continue };
        let steps = substance(node);
        for lane in node.lanes.iter_mut().filter(|lane| inherit.lanes.contains(&lane.lane)) {
            let kin = Kin {
                image: image.clone(),
                platform: id.platform.clone(),
                lane: lane.lane,
                check_set: lane.check_set.clone(),
                base: node.root_key.clone(),
                steps: steps.clone(),
            };
            let representative = first.entry(kin).or_insert_with(|| id.clone());
            lane.inherit = (representative != id).then(|| representative.clone());
        }
    }
}

fn substance(node: &Node) -> Vec<Digest> {
    let counts = |work: &PlannedStep| !matches!(work, PlannedStep::Files { .. });
    node.path.iter().filter(|step| counts(&step.work)).map(|step| step.inputs.clone()).collect()
}
