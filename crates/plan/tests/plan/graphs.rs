//! The shape of graphs: nodes, parents, shared prefixes, what is blocked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use edgewright_model::Digest;
use edgewright_model::format::parse;
use edgewright_model::names::VariantName;
use edgewright_model::order::{Base, ManifestRef};
use edgewright_model::verdict::LaneInputs;
use edgewright_plan::files::{LayerEntry, LayerKind};
use edgewright_plan::graph::{GraphBase, LaneChecks};
use edgewright_plan::step::PlannedStep;
use edgewright_plan::{Graph, History, NodeId, lock_request, plan};
use insta::assert_snapshot;

use crate::fixture::{SAMPLE, Source, after};

fn name(id: &NodeId) -> String {
    let name = id.name.to_string();
    name.split_once('~').map_or(name.clone(), |(image, _)| format!("{image}~"))
}

fn show(graph: &Graph) -> String {
    let mut text = String::new();
    for node in graph.nodes.values() {
        let parent = node.parent.as_ref().map_or("-".to_owned(), name);
        writeln!(text, "{} on {parent} in {}", name(&node.id), node.repository).unwrap();
        for step in node.steps() {
            writeln!(text, "    {}", step.title).unwrap();
        }
        for lane in &node.lanes {
            let checks: Vec<&str> = lane.checks.iter().map(|check| check.id.as_str()).collect();
            writeln!(text, "    {}: {}", lane.lane, checks.join(", ")).unwrap();
        }
    }
    for (variant, blocked) in &graph.blocked {
        writeln!(text, "{variant} is blocked: {}", blocked.reason).unwrap();
    }
    text
}

