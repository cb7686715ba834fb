//! Every kind of assertion about a running machine, passing and failing, in a real system.

use std::sync::Arc;

use edgewright_model::outcome::FailureKind;
use edgewright_model::verdict::{CheckOutcome, LaneResult};

use crate::list;
use crate::world::{ImageFile, World};

list! {
    assertions_about_the_machine_hold
    assertions_about_the_machine_fail_with_messages
    greenboot_fails_by_required_scripts_only
}

/// A service with its own user, and greenboot's scripts.
const MACHINE: [ImageFile<'_>; 4] = [
    (
        "etc/systemd/system/pump.service",
        0o644,
        "[Service]\nUser=games\nExecStart=/bin/sleep 86400.5\n[Install]\nWantedBy=multi-user.target\n",
    ),
    ("etc/systemd/system/multi-user.target.wants/pump.service", 0o777, "-> ../pump.service"),
    ("usr/lib/greenboot/check/required.d/10-pump.sh", 0o755, "#!/bin/sh\nsystemctl is-active pump.service\n"),
    ("etc/greenboot/check/wanted.d/20-cloud.sh", 0o755, "#!/bin/sh\necho no cloud in sight\nexit 3\n"),
];

/// A check as JSON: id, assertion, limit.
fn check(id: &str, assert: &str, within: &str) -> String {
    format!(r#"{{"id":"{id}","assert":{{{assert}}},"within":"{within}"}}"#)
}

fn script(text: &str) -> String {
    let content = serde_json::to_string(text).expect("a text");
    format!(r#""kind":"script","path":"images/hmi/checks/probe.sh","content":{content}"#)
}

async fn assertions_about_the_machine_hold(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &MACHINE);
    let checks = [
        ("by-name", r#""kind":"process","which":{"name":"sleep"},"user":"games","count":1"#.to_owned()),
        ("by-command", r#""kind":"process","which":{"command":"sleep 86400.5"},"count":1"#.to_owned()),
        ("package", r#""kind":"package","name":"systemd""#.to_owned()),
        ("version", r#""kind":"package","name":"systemd","version":"257*""#.to_owned()),
        ("mount", r#""kind":"mount","path":"/run","fstype":"tmpfs","options":["rw","nosuid"]"#.to_owned()),
        ("script", script("#!/bin/sh -e\ntest \"$(cat /proc/1/comm)\" = systemd\necho pressure is fine\n")),
        ("greenboot", r#""kind":"greenboot""#.to_owned()),
        ("karg", r#""kind":"karg","name":"quiet""#.to_owned()),
    ];
    let checks: Vec<String> = checks.iter().map(|(id, assert)| check(id, assert, "1m")).collect();
    let verdict = world.run(&image, &checks.join(",")).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{verdict:?}");
    let of = |id: &str| verdict.checks.iter().find(|check| check.id.as_str() == id).expect("it is a check");
    assert_eq!(of("script").notes, ["pressure is fine"]);
    // Failures of wanted scripts are notes.
    let notes = of("greenboot").notes.join("\n");
    assert!(notes.contains("20-cloud.sh") && notes.contains("no cloud in sight"), "{notes}");
    let CheckOutcome::Skipped { reason } = &of("karg").outcome else { panic!("{verdict:?}") };
    assert_eq!(reason, "a container uses the kernel of its host");
}

async fn assertions_about_the_machine_fail_with_messages(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &MACHINE);
    let process = |rest: &str| format!(r#""kind":"process",{rest}"#);
    let mount = |rest: &str| format!(r#""kind":"mount",{rest}"#);
    let cases = [
        ("none", process(r#""which":{"name":"plc"},"count":1"#), "no process `plc` runs", ""),
        (
            "other-user",
            process(r#""which":{"command":"sleep 86400.5"},"user":"root","count":1"#),
            "no process with \"sleep 86400.5\" in its command line of user `root` runs",
            // The actual user.
            "user 5: /bin/sleep 86400.5",
        ),
        (
            "no-user",
            process(r#""which":{"name":"sleep"},"user":"plant","count":1"#),
            "no user `plant` in /etc/passwd",
            "",
        ),
        (
            "too-few",
            process(r#""which":{"command":"sleep 86400.5"},"count":2"#),
            "1 running, expected 2: process with \"sleep 86400.5\" in its command line",
            "sleep 86400.5",
        ),
        ("package", r#""kind":"package","name":"chrony""#.to_owned(), "package chrony is not installed", ""),
        ("version", r#""kind":"package","name":"systemd","version":"1.*""#.to_owned(), ", expected 1.*", ""),
        ("no-mount", mount(r#""path":"/srv""#), "/srv is not a mount point", ""),
        ("type", mount(r#""path":"/run","fstype":"ext4""#), "has the type tmpfs, expected ext4", ""),
        (
            "options",
            mount(r#""path":"/run","options":["ro"]"#),
            "is mounted without ro (its options: rw,",
            "",
        ),
        (
            "script",
            script("#!/bin/sh\necho valve stuck >&2\nexit 4\n"),
            "script `probe.sh` exited with 4, expected 0",
            "valve stuck",
        ),
        (
            "slow",
            script("#!/bin/sh\nsleep 600\n"),
            "script `probe.sh` did not end in time and was killed",
            "",
        ),
        ("no-shell", script("#!/usr/bin/python9\n"), "`/usr/bin/python9` is not in the image", ""),
    ];
    let up = check("up", r#""kind":"unit","name":"multi-user.target""#, "1m");
    let mut checks: Vec<String> = cases.iter().map(|(id, assert, ..)| check(id, assert, "8s")).collect();
    checks.push(up);
    let verdict = world.run(&image, &checks.join(",")).await;
    for (id, _, want, want_output) in &cases {
        let found = verdict.checks.iter().find(|check| check.id.as_str() == *id).expect("it is a check");
        let CheckOutcome::Failed { kind, message, output } = &found.outcome else { panic!("{found:?}") };
        assert_eq!(*kind, FailureKind::Image, "{id}");
        assert!(message.contains(want), "{id}: {message}");
        assert!(output.join("\n").contains(want_output), "{id}: {output:?}");
    }
}

async fn greenboot_fails_by_required_scripts_only(world: Arc<World>) {
    let broken = (
        "etc/greenboot/check/required.d/05-plc.sh",
        0o755,
        "#!/bin/sh\necho no answer from 10.20.0.5\nexit 1\n",
    );
    let image = world.image(&["/sbin/init"], &[&MACHINE[..], &[broken]].concat());
    let verdict = world.run(&image, &check("greenboot", r#""kind":"greenboot""#, "10s")).await;
    let CheckOutcome::Failed { kind, message, output } = &verdict.checks[0].outcome else {
        panic!("{verdict:?}")
    };
    assert_eq!(*kind, FailureKind::Image);
    assert!(message.contains("05-plc.sh") && !message.contains("20-cloud.sh"), "{message}");
    assert!(output.iter().any(|line| line.contains("no answer from 10.20.0.5")), "{output:?}");
}
