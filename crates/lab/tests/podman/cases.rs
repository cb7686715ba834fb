//! The container lane: a system that boots, and failures to boot.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use edgewright_lab::{Engine, EngineSettings, LabError, Runner, StorageBounds, kept, reap, run_lane};
use edgewright_model::order::LaneOrder;
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::verdict::{CheckOutcome, LaneResult};
use edgewright_process::{CancellationToken, Command};

use crate::world::{ImageFile, World, order, processes};
use crate::{failure, list};

list! {
    every_kind_of_check_passes
    a_failing_unit_fails_the_image
    a_failure_allowed_by_name_passes
    a_service_that_is_restarted_again_and_again_is_not_up
    an_init_that_ends_fails_the_image
    a_command_that_is_no_init_is_named_at_once
    a_unit_that_the_image_does_not_have_fails_at_once
    the_cause_of_a_forked_child_and_the_missing_capability_are_named
    an_init_that_is_missing_fails_the_image
    a_system_that_never_finishes_booting_fails_the_image
    a_check_that_hangs_is_cut_by_its_own_limit
    a_check_that_cannot_work_is_the_checks_fault
    a_missing_image_is_the_infrastructures_fault
    a_cancelled_lane_leaves_nothing
    a_kept_machine_stays_until_it_is_removed
    leftovers_are_reaped
    container_storage_is_bounded_by_size
}

const UP: &str = r#"{"id":"system-up","assert":{"kind":"systemd","allow_failed":[]},"within":"1m"}"#;

pub(crate) const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

/// A minimal web server: a socket that starts a shell for every connection.
const WEB: [ImageFile<'_>; 4] = [
    ("etc/systemd/system/web.socket", 0o644, "[Socket]\nListenStream=127.0.0.1:8080\nAccept=yes\n"),
    (
        "etc/systemd/system/web@.service",
        0o644,
        "[Service]\nExecStart=/usr/local/bin/web\nStandardInput=socket\nStandardOutput=socket\n",
    ),
    ("etc/systemd/system/sockets.target.wants/web.socket", 0o777, "-> ../web.socket"),
    (
        "usr/local/bin/web",
        0o755,
        "#!/bin/sh\nread -r request || exit 0\nprintf 'HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n3\\r\\nok\\n\\r\\n0\\r\\n\\r\\n'\nexit 0\n",
    ),
];

fn bad_unit() -> [ImageFile<'static>; 2] {
    [
        (
            "etc/systemd/system/bad.service",
            0o644,
            "[Unit]\nDescription=A service that fails\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo out of ink; exit 7'\n",
        ),
        ("etc/systemd/system/multi-user.target.wants/bad.service", 0o777, "-> ../bad.service"),
    ]
}

async fn every_kind_of_check_passes(world: Arc<World>) {
    // No command in the config: the lane starts /sbin/init.
    let image = world.image(&[], &WEB);
    let checks = format!(
        r#"{UP},
        {{"id":"socket","assert":{{"kind":"unit","name":"web.socket"}},"within":"1m"}},
        {{"id":"port","assert":{{"kind":"port","host":"127.0.0.1","port":8080}},"within":"1m"}},
        {{"id":"web","assert":{{"kind":"http","url":"http://localhost:8080/","status":200,"body":"ok"}},"within":"1m"}},
        {{"id":"shell","assert":{{"kind":"command","argv":["cat","/proc/1/comm"],"exit":0,"stdout":"systemd"}},"within":"1m"}},
        {{"id":"script","assert":{{"kind":"file","path":"/usr/local/bin/web","exists":true,"contains":"HTTP","mode":493,"owner":{{"user":0,"group":0}}}},"within":"1m"}},
        {{"id":"elsewhere","assert":{{"kind":"command","argv":["false"],"exit":0,"stdout":null}},"within":"1m","lanes":["vm"]}}"#
    );
    let verdict = world.run(&image, &checks).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{verdict:?}");
    let ids: Vec<_> = verdict.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["system-up", "socket", "port", "web", "shell", "script", "elsewhere"]);
    assert!(matches!(verdict.checks[6].outcome, CheckOutcome::Skipped { .. }));
    assert_eq!(verdict.recorded_on.runner.as_ref(), Some(&world.runner.digest));
    assert!(world.evidence(&verdict, "journal").contains("Startup finished"));
    assert!(world.evidence(&verdict, "runner").contains(r#""line":"summary""#));
    assert!(!verdict.evidence.iter().any(|piece| piece.name == "failed-units"), "{:?}", verdict.evidence);
}

async fn a_failing_unit_fails_the_image(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &bad_unit());
    let checks = UP.replace("1m", "5s");
    let verdict = world.run(&image, &checks).await;
    let want = "check `system-up`: the system is degraded: bad.service failed";
    assert_eq!(failure(&verdict), (FailureKind::Image, want));
    let CheckOutcome::Failed { output, .. } = &verdict.checks[0].outcome else { panic!("{verdict:?}") };
    assert!(output.iter().any(|line| line.contains("out of ink")), "{output:?}");
    assert!(world.evidence(&verdict, "failed-units").contains("bad.service - A service that fails"));
    assert!(world.evidence(&verdict, "journal").contains("out of ink"));
}

