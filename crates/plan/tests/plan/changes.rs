//! `plan --explain`: what changed, entry by entry.

use std::fmt::Write as _;

use edgewright_model::names::Platform;
use edgewright_plan::explain::changes::{Change, changes};
use edgewright_plan::{Graph, Node};
use insta::assert_snapshot;

use crate::fixture::Source;

fn node<'a>(graph: &'a Graph, variant: &str) -> &'a Node {
    let platform: Platform = "linux/amd64".parse().unwrap();
    graph.variant(&variant.parse().unwrap(), &platform).unwrap()
}

fn line(Change { kind, name, old, new }: &Change) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    format!("  {kind:?} {name}: {} → {}\n", text(old), text(new))
}

/// What differs for a variant; steps that are the same are left out.
fn show(old: &Source, new: &Source, variant: &str) -> String {
    let (old, new) = (old.sound(), new.sound());
    let (base, steps) = changes(Some((&old, node(&old, variant))), (&new, node(&new, variant)));
    let mut text: String = base.iter().map(line).collect();
    for step in steps {
        let _ = writeln!(text, "{:?} {}", step.state, step.step.title);
        text.extend(step.changes.iter().map(line));
    }
    text
}

#[test]
fn entries_arguments_and_variables() {
    let old = Source::sample().with("images/hmi/src/gone", "x");
    let new = Source::sample()
        .replace("images/hmi/image.yaml", "CHANNEL: edge", "CHANNEL: stable, NEW: x")
        .with("images/hmi/src/hmi", "#!/bin/bash\n")
        .with("images/hmi/src/more", "x")
        .with("sites/plant-b/files/etc/plant/site.conf", "plant=B\n")
        .with("sites/plant-b/files/etc/plant/more.conf", "x\n")
        .replace("sites/plant-b/site.yaml", "10.2.0.5", "10.2.0.6");
    assert_snapshot!(show(&old, &new, "hmi/plant-b"), @r#"
    Same bootstrap trixie
    Same files images/base/files
    Changed containerfile images/hmi/Containerfile
      Argument CHANNEL: edge → stable
      Argument NEW: – → x
      Entry images/hmi/src/gone: file, 1 byte, 2d711642b726 → –
      Entry images/hmi/src/hmi: 10 bytes, a8076d3d28d2 → 12 bytes, b875f928546a
      Entry images/hmi/src/more: – → file, 1 byte, 2d711642b726
    Follows files images/hmi/files
    Changed files sites/plant-b/files
      Entry /etc/plant/more.conf: – → mode 0644, 2 bytes, 73cb3858a687, owner 0:0
      Entry /etc/plant/site.conf: 1ce33973470b → e51db1002691
    Changed files sites/plant-b/images/hmi/files
      Entry /etc/plc.conf: rendered c6766d4a72f3 → rendered 30fb040d7ea3
      Variable plc: "10.2.0.5" → "10.2.0.6"
    "#);
    // Steps before the change are the same; steps after it follow.
    assert_snapshot!(show(&old, &new, "gateway/plant-b"), @r#"
    Same bootstrap trixie
    Same files images/base/files
    Same files images/gateway/files
    Changed files sites/plant-b/files
      Entry /etc/plant/more.conf: – → mode 0644, 2 bytes, 73cb3858a687, owner 0:0
      Entry /etc/plant/site.conf: 1ce33973470b → e51db1002691
    "#);
}

#[test]
fn packages_and_locks() {
    let moved = Source { systemd: Some("257.2".to_owned()), ..Source::sample() };
    assert_snapshot!(show(&Source::sample(), &moved, "base"), @r#"
    Changed bootstrap trixie
      LockedPackage systemd:amd64: 257.1 → 257.2
    Follows files images/base/files
    "#);
    let asked = Source::sample().replace("images/base/image.yaml", "trixie", "forky").replace(
        "images/base/image.yaml",
        "systemd, ",
        "systemd, dracut, ",
    );
    assert_snapshot!(show(&Source::sample(), &asked, "gateway/plant-a"), @r#"
    Changed bootstrap forky
      Setting suite: trixie → forky
      Package dracut: – → requested
    Follows files images/base/files
    Follows files images/gateway/files
    Follows files sites/plant-a/files
    "#);
}

#[test]
fn steps_come_and_go() {
    let new = Source::sample()
        .replace(
            "images/hmi/image.yaml",
            "- containerfile: {file: Containerfile, args: {CHANNEL: edge}}\n",
            "",
        )
        .with("sites/plant-a/images/hmi/files/etc/new", "x");
    assert_snapshot!(show(&Source::sample(), &new, "hmi/plant-a"), @r#"
    Same bootstrap trixie
    Same files images/base/files
    Follows files images/hmi/files
    Follows files sites/plant-a/files
    New files sites/plant-a/images/hmi/files
      Entry /etc/new: – → mode 0644, 1 byte, 2d711642b726, owner 0:0
    Removed containerfile images/hmi/Containerfile
      Containerfile images/hmi/Containerfile: 4 lines, 55a1389502bb → –
      Argument CHANNEL: edge → –
      Entry images/hmi/.containerignore: file, 11 bytes, 2f8a4e3c494e → –
      Entry images/hmi/src/hmi: file, 10 bytes, a8076d3d28d2 → –
    "#);
}

#[test]
fn labels_are_part_of_the_key_from_the_image_that_has_them_on() {
    let labelled = |value: &str| {
        let labels = format!("from: base\nlabels: {{org.example.team: {value}}}\n");
        Source::sample().replace("images/hmi/image.yaml", "from: base\n", &labels)
    };
    assert_snapshot!(show(&Source::sample(), &labelled("ot"), "hmi/plant-a"), @r#"
    Same bootstrap trixie
    Same files images/base/files
    Changed containerfile images/hmi/Containerfile
      Label org.example.team: – → ot
    Follows files images/hmi/files
    Follows files sites/plant-a/files
    "#);
    let (one, other) = (labelled("ot").sound(), labelled("it").sound());
    assert_ne!(node(&one, "hmi/plant-a").key, node(&other, "hmi/plant-a").key);
    for unaffected in ["base", "gateway/plant-a"] {
        assert_eq!(node(&one, unaffected).key, node(&other, unaffected).key);
    }
    assert_eq!(node(&one, "hmi/plant-a").labels["org.example.team"], "ot");
    assert!(node(&one, "base").labels.is_empty());
    // One step for both sites: labels do not keep variants from sharing.
    assert_eq!(one.nodes.keys().filter(|id| id.name.variant().is_none()).count(), 2);
}

#[test]
fn nothing_before_makes_every_step_new() {
    let graph = Source::sample().sound();
    let (base, steps) = changes(None, (&graph, node(&graph, "hmi/plant-a")));
    assert!(base.is_empty());
    assert!(steps.iter().all(|step| format!("{:?}", step.state) == "New" && !step.changes.is_empty()));
}

#[test]
fn tools_count_for_the_steps_that_they_execute() {
    let old = Source::sample().with_tool("buildah", "1.38.1").with_tool("crun", "1.21");
    let buildah = old.clone().with_tool("buildah", "1.39.3");
    assert_snapshot!(show(&old, &buildah, "hmi/plant-b"), @r#"
    Same bootstrap trixie
    Same files images/base/files
    Changed containerfile images/hmi/Containerfile
      Tool buildah: 1.38.1 → 1.39.3
    Follows files images/hmi/files
    Follows files sites/plant-b/files
    Follows files sites/plant-b/images/hmi/files
    "#);
    let newer = old.clone().with_tool("mmdebstrap", "1.5.6");
    assert_snapshot!(show(&old, &newer, "gateway/plant-b"), @r#"
    Changed bootstrap trixie
      Tool mmdebstrap: – → 1.5.6
    Follows files images/base/files
    Follows files images/gateway/files
    Follows files sites/plant-b/files
    "#);
    let key = |source: &Source, variant| node(&source.sound(), variant).key.clone();
    assert_eq!(key(&old, "gateway/plant-b"), key(&buildah, "gateway/plant-b"), "it has no Containerfile");
    assert_eq!(key(&old, "hmi/plant-b"), key(&old.with_tool("crun", "1.22"), "hmi/plant-b"));
}
