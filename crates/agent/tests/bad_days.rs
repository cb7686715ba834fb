//! Bad days of a device that only the whole program shows: a wrong clock, a full disk, greenboot's scripts.
//! Registries that go away, deny or lie are in the tests of the module `engine`.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::path::Path;

use common::{Device, Server};
use edgewright_agent::health::{HealthResult, HealthSettings, Runner};
use edgewright_model::Digest;
use edgewright_process::{CancellationToken, Command};

/// A certificate for 127.0.0.1 that signs itself, for a number of days; -1: it ended yesterday.
async fn certificate(folder: &Path, days: &str) {
    let subject = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"];
    let key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let request = Command::new("openssl").args(key).args(subject).arg("-keyout").arg(folder.join("key.pem"));
    request.arg("-out").arg(folder.join("request.pem")).run().await.unwrap();
    let sign = Command::new("openssl").args(["x509", "-req", "-copy_extensions", "copy", "-days", days]);
    let sign = sign.arg("-in").arg(folder.join("request.pem")).arg("-signkey").arg(folder.join("key.pem"));
    sign.arg("-out").arg(folder.join("certificate.pem")).run().await.unwrap();
}

async fn tls_server(folder: &Path, days: &str) -> Server {
    certificate(folder, days).await;
    Server::start_tls(&folder.join("certificate.pem"), &folder.join("key.pem")).await
}

/// A clock far from the right time makes every certificate invalid: here the certificate is what moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_named_and_harms_nothing() {
    if !edgewright_testkit::has(&["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = tls_server(folder.path(), "-1").await;
    let device = Device::new(&Digest::of("v1"), &server.host, "policy = \"download\"");
    let follow = |server: &Server| {
        let ca = folder.path().join("certificate.pem");
        let config = format!(
            "image = \"r.example/a/b:stable\"\nregistry = \"https://{}\"\nca_file = {ca:?}\npolicy = \"download\"\n",
            server.host
        );
        std::fs::write(device.path("agent.toml"), config).unwrap();
    };
    server.publish("v2");
    follow(&server);
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["problem"]["kind"].as_str()), (1, Some("unreachable")), "{status}");
    assert!(status["problem"]["hint"].as_str().unwrap().contains("timedatectl"), "{status}");
    assert_eq!(status["deployments"]["booted"]["digest"], Digest::of("v1").to_string());

    let server = tls_server(folder.path(), "2").await;
    let digest = server.publish("v2");
    follow(&server);
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["state"]["state"].as_str()), (0, Some("staged")), "{status}");
    assert_eq!(status["state"]["update"]["digest"], digest.to_string());
    assert!(status["problem"].is_null(), "{status}");
}

/// Runs the commands of a device in a mount namespace whose state is on a small file system.
const FULL: &str = r#"set -u
mkdir -p state && mount -t tmpfs -o size=1m none state || exit 99
agent() { "$@" > "$out.json" 2> "$out.err"; echo $? > "$out.code"; }
out=before; agent "$@" check
head -c 2000000 /dev/zero > state/filler
out=full; agent "$@" check
out=status; agent "$@" status
rm state/filler
out=after; agent "$@" check
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_updates_until_there_is_space() {
    let probe = ["--user", "--map-root-user", "--mount", "--", "mount", "-t", "tmpfs", "none", "/mnt"];
    let may_mount = Command::new("unshare").args(probe).run().await.is_ok();
    if !edgewright_testkit::has_if(may_mount, "user namespaces") {
        return;
    }
    let server = Server::start().await;
    let device = Device::new(&Digest::of("v1"), &server.host, "policy = \"download\"");
    let agent = device.agent(&["--json"]);
    let script = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "--", "sh", "-c"]);
    let script = script.arg(FULL).arg("sh").arg(agent.get_program()).args(agent.get_args());
    server.publish("v2");
    script.cwd(device.folder.path()).run().await.unwrap();
    let code = |name: &str| device.read(&format!("{name}.code")).trim().to_owned();
    let json = |name: &str, kind: &str| -> serde_json::Value {
        serde_json::from_str(&device.read(&format!("{name}.{kind}"))).unwrap_or_default()
    };
    assert_eq!(code("before"), "0", "{}", device.read("before.err"));
    let error = json("full", "err");
    assert_eq!(code("full"), "5", "{error} {}", device.read("full.json"));
    assert!(error["error"]["hint"].as_str().unwrap().contains("free space"), "{error}");
    // What is known stays known.
    assert_eq!(
        (code("status").as_str(), json("status", "json")["state"]["state"].as_str()),
        ("0", Some("staged"))
    );
    assert_eq!(code("after"), "0", "{}", device.read("after.err"));
    let after = json("after", "json");
    assert_eq!(
        (after["state"]["state"].as_str(), after["problem"].is_null()),
        (Some("staged"), true),
        "{after}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_of_greenboot_follow_the_decision() {
    let root = tempfile::tempdir().unwrap();
    for (kind, more) in [("green.d", ""), ("red.d", "echo lamp is off; exit 1")] {
        let folder = root.path().join("etc/greenboot").join(kind);
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("echo {kind} >> {}/ran\n{more}\n", root.path().display());
        std::fs::write(folder.join("10-lamp.sh"), text).unwrap();
    }
    let ran = || std::fs::read_to_string(root.path().join("ran")).unwrap_or_default();
    let within = std::time::Duration::from_mins(10);
    let settings =
        HealthSettings { within, scale: 1.0, check_set: true, greenboot: true, target: String::new() };
    let program = env!("CARGO_BIN_EXE_edgewright-agent").into();
    let mut runner = Runner { program, settings, root: root.path().to_owned() };
    let (mut good, never) = (HealthResult::default(), CancellationToken::new());
    runner.follow(&mut good, &never).await;
    assert_eq!((ran().as_str(), good.warnings.len()), ("green.d\n", 0), "{good:?}");

    let mut bad = HealthResult { fault: Some("no".to_owned()), ..HealthResult::default() };
    runner.follow(&mut bad, &never).await;
    assert_eq!(ran(), "green.d\nred.d\n");
    assert!(bad.warnings[0].contains("10-lamp.sh exited with 1"), "{bad:?}");
    assert_eq!((bad.warnings[1].as_str(), bad.failure().as_deref()), ("  lamp is off", Some("no")));

    runner.settings.greenboot = false;
    runner.follow(&mut bad, &never).await;
    assert_eq!(ran(), "green.d\nred.d\n");
}
