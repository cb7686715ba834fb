//! A good repository that covers the whole format, and what follows from it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;

use edgewright_model::format::parse;
use edgewright_model::names::VariantName;
use edgewright_model::resolve;
use edgewright_model::spec::{
    Assertion, CheckEntry, Definition, DirectorySpec, Follows, From, Lane, Owner, Per, ProcessMatch,
    SecretRef, Step, Value,
};
use edgewright_model::tree::TreePath;

const GOOD: &str = include_str!("good.txt");

fn good() -> Definition {
    let parsed = parse(&common::tree(GOOD));
    assert_eq!(common::errors(&parsed), "");
    parsed.definition.unwrap()
}

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

fn variant(text: &str) -> VariantName {
    text.parse().unwrap()
}

#[test]
fn a_source_is_read() {
    let definition = good();
    let source = &definition.source;
    assert_eq!(source.name.as_str(), "plant-os");
    assert_eq!(
        source.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm64"]
    );
    assert_eq!(source.groups[0].select.len(), 1);
    let prod = &source.channels[&"prod".parse().unwrap()];
    assert_eq!(prod.follows, Follows::Channel("dev".parse().unwrap()));
    assert_eq!(prod.after.unwrap().to_string(), "7d");
    assert_eq!(source.channels[&"edge".parse().unwrap()].follows, Follows::DefaultBranch);
    let stages = &source.rollouts[&"careful".parse().unwrap()].stages;
    assert_eq!((stages[1].percent, stages[3].percent), (Some(10), None));
    assert_eq!((stages[1].ended, stages[2].per_site, stages[2].approval), (Some(90), Some(1), true));
    let careful = &source.rollouts[&"careful".parse().unwrap()];
    assert_eq!(careful.windows[0].from.to_string(), "22:00:00");
    assert_eq!(careful.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!((careful.in_flight, careful.unavailable), (Some(20), Some(2)));
    assert_eq!(careful.rate.as_ref().unwrap().devices, 100);
    assert_eq!(definition.exceptions[0].until.to_string(), "2027-03-31");
}

#[test]
fn images_and_their_steps_are_read() {
    let definition = good();
    let base = &definition.images[&"base".parse().unwrap()];
    assert_eq!((&base.from, base.per), (&From::Scratch, Per::Image));
    let Step::Bootstrap(bootstrap) = &base.steps[0] else { panic!("{:?}", base.steps) };
    assert_eq!(bootstrap.suite, "trixie");
    assert_eq!(bootstrap.components, ["main", "contrib"]);
    assert_eq!(bootstrap.keys[0].as_str(), "images/base/keys/vendor.gpg");
    let CheckEntry::On(check) = &base.checks[1] else { panic!("{:?}", base.checks) };
    assert_eq!(check.assert, Assertion::Systemd { allow_failed: vec!["quota.service".to_owned()] });
    assert_eq!(base.lock.as_ref().unwrap().version, 1);

    let hmi = &definition.images[&"hmi".parse().unwrap()];
    let Step::Containerfile(step) = &hmi.steps[0] else { panic!("{:?}", hmi.steps) };
    assert_eq!(
        (step.file.as_str(), step.context.as_str()),
        ("images/hmi/service/Containerfile", "images/hmi/service")
    );
    assert_eq!(step.args["CHANNEL"], "edge");
    assert_eq!(step.secrets, [SecretRef { id: "npm".to_owned(), version: "3".to_owned() }]);
    let Step::Files(step) = &hmi.steps[1] else { panic!("{:?}", hmi.steps) };
    let rules = &step.rules;
    assert_eq!(rules.modes, [("usr/bin/*".to_owned(), 0o755), ("etc/x".to_owned(), 0o600)]);
    let hmi_owner = Some(Owner { user: 1000, group: 0 });
    assert_eq!((rules.owner, rules.delete[0].as_str()), (hmi_owner, "etc/motd"));
    let directory = |text: &str, mode, owner| DirectorySpec { path: path(text), mode, owner };
    assert_eq!(
        rules.directories,
        [
            directory("var/lib/hmi", None, hmi_owner),
            directory("srv/data", Some(0o750), Some(Owner { user: 7, group: 8 }))
        ]
    );
    let xattrs = &rules.xattrs[&path("etc/x")];
    assert_eq!(
        (&xattrs["user.origin"][..], &xattrs["security.capability"][..]),
        (&b"plant"[..], &[1, 0, 255][..])
    );
    assert_eq!(rules.hard_links[&path("etc/y")], path("etc/x"));
    assert_eq!(hmi.test.inherit.as_ref().unwrap().lanes, BTreeSet::from([Lane::Vm, Lane::Upgrade]));
    let vendor = &definition.images[&"vendor".parse().unwrap()];
    assert!(matches!(&vendor.from, From::External(it) if it.to_string() == "quay.io/fedora/fedora-bootc:42"));
    assert!(vendor.test.lanes.is_empty());
}

#[test]
fn checks_are_read() {
    let definition = good();
    let vendor = &definition.images[&"vendor".parse().unwrap()];
    let asserts: Vec<&Assertion> = vendor
        .checks
        .iter()
        .map(|entry| match entry {
            CheckEntry::On(check) => &check.assert,
            CheckEntry::Off { .. } => panic!("{entry:?}"),
        })
        .collect();
    let text = |text: &str| Some(text.to_owned());
    let process = |which, user, count| Assertion::Process { which, user, count };
    let package = |name: &str, version| Assertion::Package { name: name.to_owned(), version };
    let karg = |name: &str, value| Assertion::Karg { name: name.to_owned(), value };
    let mount = |path: &str, fstype, options: &[&str]| Assertion::Mount {
        path: path.to_owned(),
        fstype,
        options: options.iter().map(ToString::to_string).collect(),
    };
    let want = [
        process(ProcessMatch::Name("chronyd".to_owned()), None, 1),
        process(ProcessMatch::Command("worker --all".to_owned()), text("www-data"), 2),
        package("chrony", None),
        package("linux-image-amd64", text("6.12*")),
        mount("/var", None, &[]),
        mount("/tmp", text("tmpfs"), &["nosuid", "nodev"]),
        karg("quiet", None),
        karg("console", text("ttyS0,115200")),
        karg("root", text("/dev/vda1")),
        Assertion::Script {
            path: path("images/vendor/checks/smoke.sh"),
            content: "#!/bin/sh\nexit 0\n".to_owned(),
        },
        Assertion::Greenboot,
    ];
    assert_eq!(asserts, want.iter().collect::<Vec<_>>());
}

#[test]
fn variants_follow_slots_and_where() {
    let definition = good();
    let names: Vec<String> = resolve::variants(&definition).iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["base", "cell/plant-b/cell-1", "cell/plant-b/cell-2", "hmi/plant-a", "hmi/plant-b", "vendor"]
    );
    let parent = |name: &str| resolve::parent(&definition, &variant(name)).map(|it| it.to_string());
    assert_eq!(parent("cell/plant-b/cell-1").as_deref(), Some("hmi/plant-b"));
    assert_eq!(parent("hmi/plant-b").as_deref(), Some("base"));
    assert_eq!(parent("base"), None);
    assert_eq!(parent("vendor"), None);
}

