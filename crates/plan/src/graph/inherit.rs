//! Which variants inherit verdicts, and from which variant: `test: {inherit: …}`.
//!
//! Variants of one image are alike if they start from the same base and their steps are equal except for
//! `files` steps. The first of them by name, the representative, runs an inherited lane for all that have the
//! same checks in it; a variant with other checks runs the lane itself.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{ImageName, Platform};
use edgewright_model::spec::{Definition, Lane};

use super::{Node, NodeId};
use crate::step::PlannedStep;

/// The common properties of variants that share a representative in a lane.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    image: ImageName,
    platform: Platform,
    lane: Lane,
    check_set: Digest,
    base: Digest,
    /// The inputs of all steps but `files`, in order.
    steps: Vec<Digest>,
}

/// Sets the representative of every inherited lane.
pub(super) fn assign(definition: &Definition, nodes: &mut BTreeMap<NodeId, Node>) {
    let mut first: BTreeMap<Group, NodeId> = BTreeMap::new();
    // In name order, so that the first variant of each group is its representative.
    for (id, node) in nodes.iter_mut() {
        let image = id.name.image();
        let spec = definition.images.get(image);
        let Some(inherit) = spec.and_then(|spec| spec.test.inherit.as_ref()) else { continue };
        let steps = steps_without_files(node);
        for lane in node.lanes.iter_mut().filter(|lane| inherit.lanes.contains(&lane.lane)) {
            let group = Group {
                image: image.clone(),
                platform: id.platform.clone(),
                lane: lane.lane,
                check_set: lane.check_set.clone(),
                base: node.root_key.clone(),
                steps: steps.clone(),
            };
            let representative = first.entry(group).or_insert_with(|| id.clone());
            lane.inherit = (representative != id).then(|| representative.clone());
        }
    }
}

fn steps_without_files(node: &Node) -> Vec<Digest> {
    let is_compared = |work: &PlannedStep| !matches!(work, PlannedStep::Files { .. });
    node.path.iter().filter(|step| is_compared(&step.work)).map(|step| step.inputs.clone()).collect()
}
