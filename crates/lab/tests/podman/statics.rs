//! The static lane on a real system's layers; `bootc container lint` with a substitute, because Debian has no
//! bootc.

use std::sync::Arc;

use edgewright_model::order::{LaneOrder, check_set_digest};
use edgewright_model::outcome::FailureKind;
use edgewright_model::spec::{Check, Lane, static_checks};
use edgewright_model::verdict::{CheckOutcome, LaneResult, Verdict};

use crate::cases::WANTS;
use crate::world::{ImageFile, World, order};
use crate::{failure, list};

list! {
    a_bootable_image_passes_the_static_lane
    the_static_lane_finds_secrets_and_shared_ids
    a_budget_names_the_largest_layers
    bootc_lints_its_own_image
}

/// What makes the system look like a bootable container.
const KERNEL: [ImageFile<'_>; 3] = [
    ("usr/lib/modules/6.12/vmlinuz", 0o644, "kernel"),
    ("usr/lib/modules/6.12/initramfs.img", 0o644, "initramfs"),
    ("etc/machine-id", 0o444, "uninitialized\n"),
];

fn statics(more: &str) -> LaneOrder {
    let more: Vec<Check> = serde_json::from_str(&format!("[{more}]")).expect("checks as JSON");
    let checks = [static_checks(), more].concat();
    LaneOrder { lane: Lane::Static, check_set: check_set_digest(&checks), checks, ..order("") }
}

fn outcome<'a>(verdict: &'a Verdict, id: &str) -> &'a CheckOutcome {
    let check = verdict.checks.iter().find(|check| check.id.as_str() == id);
    &check.unwrap_or_else(|| panic!("no check `{id}` in {verdict:?}")).outcome
}

fn message<'a>(verdict: &'a Verdict, id: &str) -> &'a str {
    match outcome(verdict, id) {
        CheckOutcome::Failed { kind: FailureKind::Image, message, .. } => message,
        other => panic!("{id}: {other:?}"),
    }
}

async fn a_bootable_image_passes_the_static_lane(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &KERNEL);
    let verdict = world.run_order(&image, &statics("")).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{verdict:?}");
    let skipped = CheckOutcome::Skipped { reason: "there is no /usr/bin/bootc in the image".to_owned() };
    assert_eq!(outcome(&verdict, "static.bootc-lint"), &skipped);
    let passed = verdict.checks.iter().filter(|check| check.outcome == CheckOutcome::Passed).count();
    assert_eq!((passed, verdict.checks.len()), (8, 9));
}

async fn the_static_lane_finds_secrets_and_shared_ids(world: Arc<World>) {
    let wants = format!("{WANTS}/gone.service");
    let image = world.image(
        &["/sbin/init"],
        &[
            ("usr/lib/modules/6.12/vmlinuz", 0o644, "kernel"),
            ("etc/machine-id", 0o444, "b08dfa6083e7567a1921a715000001fb\n"),
            ("etc/ssl/private/plant.key", 0o600, "-----BEGIN PRIVATE KEY-----\n"),
            (&wants, 0o777, "-> /usr/lib/systemd/system/gone.service"),
            ("usr/share/containers/systemd/web.container", 0o644, "[Container]\nImage=quay.io/plant/web:1\n"),
            (
                "usr/lib/bootc/bound-images.d/web.container",
                0o777,
                "-> /usr/share/containers/systemd/web.container",
            ),
        ],
    );
    let running = r#"{"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"1m"}"#;
    let verdict = world.run_order(&image, &statics(running)).await;
    let (kind, first) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image);
    assert!(
        first.starts_with("check `static.kernel`: ") && first.ends_with("(and 4 more checks failed)"),
        "{first}"
    );
    for (id, want) in [
        ("static.kernel", "/usr/lib/modules/6.12 has no initramfs.img: create it: dracut --kver 6.12"),
        ("static.secrets", "/etc/ssl/private/plant.key (a private key)"),
        ("static.machine-id", "every machine would have the same id: /etc/machine-id; empty or remove"),
        ("static.units", "multi-user.target.wants/gone.service"),
        ("static.bound-images", "binds `quay.io/plant/web:1`, not by its digest: write NAME@sha256:…"),
    ] {
        assert!(message(&verdict, id).contains(want), "{}", message(&verdict, id));
    }
    assert!(matches!(outcome(&verdict, "up"), CheckOutcome::Skipped { .. }));
}

async fn a_budget_names_the_largest_layers(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &KERNEL);
    let size =
        |limits: &str| format!(r#"{{"id":"size","assert":{{"kind":"size",{limits}}},"within":"30s"}}"#);
    let verdict = world.run_order(&image, &statics(&size(r#""download":"1GiB","unpacked":"2GiB""#))).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{verdict:?}");
    let check = verdict.checks.last().expect("the size check");
    assert!(
        check.notes.len() == 2 && check.notes[0].ends_with("MiB to download, of at most 1GiB"),
        "{check:?}"
    );
    let verdict = world.run_order(&image, &statics(&size(r#""unpacked":"10MiB""#))).await;
    let found = message(&verdict, "size");
    assert!(found.contains("more than 10MiB; largest layers: layer 1 ("), "{found}");
}

async fn bootc_lints_its_own_image(world: Arc<World>) {
    // It sees no network and cannot write.
    const BOOTC: &str = "#!/bin/sh\n[ \"$*\" = 'container lint' ] || exit 64\n\
        [ \"$(ls /sys/class/net)\" = lo ] || { echo 'error: there is a network'; exit 1; }\n\
        if touch /usr/x 2>/dev/null; then echo 'error: the image can be written to'; exit 1; fi\n";
    let lint = |end: &str| format!("{BOOTC}{end}");
    let image = |script: &str| {
        world.image(&["/sbin/init"], &[&KERNEL[..], &[("usr/bin/bootc", 0o755, script)]].concat())
    };
    let good = image(&lint("echo 'Lint warning: var-log: found files'\necho 'Checks passed: 9'\n"));
    let verdict = world.run_order(&good, &statics("")).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{verdict:?}");
    let notes =
        &verdict.checks.iter().find(|check| check.id.as_str() == "static.bootc-lint").expect("it").notes;
    assert_eq!(notes, &["Lint warning: var-log: found files"]);

    let bad = image(&lint("echo checking\necho 'error: Linting: 1 errors in baseimage-root' >&2\nexit 1\n"));
    let verdict = world.run_order(&bad, &statics("")).await;
    let want = "`bootc container lint` ended with exit code 1: error: Linting: 1 errors in baseimage-root";
    assert_eq!(message(&verdict, "static.bootc-lint"), want);

    let broken = image("#!/no/such/shell\n");
    let verdict = world.run_order(&broken, &statics("")).await;
    let found = message(&verdict, "static.bootc-lint");
    assert!(found.contains("no such file or directory"), "{found}");

    let hangs = image(&lint("sleep 600\n"));
    let mut short = statics("");
    for check in &mut short.checks {
        check.within = "2s".parse().expect("a span");
    }
    let verdict = world.run_order(&hangs, &short).await;
    assert_eq!(message(&verdict, "static.bootc-lint"), "`bootc container lint` did not end within 2 s");
}