#[test]
fn variables_come_from_the_nearest_layer() {
    let definition = good();
    let shown = |name: &str| {
        let vars = resolve::vars(&definition, &variant(name)).unwrap();
        let line = |(name, var): (_, resolve::ResolvedVar)| {
            let value = match var.value {
                Value::String(text) => text,
                other => format!("{other:?}"),
            };
            format!("{name}={value} ({})", var.origin)
        };
        vars.into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        shown("hmi/plant-a"),
        [
            "brand=blue (images.hmi.vars of sites/plant-a/site.yaml)",
            "ntp=10.1.0.1 (group `emea` of edgewright.yaml)",
            "plc=10.20.0.5 (vars of sites/plant-a/site.yaml)",
        ]
    );
    assert_eq!(
        shown("cell/plant-b/cell-2"),
        [
            "axis=Integer(7) (slot `cell-2` of sites/plant-b/site.yaml)",
            "brand=plain (default of images/hmi/image.yaml)",
            "ntp=pool.example.org (vars of edgewright.yaml)",
            "plc=10.30.0.5 (vars of sites/plant-b/site.yaml)",
        ]
    );
    let error = resolve::vars(&definition, &variant("hmi/nowhere")).unwrap_err();
    assert_eq!(error.to_string(), "there is no variant `hmi/nowhere`: there is no site `nowhere`");
    let error = resolve::vars(&definition, &variant("hmi")).unwrap_err();
    assert_eq!(error.to_string(), "there is no variant `hmi`: image `hmi` is one per site: write IMAGE/SITE");
}

#[test]
fn checks_come_from_the_line_and_the_site() {
    let definition = good();
    let ids = |name: &str| {
        let checks = resolve::checks(&definition, &variant(name));
        let of_sources = checks.iter().filter(|check| !check.id.as_str().starts_with("static."));
        of_sources.map(|check| format!("{} {}", check.id, check.within)).collect::<Vec<_>>()
    };
    assert_eq!(ids("base"), ["shell 30s", "system-up 1m", "answers 30s"]);
    // `answers` is replaced in its place, `shell` is off, the site adds its own.
    assert_eq!(ids("hmi/plant-b"), ["system-up 1m", "answers 2m", "clock 30s", "config 30s", "port 30s"]);
    assert_eq!(
        ids("hmi/plant-a"),
        ["system-up 1m", "answers 2m", "clock 30s", "config 30s", "port 30s", "notice 30s"]
    );
}

#[test]
fn the_static_lane_brings_checks_that_can_be_off() {
    let parsed = common::read(
        "== edgewright.yaml\nedgewright: 1\nname: s\n\
         == images/a/image.yaml\nfrom: example.org/a:1\ntest: {lanes: [static]}\n\
         checks: [{id: budget, size: {unpacked: 2048MiB}}, {id: static.kernel, off: a container}]\n\
         == images/b/image.yaml\nfrom: a\n",
    );
    assert_eq!(common::errors(&parsed), "");
    let definition = parsed.definition.unwrap();
    let ids = |name: &str| {
        let checks = resolve::checks(&definition, &variant(name));
        checks.iter().map(|check| check.id.to_string()).collect::<Vec<_>>()
    };
    let rules = [
        "static.secrets",
        "static.machine-id",
        "static.usr-merge",
        "static.whiteouts",
        "static.architecture",
        "static.units",
        "static.bound-images",
        "static.bootc-lint",
    ];
    assert_eq!(ids("a"), [&rules[..], &["budget"]].concat());
    assert_eq!(ids("b"), ["budget"], "an image has the rules of its own lanes");
    let budget = resolve::checks(&definition, &variant("a")).pop().unwrap();
    assert_eq!(budget.lanes, Some(BTreeSet::from([Lane::Static])));
    let json = serde_json::to_string(&budget.assert).unwrap();
    assert_eq!(json, r#"{"kind":"size","unpacked":"2GiB"}"#);
    assert_eq!(serde_json::from_str::<Assertion>(&json).unwrap(), budget.assert);
}
