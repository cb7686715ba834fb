//! The lane `vm` with a real QEMU and a real Debian: what passes, what is a fault of the image, and what is
//! left behind.

#[path = "../podman/shared/mod.rs"]
mod shared;
mod world;

use std::time::Duration;

use edgewright_model::order::LaneOrder;
use edgewright_model::outcome::FailureKind;
use edgewright_model::spec::{Lane, VmProfile, VmSpec};
use edgewright_model::verdict::{CheckOutcome, LaneResult, Verdict};

use shared::ImageFile;
use world::{World, order};

/// A tool image with QEMU; skips the test if there is none.
fn has_tools() -> bool {
    edgewright_testkit::has_as_root(&["mmdebstrap"]) && edgewright_testkit::tool_image().is_some()
}

fn failure(verdict: &Verdict) -> (FailureKind, &str) {
    match &verdict.result {
        LaneResult::Failed { kind, message } => (*kind, message),
        LaneResult::Passed => panic!("it passed: {verdict:?}"),
    }
}

/// What makes an image a device.
const AGENT: ImageFile<'_> =
    ("usr/lib/systemd/system/edgewright-agent.service", 0o644, "[Service]\nExecStart=/bin/true\n");

/// Ten checks of several kinds.
const TEN: &str = r#"
    {"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"60s"},
    {"id":"journal","assert":{"kind":"unit","name":"systemd-journald.service"},"within":"60s"},
    {"id":"udev","assert":{"kind":"unit","name":"systemd-udevd.service"},"within":"60s"},
    {"id":"kernel","assert":{"kind":"command","argv":["uname","-r"],"exit":0,"stdout":"6."},"within":"60s"},
    {"id":"own-kernel","assert":{"kind":"karg","name":"panic","value":"-1"},"within":"60s"},
    {"id":"hello","assert":{"kind":"file","path":"/etc/hello","exists":true,"contains":"hello","mode":416,"owner":{"user":7,"group":9}},"within":"60s"},
    {"id":"gone","assert":{"kind":"file","path":"/etc/debian_version","exists":false,"contains":null,"mode":null,"owner":null},"within":"60s"},
    {"id":"ping","assert":{"kind":"command","argv":["getcap","/usr/bin/capable"],"exit":0,"stdout":"cap_net_raw=ep"},"within":"60s"},
    {"id":"root","assert":{"kind":"mount","path":"/","fstype":"overlay"},"within":"60s"},
    {"id":"bus","assert":{"kind":"process","which":{"name":"dbus-daemon"},"count":1},"within":"60s"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn ten_checks_hold_in_a_virtual_machine() {
    if !has_tools() {
        return;
    }
    let world = World::make().await;
    let image = world.image(&[("etc/hello", 0o640, "hello"), ("etc/.wh.debian_version", 0o644, "")]);
    let verdict = world.run(&image, &order(TEN)).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{:?}", verdict.checks);
    assert_eq!(verdict.checks.len(), 10);
    assert_eq!(verdict.inputs.profile, "vm-direct");
    let accelerator = verdict.recorded_on.accelerator.as_deref();
    assert!(matches!(accelerator, Some("tcg" | "kvm")), "{accelerator:?}");
    assert!(world.evidence(&verdict, "journal").contains("systemd"));
    world.end();
}

/// What `cargo xtask bench vm` reads: a lane whose digest is new, on a host that is known.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_measured_lane() {
    let world = World::make().await;
    let hello = ("etc/.wh.debian_version", 0o644, "");
    world.run(&world.image(&[hello]), &order("")).await;
    let image = world.image(&[hello, ("etc/hello", 0o640, "hello")]);
    eprintln!("MEASURED");
    let verdict = world.run(&image, &order(TEN)).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{:?}", verdict.checks);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_end_are_faults_of_their_image() {
    if !has_tools() {
        return;
    }
    let world = World::make().await;
    // No guest here lives as long as this.
    let up = order(r#"{"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"5m"}"#);

    let panics = world.image(&[("usr/lib/systemd/systemd", 0o755, "#!/bin/sh\necho bye\nexit 1\n")]);
    let verdict = world.run(&panics, &up).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("the kernel panicked: Attempted to kill init"), "{message}");
    assert!(world.evidence(&verdict, "console").contains("bye"));

    // The same digest again: its files are there.
    let files = world.files();
    let memory = VmSpec { memory: "512MiB".parse().unwrap(), ..VmSpec::default() };
    let verdict = world.run(&panics, &LaneOrder { vm: Some(memory), ..up.clone() }).await;
    assert!(failure(&verdict).1.contains("Attempted to kill init"), "{verdict:?}");
    assert_eq!((verdict.inputs.profile.as_str(), world.files()), ("vm-direct-512MiB", files));

    let off = world.image(&[(
        "usr/lib/systemd/systemd",
        0o755,
        "#!/bin/sh\nmount -t proc proc /proc\necho o > /proc/sysrq-trigger\nwhile :; do sleep 1; done\n",
    )]);
    let verdict = world.run(&off, &up).await;
    let (kind, message) = failure(&verdict);
    assert_eq!((kind, message.contains("powered itself off")), (FailureKind::Image, true), "{message}");

    let eats = "#!/bin/sh\nmount -t tmpfs -o size=100% tmpfs /mnt\ncat /dev/zero > /mnt/a\nexit 1\n";
    let eater = world.image(&[("usr/lib/systemd/systemd", 0o755, eats)]);
    let memory = VmSpec { memory: "256MiB".parse().unwrap(), ..VmSpec::default() };
    let verdict = world.run(&eater, &LaneOrder { vm: Some(memory), ..up.clone() }).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("Out of memory: Killed process"), "{message}");

    let empty = world.image_without_kernel();
    let verdict = world.run(&empty, &up).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("/usr/lib/modules is missing"), "{message}");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_never_ends_is_a_fault_of_its_image() {
    if !has_tools() {
        return;
    }
    // Many times what this system needs: limits follow the time to the guest's first answer.
    let world = World::make().await.with_boot_timeout(Duration::from_secs(6));
    let unit = "[Unit]\nDefaultDependencies=no\nBefore=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n";
    let hangs = world.image(&[
        ("usr/lib/systemd/system/forever.service", 0o644, unit),
        ("usr/lib/systemd/system/multi-user.target.wants/forever.service", 0o777, "-> ../forever.service"),
    ]);
    // No check would find it.
    let verdict = world.run(&hangs, &order("")).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(
        message.contains("did not reach its default target") && message.contains("forever.service"),
        "{message}"
    );
    assert!(world.evidence(&verdict, "journal").contains("systemd"));
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_starts_by_uefi_from_a_disk_with_its_own_initramfs() {
    if !has_tools() {
        return;
    }
    let world = World::make().await;
    let image = world.image(&[("etc/hello", 0o640, "hello")]);
    let checks = r#"
        {"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"60s"},
        {"id":"disk","assert":{"kind":"mount","path":"/","fstype":"ext4","options":["rw"]},"within":"60s"},
        {"id":"firmware","assert":{"kind":"file","path":"/sys/firmware/efi","exists":true,"contains":null,"mode":null,"owner":null},"within":"60s"},
        {"id":"hello","assert":{"kind":"file","path":"/etc/hello","exists":true,"contains":"hello","mode":416,"owner":{"user":7,"group":9}},"within":"60s"},
        {"id":"capability","assert":{"kind":"command","argv":["getcap","/usr/bin/capable"],"exit":0,"stdout":"cap_net_raw=ep"},"within":"60s"}"#;
    let vm = VmSpec { profile: VmProfile::Uefi, ..VmSpec::default() };
    let verdict = world.run(&image, &LaneOrder { vm: Some(vm), ..order(checks) }).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{:?}", verdict.checks);
    assert_eq!(verdict.inputs.profile, "vm-uefi");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_update_need_a_device_and_a_release() {
    if !has_tools() {
        return;
    }
    let world = World::make().await;
    let check = r#"{"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"60s"}"#;
    let of = |lane, from| LaneOrder { lane, from, ..order(check) };
    let plain = world.image(&[("etc/hello", 0o640, "hello")]);
    let verdict = world.run(&plain, &of(Lane::Rollback, None)).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("`rollback` needs the agent and the boot set-up"), "{message}");
    assert_eq!(verdict.inputs.profile, "device-uefi");

    let verdict = world.run(&world.image_without_kernel(), &of(Lane::Switch, Some(plain.clone()))).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("/usr/lib/modules is missing or empty (add the image parts"), "{message}");
    assert_eq!(verdict.inputs.from, Some(plain.digest.clone()));

    // What has an agent, and nothing to update from.
    let device = world.image(&[AGENT]);
    for (from, why) in [(None, "nothing is released yet"), (Some(plain), "cannot update itself")] {
        let verdict = world.run(&device, &of(Lane::Upgrade, from)).await;
        assert_eq!(verdict.result, LaneResult::Passed);
        let CheckOutcome::Skipped { reason } = &verdict.checks[0].outcome else { panic!("{verdict:?}") };
        assert!(reason.contains(why), "{reason}");
    }
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_a_kill() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    kill_a_lane(folder.path(), "vm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_whose_process_was_killed_is_made_again() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    kill_a_lane(folder.path(), "rollback").await;
    let unfinished = || {
        let entries = std::fs::read_dir(folder.path().join("vm/disks")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".new-")).count()
    };
    assert_eq!(unfinished(), 1);
    // The service alone is no agent: it cannot install.
    let world = World::make_in(folder.path()).await;
    let verdict = world.run(&world.image(&[AGENT]), &LaneOrder { lane: Lane::Rollback, ..order("") }).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("cannot install the image"), "{message}");
    assert_eq!(unfinished(), 0);
}