async fn a_failure_allowed_by_name_passes(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &bad_unit());
    let verdict = world.run(&image, &UP.replace("[]", r#"["bad.service"]"#)).await;
    assert_eq!(verdict.result, LaneResult::Passed, "{verdict:?}");
}

/// Between two starts no unit is failed and the system counts as `running`.
async fn a_service_that_is_restarted_again_and_again_is_not_up(world: Arc<World>) {
    let unit =
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=30\n";
    let files = [
        ("etc/systemd/system/flap.service", 0o644, unit),
        ("etc/systemd/system/multi-user.target.wants/flap.service", 0o777, "-> ../flap.service"),
    ];
    let image = world.image(&["/sbin/init"], &files);
    let verdict = world.run(&image, &UP.replace("1m", "5s")).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image);
    assert!(message.contains("flap.service ended and is waiting for a restart"), "{message}");
}

async fn an_init_that_ends_fails_the_image(world: Arc<World>) {
    let image = world.image(&["/bin/sh", "-c", "echo last words; sleep 0.5; exit 3"], &[]);
    let verdict = world.run(&image, UP).await;
    let want = "the image starts `/bin/sh -c echo last words; sleep 0.5; exit 3`, which is no init and ended with 3 before the checks were done";
    assert_eq!(failure(&verdict), (FailureKind::Image, want));
    assert!(matches!(verdict.checks[0].outcome, CheckOutcome::Skipped { .. }));
    assert!(world.evidence(&verdict, "console").contains("last words"));
}

/// The time limit of the check is far away: nothing waits for it.
async fn a_command_that_is_no_init_is_named_at_once(world: Arc<World>) {
    let image = world.image(&["/bin/sh", "-c", "sleep infinity"], &[]);
    let unit = r#"{"id":"web","assert":{"kind":"unit","name":"web.service"},"within":"1h"}"#;
    let port = r#"{"id":"port","assert":{"kind":"port","host":"localhost","port":80},"within":"1h"}"#;
    let up = UP.replace("1m", "1h");
    let verdict = world.run(&image, &format!("{up},{unit},{port}")).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    let want = "the image starts `/bin/sh -c sleep infinity`, which is no init: process 1 is `s";
    assert!(message.contains(want), "{message}");
    assert!(verdict.checks.iter().all(|check| matches!(check.outcome, CheckOutcome::Failed { .. })));
}

async fn a_unit_that_the_image_does_not_have_fails_at_once(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &[]);
    let unit = r#"{"id":"web","assert":{"kind":"unit","name":"nowhere.service"},"within":"1h"}"#;
    let verdict = world.run(&image, unit).await;
    let want = "check `web`: unit nowhere.service not found: the image has no such unit";
    assert_eq!(failure(&verdict), (FailureKind::Image, want));
}

async fn the_cause_of_a_forked_child_and_the_missing_capability_are_named(world: Arc<World>) {
    let unit = "[Service]\nExecStart=/bin/sleep 9\nUser=daemon\nSystemCallFilter=@system-service\n";
    let files = [
        ("etc/systemd/system/greedy.service", 0o644, unit),
        ("etc/systemd/system/multi-user.target.wants/greedy.service", 0o777, "-> ../greedy.service"),
    ];
    let image = world.image(&["/sbin/init"], &files);
    let verdict = world.run(&image, &UP.replace("1m", "1h")).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.contains("greedy.service failed; greedy.service: Failed to"), "{message}");
    assert!(message.contains("Operation not permitted"), "{message}");
    assert!(message.contains("does not give CAP_SYS_ADMIN"), "{message}");
}

async fn an_init_that_is_missing_fails_the_image(world: Arc<World>) {
    let image = world.image(&["/no/such/init"], &[]);
    let verdict = world.run(&image, UP).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Image, "{message}");
    assert!(message.starts_with("cannot start the image's init: not found"), "{message}");
}

