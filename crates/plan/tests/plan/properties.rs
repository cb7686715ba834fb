//! Properties of every change: keys are exact, plans are complete and in order.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_plan::graph::Node;
use edgewright_plan::{Action, Graph, History, NodeId, plan};
use proptest::prelude::*;

use crate::fixture::{SAMPLE, Source, after};

fn keys(graph: &Graph) -> BTreeMap<String, Digest> {
    let variants =
        graph.nodes.values().filter_map(|node| Some((node.variant()?.to_string(), node.key.clone())));
    variants.collect()
}

fn changed(new: &Source) -> BTreeSet<String> {
    let (old, new) = (keys(&Source::sample().sound()), keys(&new.sound()));
    assert_eq!(old.len(), new.len());
    old.into_iter().filter(|(name, key)| new[name] != *key).map(|(name, _)| name).collect()
}

/// A file of the sample, and the variants whose images hold it.
const INPUTS: &[(&str, &[&str])] = &[
    (
        "images/base/files/etc/motd",
        &["base", "gateway/plant-a", "gateway/plant-b", "hmi/plant-a", "hmi/plant-b"],
    ),
    ("images/hmi/Containerfile", &["hmi/plant-a", "hmi/plant-b"]),
    ("images/hmi/src/hmi", &["hmi/plant-a", "hmi/plant-b"]),
    ("images/hmi/files/etc/hmi.conf", &["hmi/plant-a", "hmi/plant-b"]),
    ("images/gateway/files/etc/chrony.conf.j2", &["gateway/plant-a", "gateway/plant-b"]),
    ("sites/plant-a/files/etc/plant/site.conf", &["gateway/plant-a", "hmi/plant-a"]),
    ("sites/plant-b/files/etc/plant/site.conf", &["gateway/plant-b", "hmi/plant-b"]),
    ("sites/plant-b/images/hmi/files/etc/plc.conf.j2", &["hmi/plant-b"]),
    ("README.md", &[]),
];

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The key and the check sets of every node.
fn identities(source: &Source) -> Vec<(NodeId, Digest, Vec<Digest>)> {
    let check_sets = |node: &Node| node.lanes.iter().map(|lane| lane.check_set.clone()).collect();
    source.graph().nodes.values().map(|node| (node.id.clone(), node.key.clone(), check_sets(node))).collect()
}

#[test]
fn the_old_name_of_timeout_gives_the_same_keys_and_check_sets() {
    let old = Source::sample().replace("images/base/image.yaml", "timeout: 60s", "within: 60s").replace(
        "images/hmi/image.yaml",
        "timeout: 60s",
        "within: 60s",
    );
    assert_eq!(identities(&old), identities(&Source::sample()));
}

