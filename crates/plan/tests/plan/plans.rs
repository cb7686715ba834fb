//! Transcripts: the plan for a change of the sample, with reasons.

use edgewright_model::format::parse;
use edgewright_model::order::ManifestRef;
use edgewright_model::verdict::LaneInputs;
use edgewright_plan::plan::Start;
use edgewright_plan::{Action, Graph, History, Plan, graph, plan};
use insta::assert_snapshot;

use crate::fixture::{Source, after, show};

fn change(new: &Source) -> String {
    show(&after(&Source::sample(), new))
}

#[test]
fn a_first_plan_builds_everything() {
    let graph = Source::sample().sound();
    let plan = plan(&graph, &History::default(), None);
    assert_snapshot!(show(&plan), @r#"
    builds 5 of 5 variants, because new variant
    build base: new variant
    build gateway/plant-a after gateway~: new variant
    build gateway/plant-b after gateway~: new variant
    build hmi/plant-a after hmi~: new variant
    build hmi/plant-b after hmi~: new variant
    build gateway~ after base: shared by 2 variants, such as gateway/plant-a
    build hmi~ after base: shared by 2 variants, such as hmi/plant-a
    "#);
    let order: Vec<String> = plan.order().iter().map(|node| node.id.name.to_string()).collect();
    assert_eq!(order.len(), 7);
    assert_eq!(order[0], "base");
}

#[test]
fn nothing_changed() {
    assert_snapshot!(change(&Source::sample()), @"builds 0 of 5 variants");
}

#[test]
fn one_file_of_one_site() {
    let new = Source::sample().with("sites/plant-a/files/etc/plant/site.conf", "plant=A\n");
    assert_snapshot!(change(&new), @r#"
    builds 2 of 5 variants, because files sites/plant-a/files changed: etc/plant/site.conf
    build gateway/plant-a: files sites/plant-a/files changed: etc/plant/site.conf
    build hmi/plant-a: files sites/plant-a/files changed: etc/plant/site.conf
    "#);
}

#[test]
fn a_containerfile_and_its_context() {
    let new = Source::sample()
        .replace("images/hmi/Containerfile", "COPY", "RUN true\nCOPY")
        .with("images/hmi/src/more", "x");
    assert_snapshot!(change(&new), @r#"
    builds 2 of 5 variants, because Containerfile images/hmi/Containerfile changed
    build hmi/plant-a after hmi~: Containerfile images/hmi/Containerfile changed; build context images/hmi changed: src/more
    build hmi/plant-b after hmi~: Containerfile images/hmi/Containerfile changed; build context images/hmi changed: src/more
    build hmi~: shared by 2 variants, such as hmi/plant-a
    "#);
}

#[test]
fn build_arguments() {
    let new = Source::sample().replace("images/hmi/image.yaml", "CHANNEL: edge", "CHANNEL: stable");
    assert_snapshot!(change(&new), @r#"
    builds 2 of 5 variants, because build argument CHANNEL changed
    build hmi/plant-a after hmi~: build argument CHANNEL changed
    build hmi/plant-b after hmi~: build argument CHANNEL changed
    build hmi~: shared by 2 variants, such as hmi/plant-a
    "#);
}

#[test]
fn packages_and_locks() {
    let packages = Source::sample().replace(
        "images/base/image.yaml",
        "linux-image-cloud-amd64",
        "linux-image-amd64, nginx",
    );
    assert_snapshot!(change(&packages), @r#"
    builds 5 of 5 variants, because package list changed: +linux-image-amd64, -linux-image-cloud-amd64, +nginx
    build base: package list changed: +linux-image-amd64, -linux-image-cloud-amd64, +nginx
    build gateway/plant-a after gateway~: parent base changes
    build gateway/plant-b after gateway~: parent base changes
    build hmi/plant-a after hmi~: parent base changes
    build hmi/plant-b after hmi~: parent base changes
    build gateway~ after base: shared by 2 variants, such as gateway/plant-a
    build hmi~ after base: shared by 2 variants, such as hmi/plant-a
    "#);
    let moved = Source { systemd: Some("257.2".to_owned()), ..Source::sample() };
    assert_snapshot!(change(&moved), @r#"
    builds 5 of 5 variants, because lock moved: systemd 257.1 → 257.2
    build base: lock moved: systemd 257.1 → 257.2
    build gateway/plant-a after gateway~: parent base changes
    build gateway/plant-b after gateway~: parent base changes
    build hmi/plant-a after hmi~: parent base changes
    build hmi/plant-b after hmi~: parent base changes
    build gateway~ after base: shared by 2 variants, such as gateway/plant-a
    build hmi~ after base: shared by 2 variants, such as hmi/plant-a
    "#);
    let unresolved = Source { systemd: None, ..Source::sample() };
    assert_snapshot!(change(&unresolved), @r#"
    builds 5 of 5 variants, because lock of base not resolved yet (the run pins its versions)
    build base: lock of base not resolved yet (the run pins its versions)
    build gateway/plant-a after gateway~: lock of base not resolved yet (the run pins its versions); parent base changes
    build gateway/plant-b after gateway~: lock of base not resolved yet (the run pins its versions); parent base changes
    build hmi/plant-a after hmi~: lock of base not resolved yet (the run pins its versions); parent base changes
    build hmi/plant-b after hmi~: lock of base not resolved yet (the run pins its versions); parent base changes
    build gateway~ after base: lock of base not resolved yet (the run pins its versions); shared by 2 variants, such as gateway/plant-a
    build hmi~ after base: lock of base not resolved yet (the run pins its versions); shared by 2 variants, such as hmi/plant-a
    "#);
}

#[test]
fn variables() {
    let new = Source::sample().replace("edgewright.yaml", "pool.example.org", "ntp.example.org");
    assert_snapshot!(change(&new), @r#"
    builds 2 of 5 variants, because variable ntp changed
    build gateway/plant-a after gateway~: variable ntp changed
    build gateway/plant-b after gateway~: variable ntp changed
    build gateway~: shared by 2 variants, such as gateway/plant-a
    "#);
}

#[test]
fn checks_are_tested_again_without_a_build() {
    let new = Source::sample().replace("images/hmi/image.yaml", "status: 200", "status: 204");
    assert_snapshot!(change(&new), @r#"
    builds 0 of 5 variants, tests 2, because checks changed: hmi-answers
    test hmi/plant-a: checks changed: hmi-answers
    test hmi/plant-b: checks changed: hmi-answers
    "#);
}

#[test]
fn steps_come_and_go() {
    let new = Source::sample()
        .without("sites/plant-a/files/etc/plant/site.conf")
        .with("sites/plant-a/images/hmi/files/etc/x", "x");
    assert_snapshot!(change(&new), @r#"
    builds 1 of 5 variants, tests 1, because step added: files sites/plant-a/images/hmi/files; step removed: files sites/plant-a/files
    test gateway/plant-a: step removed: files sites/plant-a/files
    build hmi/plant-a: step added: files sites/plant-a/images/hmi/files; step removed: files sites/plant-a/files
    "#);
}

#[test]
fn variants_come_and_go() {
    let new = Source::sample()
        .replace("sites/plant-a/site.yaml", "- {id: gw-1, image: gateway}\n", "")
        .with("sites/plant-c/site.yaml", "id: s-c\nslots:\n- {id: gw-1, image: gateway}\n");
    assert_snapshot!(change(&new), @r#"
    builds 0 of 5 variants, tests 1, retires 1, because new variant
    retire gateway/plant-a: no longer declared
    test gateway/plant-c: new variant
    "#);
}

#[test]
fn variants_of_broken_definitions_are_kept() {
    let image = Source::sample().with("images/hmi/image.yaml", "from: [\n");
    assert_snapshot!(change(&image), @r#"
    builds 0 of 5 variants, cannot build 2
    blocked hmi/plant-a: image hmi has errors
    blocked hmi/plant-b: image hmi has errors
    "#);
    let site = Source::sample().with("sites/plant-b/site.yaml", "id: [\n");
    assert_snapshot!(change(&site), @r#"
    builds 0 of 5 variants, cannot build 2
    blocked gateway/plant-b: site plant-b has errors
    blocked hmi/plant-b: site plant-b has errors
    "#);
    let base = Source::sample().with("images/base/image.yaml", "nonsense: 1\n");
    assert_snapshot!(change(&base), @r#"
    builds 0 of 5 variants, cannot build 5
    blocked base: image base has errors
    blocked gateway/plant-a: image `base` has errors
    blocked gateway/plant-b: image `base` has errors
    blocked hmi/plant-a: image `base` has errors
    blocked hmi/plant-b: image `base` has errors
    "#);
}

/// A history that knows the whole graph except for one variant's own build.
fn lost(graph: &Graph, variant: &str) -> History {
    let mut history = History::as_if_built(graph);
    let node = graph.variant(&variant.parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap();
    history.builds.remove(&node.key).unwrap();
    history
}

fn action<'a>(plan: &'a Plan, variant: &str) -> &'a Action {
    let node = plan.nodes.values().find(|node| node.id.name.to_string() == variant).unwrap();
    &node.action
}

#[test]
fn builds_start_from_the_longest_known_prefix() {
    let graph = Source::sample().sound();
    let plan = plan(&graph, &lost(&graph, "hmi/plant-b"), Some(&graph));
    let Action::Build { start: Start::Known { .. }, steps } = action(&plan, "hmi/plant-b") else {
        panic!("{plan:?}")
    };
    // Site files were known: only site × image files are left.
    let titles: Vec<&str> = steps.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(titles, ["files sites/plant-b/images/hmi/files"]);
    assert_snapshot!(show(&plan), @r#"
    builds 1 of 5 variants, because never built
    build hmi/plant-b: never built
    "#);
}

#[test]
fn a_build_without_a_release_is_tested_again() {
    let graph = Source::sample().sound();
    let id = graph.nodes.keys().find(|id| id.name.to_string() == "hmi/plant-b").unwrap();
    let mut history = History::as_if_built(&graph);
    history.variants.remove(&"hmi/plant-b".parse().unwrap());
    let node = &graph.nodes[id];
    history.passed.remove(&history.verdict_key(&node.key, &node.lanes[0]).unwrap());
    assert_snapshot!(show(&plan(&graph, &history, Some(&graph))), @r#"
    builds 0 of 5 variants, tests 1, because built before, but not passed yet
    test hmi/plant-b: built before, but not passed yet
    "#);
}

#[test]
fn known_bad_input_is_not_built_again() {
    let graph = Source::sample().sound();
    let node = |name: &str| graph.variant(&name.parse().unwrap(), &"linux/amd64".parse().unwrap()).unwrap();
    let mut history = lost(&graph, "hmi/plant-b");
    history.failed_builds.insert(node("hmi/plant-b").key.clone(), "it broke".to_owned());
    let gateway = node("gateway/plant-a");
    let verdict = history.verdict_key(&gateway.key, &gateway.lanes[0]).unwrap();
    history.passed.remove(&verdict);
    history.failed.insert(verdict, "no answer".to_owned());
    assert_snapshot!(show(&plan(&graph, &history, Some(&graph))), @r#"
    builds 0 of 5 variants, skips 2 known bad
    failed gateway/plant-a: lane container failed before with the same input: no answer
    failed hmi/plant-b: files sites/plant-b/images/hmi/files failed before with the same input: it broke
    "#);

    // A base that is known bad blocks all descendants that would have to be built.
    let mut history = History::default();
    history.failed_builds.insert(node("base").path[0].key.clone(), "no such package".to_owned());
    assert_snapshot!(show(&plan(&graph, &history, None)), @r#"
    builds 0 of 5 variants, cannot build 4, skips 1 known bad
    failed base: bootstrap trixie failed before with the same input: no such package
    blocked gateway/plant-a: parent base is known bad
    blocked gateway/plant-b: parent base is known bad
    blocked hmi/plant-a: parent base is known bad
    blocked hmi/plant-b: parent base is known bad
    "#);
}

#[test]
fn other_lane_inputs_run_the_lane_again() {
    let graph = Source::sample().sound();
    let built = History::as_if_built(&graph);
    let with = |change: fn(&mut LaneInputs)| {
        let mut history = built.clone();
        history.lane_inputs.values_mut().for_each(change);
        plan(&graph, &history, Some(&graph))
    };
    let tested =
        |plan: &Plan| plan.nodes.values().filter(|node| matches!(node.action, Action::Test { .. })).count();
    assert_eq!(tested(&with(|_| {})), 0);
    // What a lane updates from is known by the graph: see `lanes_that_update`.
    let changes: [fn(&mut LaneInputs); 2] =
        [|inputs| inputs.semantics += 1, |inputs| inputs.profile = "vm-uefi".to_owned()];
    for change in changes {
        let plan = with(change);
        assert_eq!(tested(&plan), graph.variants().len());
        assert!(action(&plan, "hmi/plant-a").is_work());
    }
    let mut without_executor = built;
    without_executor.lane_inputs.clear();
    assert_eq!(tested(&plan(&graph, &without_executor, Some(&graph))), graph.variants().len());
}

#[test]
fn a_result_from_another_repository_is_reused() {
    let graph = Source::sample().sound();
    let mut history = History::as_if_built(&graph);
    for manifest in history.builds.values_mut() {
        *manifest = ManifestRef { repository: "elsewhere".parse().unwrap(), ..manifest.clone() };
    }
    let plan = plan(&graph, &history, None);
    assert!(plan.nodes.values().all(|node| matches!(&node.action, Action::Reuse { manifest } if manifest.repository.as_str() == "elsewhere")));
}

#[test]
fn json_is_a_list_of_rows() {
    let new = Source::sample().with("sites/plant-a/files/etc/plant/site.conf", "plant=A\n");
    let rows = serde_json::to_value(after(&Source::sample(), &new)).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["node"] == "hmi/plant-a").unwrap();
    insta::assert_json_snapshot!(row, { ".key" => "…", ".after[]" => "…" }, @r#"
    {
      "action": "build",
      "after": [],
      "key": "…",
      "kind": "variant",
      "node": "hmi/plant-a",
      "platform": "linux/amd64",
      "reason": "files sites/plant-a/files changed: etc/plant/site.conf",
      "reasons": [
        {
          "folder": "sites/plant-a/files",
          "kind": "files_changed",
          "paths": [
            "etc/plant/site.conf"
          ]
        }
      ],
      "steps": 1
    }
    "#);
}

#[test]
fn a_site_whose_folder_is_renamed_keeps_its_images() {
    let rename = |source: Source, from: &str, to: &str| {
        let (from, to) = (format!("sites/{from}/"), format!("sites/{to}/"));
        let moved = |(path, text): (String, String)| (path.replace(&from, &to), text);
        Source { files: source.files.into_iter().map(moved).collect(), ..source }
    };
    let old = Source::sample().with("sites/plant-b/files/etc/name.j2", "{{ site.name }}");
    let known = parse(&old.tree()).definition.unwrap().site_names();
    let named = |source: &Source| {
        let tree = source.tree();
        let mut definition = parse(&tree).definition.unwrap();
        let faults: Vec<String> = definition
            .name_sites(&known)
            .into_iter()
            .map(|it| format!("{}: {}", it.file.unwrap(), it.message))
            .collect();
        let graph = graph(&definition, &tree, &source.locks(&definition));
        (plan(&graph, &History::as_if_built(&old.sound()), None), faults, graph.broken_sites)
    };
    let nothing = show(&after(&old, &old));
    let renamed = rename(old.clone(), "plant-b", "plant-x");
    let (plan, faults, _) = named(&renamed);
    assert_eq!((show(&plan), faults), (nothing.clone(), Vec::new()));
    // Two sites may even change folders.
    let swapped = rename(rename(renamed.clone(), "plant-a", "plant-b"), "plant-x", "plant-a");
    assert_eq!((show(&named(&swapped).0), named(&swapped).1), (nothing.clone(), Vec::new()));
    // The name of a known site is taken.
    let site = "id: s-c\nvars: {plc: \"1\"}\nslots: [{id: one, image: hmi}]\n";
    let (plan, faults, _) = named(&renamed.clone().with("sites/plant-b/site.yaml", site));
    assert_eq!(show(&plan), nothing);
    assert_eq!(
        faults,
        [
            "sites/plant-b/site.yaml: the name `plant-b` is taken: the site in sites/plant-x (id `s-b`) has it for its images since its folder had this name"
        ]
    );
    let (plan, _, broken) = named(&renamed.clone().with("sites/plant-b/site.yaml", "id: ["));
    assert_eq!((show(&plan), broken.len()), (nothing, 0), "errors of one site break no other");
    // A renamed folder with errors may be any site, so none is retired.
    let (plan, _, broken) = named(&renamed.with("sites/plant-x/site.yaml", "id: ["));
    assert!(!show(&plan).contains("retire"), "{}", show(&plan));
    assert!(broken.contains(&"plant-b".parse().unwrap()), "{broken:?}");
    // A new id is a new site.
    let new = Source::sample().replace("sites/plant-b/site.yaml", "s-b", "s-new");
    assert_eq!(named(&new).1, Vec::<String>::new());
}