async fn a_system_that_never_finishes_booting_fails_the_image(world: Arc<World>) {
    let wants = format!("{WANTS}/slow.service");
    let image = world.image(
        &["/sbin/init"],
        &[
            (
                "etc/systemd/system/slow.service",
                0o644,
                "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n",
            ),
            (&wants, 0o777, "-> ../slow.service"),
        ],
    );
    let verdict = world.run(&image, &UP.replace("1m", "4s")).await;
    let want = "check `system-up`: the system is `starting`, expected `running`";
    assert_eq!(failure(&verdict), (FailureKind::Image, want));
    let CheckOutcome::Failed { output, .. } = &verdict.checks[0].outcome else { panic!("{verdict:?}") };
    assert!(output.iter().any(|line| line.contains("slow.service")), "{output:?}");
}

async fn a_check_that_hangs_is_cut_by_its_own_limit(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &[]);
    let hangs = r#"{"id":"hangs","assert":{"kind":"command","argv":["sleep","600"],"exit":0,"stdout":null},"within":"2s"}"#;
    let verdict = world.run(&image, &format!("{UP},{hangs}")).await;
    let want = "check `hangs`: `sleep` did not end in time and was killed";
    assert_eq!(failure(&verdict), (FailureKind::Image, want));
    assert_eq!(verdict.checks[0].outcome, CheckOutcome::Passed);
}

async fn a_check_that_cannot_work_is_the_checks_fault(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &[]);
    let odd = r#"{"id":"odd","assert":{"kind":"http","url":"https://plc.example/","status":200,"body":null},"within":"1h"}"#;
    let verdict = world.run(&image, odd).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Check, "{message}");
}

async fn a_missing_image_is_the_infrastructures_fault(world: Arc<World>) {
    let mut image = world.image(&["/sbin/init"], &[]);
    image.digest = edgewright_model::Digest::of("nothing");
    let verdict = world.run(&image, UP).await;
    let (kind, message) = failure(&verdict);
    assert_eq!(kind, FailureKind::Infrastructure, "{message}");
    assert!(message.starts_with("cannot pull the image: "), "{message}");
}

async fn a_cancelled_lane_leaves_nothing(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &[]);
    let cancel = CancellationToken::new();
    let context = world.context(cancel.clone());
    let hangs = r#"{"id":"hangs","assert":{"kind":"command","argv":["sleep","600"],"exit":0,"stdout":null},"within":"4m"}"#;
    let verdict = run_lane(&order(&format!("{UP},{hangs}")), &image, &context, &|event| {
        // The first check passed, so the machine runs.
        if matches!(event, JobEvent::Progress { done: 1, .. }) {
            cancel.cancel();
        }
    })
    .await;
    assert_eq!(failure(&verdict), (FailureKind::Infrastructure, "the job was cancelled"));
    assert_eq!(verdict.checks[0].outcome, CheckOutcome::Passed);
    assert_eq!(world.containers(&context.job).await, "");
}

async fn a_kept_machine_stays_until_it_is_removed(world: Arc<World>) {
    let image = world.image(&["/sbin/init"], &[]);
    let verdict = world.run_order(&image, &LaneOrder { keep: true, ..order(UP) }).await;
    assert_eq!(verdict.result, LaneResult::Passed);
    let settings = EngineSettings::default();
    let machines = kept::list(&world.work, &settings).await.expect("podman lists");
    let [machine] = machines.as_slice() else { panic!("{machines:?}") };
    assert_eq!((machine.repository.as_str(), machine.state.as_str()), ("plant-os/test", "running"));
    let entry = kept::enter(&world.work, &settings, machine, &["cat".into(), "/proc/1/comm".into()], false);
    let command = Command::new(entry.program).args(entry.arguments);
    let command =
        entry.containers_conf.iter().fold(command, |command, conf| command.env("CONTAINERS_CONF", conf));
    assert_eq!(command.run().await.expect("a command in it").text().trim(), "systemd");
    kept::remove(&world.work, &settings, &machines).await.expect("podman removes");
    assert_eq!(kept::list(&world.work, &settings).await.expect("podman lists"), []);
}