/// Kills the process of a lane with `SIGKILL` once its machine runs. The machine ends with it.
async fn kill_a_lane(work: &std::path::Path, lane: &str) {
    let own = std::env::current_exe().expect("the path of this program");
    #[expect(clippy::disallowed_methods, reason = "the child is killed as a whole process would be")]
    let mut child = std::process::Command::new(own)
        .args(["--exact", "a_lane_that_is_killed", "--ignored", "--nocapture"])
        .env("EDGEWRIGHT_KILLED_WORK", work)
        .env("EDGEWRIGHT_KILLED_LANE", lane)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("this program starts");
    until(|| machines(work) > 0).await;
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    until(|| machines(work) == 0).await;
}

/// The victim of the tests above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is killed by another test"]
async fn a_lane_that_is_killed() {
    let Some(work) = edgewright_testkit::setting("EDGEWRIGHT_KILLED_WORK") else { return };
    let name = edgewright_testkit::setting("EDGEWRIGHT_KILLED_LANE").unwrap();
    let lane = Lane::ALL.into_iter().find(|lane| lane.name() == name).unwrap();
    let world = World::make_in(work.as_ref()).await;
    let image = world.image(&[AGENT, ("usr/lib/systemd/systemd", 0o755, "#!/bin/sh\nsleep 1000\n")]);
    let check = r#"{"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"300s"}"#;
    world.run(&image, &LaneOrder { lane, ..order(check) }).await;
}

/// The machines whose folder is below a work folder.
fn machines(work: &std::path::Path) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_one = |process: &std::fs::DirEntry| {
        let text = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.contains("guest.sock") && text.contains(&*work.to_string_lossy())
    };
    processes.filter(is_one).count()
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not happen within ten minutes");
}