#[test]
fn the_sample_shares_what_it_can() {
    assert_snapshot!(show(&Source::sample().sound()), @r#"
    base on - in plant-os/base
        bootstrap trixie
        files images/base/files
        container: system-up
    gateway/plant-a on gateway~ in plant-os/gateway/plant-a
        files sites/plant-a/files
        container: system-up
    gateway/plant-b on gateway~ in plant-os/gateway/plant-b
        files sites/plant-b/files
        container: system-up
    hmi/plant-a on hmi~ in plant-os/hmi/plant-a
        files sites/plant-a/files
        container: hmi-answers, system-up
    hmi/plant-b on hmi~ in plant-os/hmi/plant-b
        files sites/plant-b/files
        files sites/plant-b/images/hmi/files
        container: hmi-answers, system-up
    gateway~ on base in plant-os/gateway
        files images/gateway/files
    hmi~ on base in plant-os/hmi
        containerfile images/hmi/Containerfile
        files images/hmi/files
    "#);
}

#[test]
fn one_site_needs_no_prefix() {
    let mut source = Source::sample();
    source.files.retain(|path, _| !path.starts_with("sites/plant-b"));
    let graph = source.sound();
    assert!(graph.nodes.keys().all(|id| id.name.variant().is_some()));
    assert_eq!(graph.nodes.len(), 3);
}

#[test]
fn sites_without_files_share_everything() {
    let mut source = Source::sample();
    source.files.retain(|path, _| !path.contains("/files/") || path.starts_with("images/"));
    let graph = source.sound();
    let node = |name: &str| graph.variant(&name.parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap();
    for image in ["hmi", "gateway"] {
        let (a, b) = (node(&format!("{image}/plant-a")), node(&format!("{image}/plant-b")));
        assert_eq!(a.key, b.key);
        assert_eq!(a.parent, b.parent);
        assert!(a.steps().is_empty());
        assert_eq!(graph.nodes[a.parent.as_ref().unwrap()].key, a.key);
    }
}

#[test]
fn the_parent_of_a_prefix_is_the_common_ancestor_of_its_variants() {
    // The base has a variant per site, equal at both: the prefix of `hmi` is a child of the prefix of `base`.
    let source = Source::sample()
        .replace("images/base/image.yaml", "from: scratch\n", "from: scratch\nper: site\n")
        .without("sites/plant-a/files/etc/plant/site.conf")
        .without("sites/plant-b/files/etc/plant/site.conf");
    assert_snapshot!(show(&source.sound()), @r#"
    base/plant-a on base~ in plant-os/base/plant-a
        container: system-up
    base/plant-b on base~ in plant-os/base/plant-b
        container: system-up
    gateway/plant-a on gateway~ in plant-os/gateway/plant-a
        container: system-up
    gateway/plant-b on gateway~ in plant-os/gateway/plant-b
        container: system-up
    hmi/plant-a on hmi~ in plant-os/hmi/plant-a
        container: hmi-answers, system-up
    hmi/plant-b on hmi~ in plant-os/hmi/plant-b
        files sites/plant-b/images/hmi/files
        container: hmi-answers, system-up
    base~ on - in plant-os/base
        bootstrap trixie
        files images/base/files
    gateway~ on base~ in plant-os/gateway
        files images/gateway/files
    hmi~ on base~ in plant-os/hmi
        containerfile images/hmi/Containerfile
        files images/hmi/files
    "#);
}

#[test]
fn images_without_steps_are_tested_and_hosted() {
    let source =
        Source { files: [SAMPLE[0]].map(|(a, b)| (a.to_owned(), b.to_owned())).into(), ..Source::sample() }
            .replace("edgewright.yaml", "vars: {ntp: pool.example.org}\n", "")
            .with("images/outside/image.yaml", "from: quay.io/a/b:1\ntest: {lanes: [container]}\n")
            .with("images/again/image.yaml", "from: outside\ntest: {lanes: [container]}\n");
    let graph = source.sound();
    let node = |name: &str| graph.variant(&name.parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap();
    let (outside, again) = (node("outside"), node("again"));
    assert!(matches!(outside.base.order(), Some(Base::External { .. })));
    assert_eq!((outside.path.len(), outside.parent.as_ref()), (0, None));
    assert_eq!((&again.key, again.parent.as_ref()), (&outside.key, Some(&outside.id)));

    let unresolved = Source { systemd: None, ..source }.graph();
    assert_eq!(unresolved.unresolved.len(), 1);
    let node = unresolved.variant(&"again".parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!(node.unresolved.as_ref().unwrap().as_str(), "outside");
    assert!(matches!(node.base, GraphBase::External { digest: None, .. }));
    assert_ne!(node.key, again.key);
}

#[test]
fn faults_block_only_their_dependents() {
    let template =
        Source::sample().with("sites/plant-b/images/hmi/files/etc/plc.conf.j2", "{{ vars.nope }}\n").graph();
    assert_eq!(template.diagnostics.len(), 1);
    assert_eq!(template.blocked.len(), 1);
    assert_eq!(template.variants().len(), 4);

    let base = Source::sample().with("images/base/files/etc/x.j2", "{{ nope }}").graph();
    assert_eq!(base.diagnostics.len(), 1, "{:?}", base.diagnostics);
    assert_eq!((base.blocked.len(), base.nodes.len()), (5, 0));

    let ignore = Source::sample().with("images/hmi/.containerignore", "a\n[\n").graph();
    assert_eq!(ignore.diagnostics[0].place.unwrap().line, 2);
    assert_eq!(ignore.blocked.len(), 2);
}

#[test]
fn contexts_hold_the_entries_that_are_not_ignored() {
    let paths = |source: &Source| -> Vec<String> {
        let graph = source.graph();
        let hmi = graph.nodes.values().find(|node| node.id.name.image().as_str() == "hmi").unwrap();
        let context = hmi.path.iter().find_map(|step| match &*step.work {
            PlannedStep::Containerfile { context, .. } => Some(context),
            PlannedStep::Bootstrap { .. } | PlannedStep::Files { .. } => None,
        });
        context.unwrap().iter().map(|entry| entry.path.to_string()).collect()
    };
    let request = edgewright_model::Digest::of("some earlier request");
    let lock = format!("{{\"version\": 1, \"request\": \"{request}\", \"epoch\": \"2026-01-01T00:00:00Z\"}}");
    let source = Source::sample().with("images/hmi/edgewright.lock", &lock).with("images/hmi/a.md", "");
    let source = source.with("images/hmi/src/image.yaml", "");
    assert_eq!(paths(&source), [".containerignore", "Containerfile", "src/hmi", "src/image.yaml"]);
    let docker = source.clone().with("images/hmi/.dockerignore", "src");
    assert_eq!(paths(&docker).len(), 5, "a .containerignore wins over a .dockerignore");
    let beside = docker.with("images/hmi/Containerfile.containerignore", "*\n!src/hmi");
    assert_eq!(paths(&beside), ["src/hmi"]);
}

/// Images that a Containerfile uses are locked for each platform, and their digests are part of its key.
#[test]
fn images_of_a_containerfile_are_locked_and_part_of_its_key() {
    let text = "ARG BASE\nFROM golang:1 AS build\nFROM ${BASE}\nARG TARGETARCH\nCOPY --from=build /a /a\n\
                COPY --from=quay.io/tool:${TARGETARCH} /b /b\n";
    let source = Source::sample()
        .replace("edgewright.yaml", "[linux/amd64]", "[linux/amd64, linux/arm64]")
        .with("images/hmi/Containerfile", text);
    let definition = parse(&source.tree()).definition.unwrap();
    let request = lock_request(&definition.images[&"hmi".parse().unwrap()], &definition.source);
    let asked: Vec<String> =
        request.images.iter().map(|it| format!("{} {}", it.reference, it.platform)).collect();
    assert_eq!(
        asked,
        [
            "docker.io/library/golang:1 linux/amd64",
            "docker.io/library/golang:1 linux/arm64",
            "quay.io/tool:amd64 linux/amd64",
            "quay.io/tool:arm64 linux/arm64",
        ]
    );
    let used = |graph: &Graph, platform: &str| -> Vec<String> {
        let node = graph.variant(&"hmi/plant-a".parse().unwrap(), &platform.parse().unwrap()).unwrap();
        let images = node.path.iter().find_map(|step| match &*step.work {
            PlannedStep::Containerfile { images, .. } => Some(images),
            PlannedStep::Bootstrap { .. } | PlannedStep::Files { .. } => None,
        });
        images.unwrap().iter().map(|image| image.reference.to_string()).collect()
    };
    let graph = source.sound();
    assert_eq!(used(&graph, "linux/arm64"), ["docker.io/library/golang:1", "quay.io/tool:arm64"]);

    let hmi = |graph: &Graph, platform: &str| {
        graph.variant(&"hmi/plant-a".parse().unwrap(), &platform.parse().unwrap()).unwrap().clone()
    };
    let mut locks = source.locks(&definition);
    let lock = &mut locks.images.get_mut(&"hmi".parse().unwrap()).unwrap().lock;
    let moved = lock.images.iter_mut().find(|image| image.reference.to_string() == "quay.io/tool:arm64");
    moved.unwrap().digest = edgewright_model::Digest::of("moved");
    let later = edgewright_plan::graph(&definition, &source.tree(), &locks);
    assert_eq!(hmi(&later, "linux/amd64").key, hmi(&graph, "linux/amd64").key, "another platform moved");
    assert_ne!(hmi(&later, "linux/arm64").key, hmi(&graph, "linux/arm64").key);

    let unresolved = Source { systemd: None, ..source }.graph();
    assert_eq!(unresolved.unresolved.len(), 2);
    assert!(hmi(&unresolved, "linux/amd64").unresolved.is_some());
}

#[test]
fn platforms_are_separate_and_count_once() {
    let both = Source::sample().replace("edgewright.yaml", "[linux/amd64]", "[linux/amd64, linux/arm64]");
    let (one, two) = (Source::sample().sound(), both.sound());
    assert_eq!(two.nodes.len(), 2 * one.nodes.len());
    let keys: std::collections::BTreeSet<_> = two.nodes.values().map(|node| &node.key).collect();
    assert_eq!(keys.len(), two.nodes.len());
    let less = plan(&one, &History::as_if_built(&two), Some(&two));
    assert_eq!(less.nodes.values().filter(|node| node.action.name() == "retire").count(), 5);

    let child = both.replace(
        "images/base/image.yaml",
        "from: scratch\n",
        "from: scratch\nplatforms: [linux/amd64]\n",
    );
    let graph = child.graph();
    assert_eq!(graph.blocked.len(), 4, "{:?}", graph.blocked);
}

/// Prints how long it takes and asserts nothing about it. Measured in release on two shared cores (load 7,
/// five runs): graph 61 to 79 ms, plan 4 to 11 ms.
#[test]
fn a_thousand_variants() {
    let mut source = Source::sample();
    source.files.retain(|path, _| !path.starts_with("sites/"));
    for index in 0..500 {
        source = source
            .with(
                &format!("sites/p{index}/site.yaml"),
                &format!(
                    "id: s-{index}\nvars: {{plc: 10.0.0.{index}}}\nslots:\n- {{id: a, image: hmi}}\n- {{id: b, image: gateway}}\n"
                ),
            )
            .with(&format!("sites/p{index}/files/etc/site"), &index.to_string())
            .with(&format!("sites/p{index}/files/etc/plant.j2"), "{{ site.name }} {{ image }}\n");
    }
    for index in 0..200 {
        source = source.with(&format!("images/hmi/files/usr/share/{index}"), &index.to_string());
    }
    let tree = source.tree();
    let definition = edgewright_model::format::parse(&tree).definition.unwrap();
    let locks = source.locks(&definition);
    let started = std::time::Instant::now();
    let graph = edgewright_plan::graph(&definition, &tree, &locks);
    let graphed = started.elapsed();
    let history = History::as_if_built(&graph);
    let started = std::time::Instant::now();
    let plan = plan(&graph, &history, Some(&graph));
    eprintln!("graph {graphed:?}, plan {:?}", started.elapsed());
    assert_eq!((graph.variants().len(), graph.nodes.len()), (1001, 1003));
    assert_eq!(plan.summary().reuse, 1001);
}

#[test]
fn faults_of_all_variants_are_bounded() {
    let mut source = Source::sample();
    for number in 0..1200 {
        source = source.with(&format!("images/hmi/files/etc/{number}.j2"), "{{ nothing }}");
    }
    let tree = source.tree();
    let definition = edgewright_model::format::parse(&tree).definition.unwrap();
    let graph = edgewright_plan::graph(&definition, &tree, &source.locks(&definition));
    assert_eq!(graph.diagnostics.len(), 1001);
    let last = &graph.diagnostics[1000].message;
    assert!(last.starts_with("and ") && last.contains(" more errors"), "{last}");
}

#[test]
fn the_first_variant_by_name_is_the_representative() {
    let heirs = |source: &Source| -> Vec<String> {
        let graph = source.sound();
        let lanes = graph.nodes.values().flat_map(|node| node.lanes.iter().map(move |lane| (&node.id, lane)));
        lanes
            .filter_map(|(id, lane)| Some(format!("{} from {}", id.name, lane.inherit.as_ref()?.name)))
            .collect()
    };
    let inherit = "test: {lanes: [container], inherit: {lanes: [container]}}";
    let all = Source::sample().replace("images/hmi/image.yaml", "test: {lanes: [container]}", inherit);
    assert_eq!(heirs(&Source::sample()), [""; 0]);
    assert_eq!(heirs(&all), ["hmi/plant-b from hmi/plant-a"]);
    let site = "id: s-b\nvars: {plc: 10.0.0.2}\nimages: {hmi: {checks: [{id: more, unit: x.service}]}}\n\
                slots:\n- {id: a, image: hmi}\n- {id: b, image: gateway}\n";
    assert_eq!(heirs(&all.with("sites/plant-b/site.yaml", site)), [""; 0], "other checks");
}

#[test]
fn a_files_step_may_have_no_folder() {
    let steps = "- files: {delete: [etc/motd], directories: [var/lib/plant]}\n- files: files/";
    let source = Source::sample().replace("images/gateway/image.yaml", "- files: files/", steps);
    let graph = source.sound();
    let node = graph.nodes.values().find(|node| node.id.name.to_string() == "gateway/plant-a").unwrap();
    let step = node.path.iter().find(|step| step.title == "files images/gateway/image.yaml").unwrap();
    let PlannedStep::Files { listing, delete, .. } = &*step.work else { panic!("{step:?}") };
    assert_eq!((listing.len(), delete.as_slice()), (1, &["etc/motd".to_owned()][..]));
    let other = source.replace("images/gateway/image.yaml", "etc/motd", "etc/issue");
    let changed = after(&Source::sample(), &other);
    assert_eq!(changed.summary().build, 2, "{changed}");
}

#[test]
fn the_static_lane_has_checks_of_files_only() {
    let lanes = "test: {lanes: [static, container]}";
    let source = Source::sample().replace("images/hmi/image.yaml", "test: {lanes: [container]}", lanes);
    let sets = |source: &Source| {
        let graph = source.sound();
        let node =
            graph.nodes.values().find(|node| node.id.name.to_string() == "hmi/plant-a").unwrap().clone();
        let ids: Vec<String> = node.lanes[0].checks.iter().map(|check| check.id.to_string()).collect();
        (ids, node.lanes.iter().map(|lane| lane.check_set.clone()).collect::<Vec<_>>())
    };
    let (ids, before) = sets(&source);
    assert!(ids.len() == 9 && ids.iter().all(|id| id.starts_with("static.")), "{ids:?}");
    // A change of another check does not change the check set of the static lane.
    let (_, other) = sets(&source.clone().replace("images/hmi/image.yaml", "status: 200", "status: 204"));
    assert_eq!((before[0] == other[0], before[1] == other[1]), (true, false));
    let off = "- {id: static.kernel, off: a container}\n- {id: hmi-answers";
    let (ids, other) = sets(&source.replace("images/hmi/image.yaml", "- {id: hmi-answers", off));
    assert_eq!((ids.len(), before[0] == other[0], before[1] == other[1]), (8, false, true));
}

#[test]
fn secrets_that_every_user_can_read_are_warned_about() {
    const KEYFILE: &str = "etc/NetworkManager/system-connections/uplink.nmconnection";
    let at_site = format!("sites/plant-a/files/{KEYFILE}");
    let shown = |source: &Source| -> Vec<String> {
        let warnings = source.sound().warnings;
        warnings.into_iter().map(|it| format!("{}: {}", it.file.unwrap(), it.message)).collect()
    };
    let open = Source::sample().with(&at_site, "psk");
    let warning = format!(
        "{at_site}: every user of the image can read `/{KEYFILE}`: no mode is declared, so it has 0644 unless it replaces a file"
    );
    assert_eq!(shown(&open), std::slice::from_ref(&warning), "once, not for each image");
    assert_eq!(shown(&Source::sample().with(&format!("{at_site}.j2"), "psk")).len(), 1);
    let rules =
        |mode: &str| format!("files: {{modes: {{\"**/*.nmconnection\": \"{mode}\"}}}}\nlabels: {{region");
    let closed = open.clone().replace("sites/plant-a/site.yaml", "labels: {region", &rules("0600"));
    assert_eq!(shown(&closed), [""; 0]);
    let declared = open.clone().replace("sites/plant-a/site.yaml", "labels: {region", &rules("0644"));
    assert!(shown(&declared)[0].ends_with("mode 0644 is declared"), "{:?}", shown(&declared));
    // The file of the image has a mode, which the site's file takes over.
    let kept = open.with(&format!("images/base/files/{KEYFILE}"), "psk").replace(
        "images/base/image.yaml",
        "files: files/",
        "files: {path: files/, modes: {\"etc/N*/**\": \"0600\"}}",
    );
    assert_eq!(shown(&kept), [""; 0]);
    let back = kept.replace(
        "sites/plant-a/site.yaml",
        "labels: {region",
        &format!("files: {{delete: [\"{KEYFILE}\"]}}\nlabels: {{region"),
    );
    assert_eq!(shown(&back), [warning]);
    // Every base has one, with a mode of its own.
    assert_eq!(shown(&Source::sample().with("sites/plant-a/files/etc/shadow", "x")), [""; 0]);
}

#[test]
fn sites_and_slots_declare_modes_owners_and_directories() {
    let source = Source::sample()
        .replace("images/gateway/image.yaml", "per: site", "per: slot")
        .replace(
            "sites/plant-a/site.yaml",
            "labels: {region",
            "files: {owner: \"1:2\", modes: {\"etc/plant/*\": \"0600\"}}\nlabels: {region",
        )
        .replace(
            "sites/plant-a/site.yaml",
            "slots:",
            "images: {hmi: {files: {directories: [{path: var/lib/hmi, mode: \"0700\"}]}}}\nslots:",
        )
        .replace(
            "sites/plant-a/site.yaml",
            "image: gateway}",
            "image: gateway, files: {modes: {\"**\": \"0640\"}}}",
        )
        .with("sites/plant-a/slots/gw-1/files/etc/gw", "x");
    let graph = source.sound();
    let entries = |variant: &str| -> Vec<String> {
        let node = graph.variant(&variant.parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap();
        let overlays = node.path.iter().filter(|step| step.title.starts_with("files sites/"));
        overlays
            .flat_map(|step| {
                let PlannedStep::Files { listing, .. } = &*step.work else { panic!("{step:?}") };
                let show = |entry: &LayerEntry| {
                    let (LayerKind::File { mode, .. } | LayerKind::Directory { mode }) = entry.kind else {
                        panic!("{entry:?}")
                    };
                    let LayerEntry { path, owner, declared, .. } = entry;
                    let given = |is_given: bool| if is_given { "!" } else { "" };
                    format!(
                        "{path} {mode:o}{} {}:{}{}",
                        given(declared.mode),
                        owner.user,
                        owner.group,
                        given(declared.owner)
                    )
                };
                listing.entries().into_iter().map(show).collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(entries("hmi/plant-a"), ["etc/plant/site.conf 600! 1:2!", "var/lib/hmi 700! 0:0"]);
    assert_eq!(entries("gateway/plant-a/gw-1"), ["etc/plant/site.conf 600! 1:2!", "etc/gw 640! 0:0"]);
    assert_eq!(entries("hmi/plant-b"), ["etc/plant/site.conf 644 0:0", "etc/plc.conf 644 0:0"]);
    let plain = Source::sample().sound();
    assert_ne!(
        graph.variant(&"hmi/plant-a".parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap().key,
        plain.variant(&"hmi/plant-a".parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap().key
    );
}

#[test]
fn lanes_that_update_a_device_start_from_what_is_released() {
    let test =
        "test: {lanes: [upgrade, rollback, switch], switch: {from: gateway}, inherit: {lanes: [upgrade]}}";
    let source = Source::sample().replace("images/hmi/image.yaml", "test: {lanes: [container]}", test);
    let released = |variant: &VariantName| ManifestRef {
        repository: format!("plant-os/{variant}").parse().unwrap(),
        digest: Digest::of(format!("released {variant}")),
    };
    let lanes = |graph: &Graph, name: &str| -> Vec<String> {
        let node = graph.nodes.values().find(|node| node.id.name.to_string() == name).unwrap();
        let show = |lane: &LaneChecks| {
            let from = lane.from.as_ref().map_or("nothing".to_owned(), |from| from.repository.to_string());
            let heir = if lane.inherit.is_some() { ", inherited" } else { "" };
            format!("{} from {from}{heir}", lane.lane)
        };
        node.lanes.iter().map(show).collect()
    };
    let mut graph = source.sound();
    graph.compare_with(&BTreeMap::new(), |_, _| None);
    let nothing = ["upgrade from nothing, inherited", "rollback from nothing", "switch from nothing"];
    assert_eq!(lanes(&graph, "hmi/plant-b"), nothing);

    let mut graph = source.sound();
    graph.compare_with(&BTreeMap::new(), |variant, _| Some(released(variant)));
    let all = [
        "upgrade from plant-os/hmi/plant-b, inherited",
        "rollback from nothing",
        "switch from plant-os/gateway/plant-b",
    ];
    assert_eq!(lanes(&graph, "hmi/plant-b"), all);
    let node = graph.nodes.values().find(|node| node.id.name.to_string() == "hmi/plant-b").unwrap();
    let of_first = Digest::of("released hmi/plant-a");
    assert_eq!(node.lanes[0].as_inherited().from_digest(), Some(&of_first));
    let today = LaneInputs { profile: "device-uefi".to_owned(), ..LaneInputs::external() };
    let inputs = node.lanes[0].inputs(&today);
    assert_eq!(inputs.from, Some(Digest::of("released hmi/plant-b")));
    assert_ne!(inputs.digest(), node.lanes[0].as_inherited().inputs(&today).digest());

    // A variant whose digest is the released one has no device to update: it runs the other lanes.
    let mut graph = source.sound();
    let first = graph.nodes.values().find(|node| node.id.name.to_string() == "hmi/plant-a").unwrap();
    let builds = BTreeMap::from([(first.key.clone(), released(first.variant().unwrap()))]);
    graph.compare_with(&builds, |variant, _| Some(released(variant)));
    assert_eq!(
        lanes(&graph, "hmi/plant-a"),
        ["rollback from nothing", "switch from plant-os/gateway/plant-a"]
    );
    assert_eq!(
        lanes(&graph, "hmi/plant-b")[0],
        "upgrade from plant-os/hmi/plant-b",
        "no one to inherit from"
    );
}