async fn leftovers_are_reaped(world: Arc<World>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp is writable");
    let work = folder.path();
    let marked = processes(work);
    let runner = Runner::install(work, &fs::read(&world.runner.path).expect("runner")).expect("runner");
    let settings = EngineSettings::default();
    let engine = Engine::detect(work, &runner, &settings, &marked).await.expect("podman works");

    let rootfs = work.join("rootfs");
    fs::create_dir(&rootfs).expect("a folder");
    fs::copy(&runner.path, rootfs.join("edgewright-checks")).expect("a copy");
    let create =
        engine.podman(&marked).args(["create", "--label", "edgewright.job=x", "--rootfs"]).arg(&rootfs);
    create.arg("/edgewright-checks").run().await.expect("podman creates");
    let job = work.join("jobs").join("x");
    let mounted = job.join("merged here");
    fs::create_dir_all(&mounted).expect("a folder");
    let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&mounted);
    mount.run().await.expect("root may mount");
    let stray = marked.clone();
    let sleeper = edgewright_process::OwnedTask::spawn(async move {
        let sleep = Command::new("sleep").arg("600").context(&stray).deadline(Duration::from_mins(10));
        sleep.run_status().await.expect("it was started")
    });
    // The variable is in the environment as soon as the program runs.
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let context = edgewright_process::ProcessContext::new(CancellationToken::new());
            let reaped = reap(work, &settings, &context).await;
            assert!(reaped.problems.is_empty(), "{reaped:?}");
            if sleeper.is_finished() {
                break;
            }
        }
    })
    .await
    .expect("the stray process is killed");
    assert!(!sleeper.await.expect("no panic").success());
    assert!(!job.exists());
    let left = engine.podman(&marked).args(["ps", "--all", "--quiet"]).run().await.expect("podman lists");
    assert_eq!(left.text(), "");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!table.contains("merged\\040here"), "{table}");

    // The settings are stored: a second detection starts no container, so a broken runner has no effect.
    let broken = Runner::install(work, b"#!/no/such").expect("runner");
    assert!(Engine::detect(work, &broken, &settings, &marked).await.is_ok());
    fs::remove_file(work.join("containers").join("engine.json")).expect("it is there");
    let error = Engine::detect(work, &broken, &settings, &marked).await.expect_err("no such interpreter");
    assert!(matches!(&error, LabError::NoRuntime { tried } if tried.len() == 4), "{error}");

    reap(work, &settings, &processes(std::path::Path::new("/nowhere"))).await;
}

async fn container_storage_is_bounded_by_size(world: Arc<World>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp is writable");
    let work = folder.path();
    let marked = processes(work);
    let runner = Runner::install(work, &fs::read(&world.runner.path).expect("runner")).expect("runner");
    let engine =
        Engine::detect(work, &runner, &EngineSettings::default(), &marked).await.expect("podman works");
    let prune = async |bytes| {
        engine.prune(StorageBounds { images: 16, bytes }, &marked).await.expect("podman removes")
    };
    assert_eq!(prune(0).await, 0);

    // An image of a lane and a base, both old, and a recent one.
    let now = std::time::SystemTime::now();
    let uses = [("used", "lane", 48), ("bases", "base", 24), ("used", "fresh", 0)];
    for (notes, image, hours) in uses {
        let archive = work.join(image);
        let mut tar = tar::Builder::new(fs::File::create(&archive).expect("a file"));
        let mut header = tar::Header::new_gnu();
        header.set_size(1000);
        tar.append_data(&mut header, image, &[7; 1000][..]).expect("an archive");
        tar.finish().expect("an archive");
        engine.podman(&marked).arg("import").arg(&archive).arg(image).run().await.expect("podman imports");
        let note = work.join("containers").join(notes).join(image);
        fs::create_dir_all(note.parent().expect("a folder")).expect("a folder");
        fs::write(&note, image).expect("a note");
        let long_ago = now - Duration::from_hours(hours);
        fs::File::options()
            .append(true)
            .open(&note)
            .and_then(|file| file.set_modified(long_ago))
            .expect("a time");
    }
    let left = async || {
        let list = engine.podman(&marked).args(["images", "--format", "{{.Repository}}"]).run().await;
        let mut names: Vec<_> = list.expect("podman lists").text().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(prune(1_000_000).await, 0);
    // Two layers of some thousand bytes fit: the oldest is removed. A recently used image is kept, whatever
    // its size.
    let one = 1000 + 2 * 512;
    assert_eq!(prune(3 * one).await, 1);
    assert_eq!(left().await, "localhost/base localhost/fresh");
    assert_eq!(prune(0).await, 1);
    assert_eq!(left().await, "localhost/fresh");
    reap(work, &EngineSettings::default(), &processes(std::path::Path::new("/nowhere"))).await;
}