#[test]
fn definitions_change_keys_only_where_they_reach_the_image() {
    let hmi = "images/hmi/image.yaml";
    let site = "sites/plant-a/site.yaml";
    for (path, from, to, variants) in [
        (hmi, "\"0755\"", "\"0750\"", &[][..]),
        (hmi, "usr/bin/*", "etc/*", &["hmi/plant-a", "hmi/plant-b"]),
        (hmi, "0:0", "0:7", &["hmi/plant-a", "hmi/plant-b"]),
        (hmi, "CHANNEL: edge", "CHANNEL: x", &["hmi/plant-a", "hmi/plant-b"]),
        (hmi, "status: 200", "status: 201", &[]),
        (hmi, "default: plain", "default: blue", &[]),
        ("images/base/image.yaml", "timeout: 60s", "timeout: 61s", &[]),
        ("edgewright.yaml", "pool.example.org", "x", &["gateway/plant-a", "gateway/plant-b"]),
        (
            "edgewright.yaml",
            "name: plant-os\n",
            "name: plant-os\nchannels: {dev: {follows: {branch: main}}}\n",
            &[],
        ),
        (site, "ring: lab", "ring: prod", &[]),
        (site, "region: emea", "region: apac", &[]),
        (site, "id: s-a", "id: s-x", &[]),
        (site, "plc: 10.1.0.5", "plc: 10.1.0.6", &[]),
        (site, "plc: 10.1.0.5", "plc: 10.1.0.5, ntp: x", &["gateway/plant-a"]),
        ("sites/plant-b/site.yaml", "plc: 10.2.0.5", "plc: 10.2.0.6", &["hmi/plant-b"]),
    ] {
        let new = Source::sample().replace(path, from, to);
        assert_eq!(changed(&new), set(variants), "{path}: {from} → {to}");
    }
    // Ignored by .containerignore, read by nothing.
    assert_eq!(changed(&Source::sample().with("images/hmi/notes.md", "x")), set(&[]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_byte_of_an_input_changes_the_keys_of_its_variants_only(
        index in 0..INPUTS.len(), at in any::<prop::sample::Index>(), byte in b'a'..=b'z'
    ) {
        let (path, variants) = INPUTS[index];
        let mut source = Source::sample();
        let text = source.files.get_mut(path).unwrap();
        let mut bytes = text.clone().into_bytes();
        // The first line up to a template tag holds no syntax in any of these files, but for the mark of a
        // comment.
        let free = bytes.iter().position(|byte| matches!(byte, b'{' | b'\n')).unwrap_or(bytes.len());
        let first = usize::from(bytes[0] == b'#');
        let at = first + at.index(free - first);
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        *text = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(changed(&source), set(variants));
    }

    #[test]
    fn a_change_of_one_site_rebuilds_only_its_variants(site in prop::sample::select(vec!["plant-a", "plant-b"]),
        file in "[a-z]{1,8}", text in "[a-z]{0,8}") {
        let new = Source::sample().with(&format!("sites/{site}/files/{file}"), &text);
        let plan = after(&Source::sample(), &new);
        let work = plan.nodes.values().filter(|node| node.action.is_work());
        let names: BTreeSet<String> = work.map(|node| node.id.name.to_string()).collect();
        prop_assert_eq!(names, set(&[&format!("gateway/{site}"), &format!("hmi/{site}")]));
    }

    #[test]
    fn plans_are_complete_and_in_order(
        forgotten in prop::collection::vec(any::<bool>(), 32), untested in prop::collection::vec(any::<bool>(), 8),
        removed in prop::sample::subsequence(SAMPLE.iter().map(|(path, _)| *path).skip(1).collect::<Vec<_>>(), 0..4),
    ) {
        let graph = Source::sample().sound();
        let mut history = History::as_if_built(&graph);
        let mut forget = forgotten.iter().cycle();
        history.builds.retain(|_, _| !forget.next().copied().unwrap_or_default());
        let mut forget = untested.iter().cycle();
        history.passed.retain(|_| !forget.next().copied().unwrap_or_default());
        let mut source = Source::sample();
        source.files.retain(|path, _| !removed.contains(&path.as_str()));
        let new = source.graph();
        let plan = plan(&new, &history, Some(&graph));

        // Every variant, old and new, is in it, and every node has a reason.
        let planned: BTreeSet<String> = plan.nodes.keys().map(|id| id.name.to_string()).collect();
        for variant in new.variants().into_iter().chain(history.variants.keys()).chain(new.blocked.keys()) {
            prop_assert!(planned.contains(&variant.to_string()), "{} is missing", variant);
        }
        prop_assert!(plan.nodes.values().all(|node| !node.reasons.is_empty()));

        // Every job comes after the jobs that it waits for, and starts from an existing result.
        let order = plan.order();
        prop_assert_eq!(order.len(), plan.nodes.values().filter(|node| node.action.is_work()).count());
        let mut done: BTreeSet<_> = history.builds.keys().cloned().collect();
        let mut seen = BTreeSet::new();
        for node in order {
            prop_assert!(node.after.iter().all(|id| seen.contains(id)), "{} comes too early", node.id);
            if let Action::Build { start, steps } = &node.action {
                use edgewright_plan::plan::Start;
                let before = match start {
                    Start::Base => None,
                    Start::Known { key, .. } => Some(key.clone()),
                    Start::After(id) => Some(new.nodes[id].key.clone()),
                };
                prop_assert!(before.iter().all(|key| done.contains(key)), "{} starts from nothing", node.id);
                // The start and the remaining steps make up the whole path.
                let path = &new.nodes[&node.id].path;
                let left = path.len() - steps.len();
                let last = left.checked_sub(1).map(|last| path[last].key.clone());
                prop_assert!(last == before || last.is_none());
                done.extend(steps.iter().map(|step| step.key.clone()));
            }
            seen.insert(node.id.clone());
        }
        // The same arguments give the same plan.
        let again = edgewright_plan::plan(&source.graph(), &history, Some(&graph));
        prop_assert_eq!(serde_json::to_string(&plan).unwrap(), serde_json::to_string(&again).unwrap());
    }
}
