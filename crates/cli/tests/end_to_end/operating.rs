//! Operating a server: tokens, secrets and certificates that change while it runs, and its end while jobs
//! run.

use std::fs;
use std::path::Path;

use edgewright_model::run::{NodeState, RunState};
use edgewright_process::Command;

use crate::server::{Server, assert_clean};
use crate::world::{Ended, Repository, edgewright, until};

const FIRST: &str = "the-first-token-of-all";
const SECOND: &str = "the-second-token-of-all";

async fn with_token(folder: &Path, token: &Path, arguments: &[&str]) -> Ended {
    let mut all = vec!["--token-file", token.to_str().unwrap()];
    all.extend(arguments);
    edgewright(folder, &all).await
}

#[tokio::test]
async fn verdicts_need_the_token_and_the_token_changes_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    repository.write(
        "images/base/image.yaml",
        "from: scratch\nsteps: [files: files/]\ntest: {lanes: [external]}\n",
    );
    let commit = repository.commit("external").await;
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let token = file("token", FIRST);
    let (first, second) = (file("first", FIRST), file("second", SECOND));
    let config = file("edgewright.toml", &format!("[access]\ntoken_file = \"{}\"\n", token.display()));
    let arguments = ["--config", config.to_str().unwrap(), "--source", repository.url()];
    let mut server = Server::start(&folder.path().join("data"), &arguments).await;
    let digest = until("an image that waits", async || {
        let run = server.client.runs(None, 1).await.unwrap().pop()?;
        let run = server.client.run(run.number).await.unwrap();
        run.nodes.iter().find(|node| node.node == "base")?.digest.clone()
    })
    .await
    .to_string();
    let post = ["verdict", "post", digest.as_str(), "--passed"];

    let refused = with_token(folder.path(), &second, &post).await;
    assert!(refused.code != 0 && refused.errors.contains("invalid token"), "{refused:?}");
    assert!(refused.errors.contains("--token-file"), "{refused:?}");
    // Another data folder's commands know no token of this server.
    let server_url = format!("http://{}", server.address);
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger =
        edgewright(elsewhere.path(), &[&["--server", server_url.as_str()], &post[..]].concat()).await;
    assert!(stranger.code == 4 && stranger.errors.contains("authentication required"), "{stranger:?}");

    fs::write(&token, SECOND).unwrap();
    server.reload();
    until("the second token", async || {
        let refused = with_token(folder.path(), &first, &post).await;
        refused.errors.contains("invalid token").then_some(())
    })
    .await;
    // A token file with a mistake changes nothing.
    fs::write(&token, "short").unwrap();
    server.reload();
    until("the mistake", async || server.log().contains("configuration reload failed").then_some(())).await;
    fs::write(&token, SECOND).unwrap();
    // Without --token-file the command finds the token by the lock file.
    let posted = edgewright(folder.path(), &post).await.ends(0);
    assert!(posted.errors.contains("continues with base"), "{posted:?}");
    server.client = server.client.clone().with_token(Some(SECOND.to_owned()));
    assert_eq!(server.ended(&commit).await.run.state, RunState::Passed);
}

#[tokio::test]
async fn jobs_work_and_others_read_nothing_if_reading_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let config = folder.path().join("edgewright.toml");
    fs::write(&config, "[access]\nanonymous = false\n").unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--source", repository.url()];
    let server = Server::start(&folder.path().join("data"), &arguments).await;
    let commit = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&commit).await.run.state, RunState::Passed);

    let url = format!("http://{}", server.address);
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = edgewright(elsewhere.path(), &["status", "--server", &url]).await;
    assert!(stranger.code == 4 && stranger.errors.contains("authentication required"), "{stranger:?}");
    edgewright(folder.path(), &["status", "--server", &url]).await.ends(0);
    let audit = edgewright(folder.path(), &["audit", "--operation", "channel.move", "--json"]).await.ends(0);
    assert!(
        audit.out.contains("\"system:channels\"") && audit.out.contains("/channels/stable"),
        "{}",
        audit.out
    );
    let text = edgewright(folder.path(), &["audit", "--server", &url]).await.ends(0);
    assert!(text.out.contains("run.queue") && text.out.contains("system:polling"), "{}", text.out);
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_its_jobs_and_the_next_one_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let sites: Vec<String> = (0..12).map(|site| format!("site-{site}")).collect();
    let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
    let repository = Repository::plants(folder.path().join("plants"), &sites).await;
    let data = folder.path().join("data");
    let arguments = ["--source", repository.url(), "--jobs", "1"];
    let server = Server::start(&data, &arguments).await;
    let run = until("a running job after one that passed", async || {
        let run = server.client.runs(None, 1).await.unwrap().pop()?;
        let run = server.client.run(run.number).await.unwrap();
        let has = |state| run.nodes.iter().any(|node| node.state == state);
        (has(NodeState::Running) && has(NodeState::Passed)).then_some(run)
    })
    .await;
    assert_eq!(server.stop().await, Some(0));
    assert_clean(&data).await;
    let done: Vec<_> = run.nodes.iter().filter(|node| node.state == NodeState::Passed).collect();

    let server = Server::start(&data, &arguments).await;
    let ended = server.ended(&run.run.commit).await;
    assert_eq!((ended.run.number, ended.run.state), (run.run.number, RunState::Passed));
    for node in done {
        let after = ended.nodes.iter().find(|after| after.node == node.node).unwrap();
        assert_eq!((after.job, after.attempts), (node.job, node.attempts), "{} ran again", node.node);
    }
    assert_eq!(server.stop().await, Some(0));
    assert_clean(&data).await;
}

/// A certificate for 127.0.0.1 that signs itself.
async fn certificate(folder: &Path, name: &str) {
    let subject = format!("/CN={name}");
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        // Not an authority, as by default: rustls accepts no authority as a server's own certificate.
        .args(["-extensions", "usr_cert", "-addext", "subjectAltName=IP:127.0.0.1", "-subj", &subject])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .run()
        .await
        .unwrap();
}

/// The command's own client: an unknown authority, one in `--ca-file`, a file that is no certificate.
async fn the_command_trusts_the_authority_it_is_given(port: u16, authority: &Path, key: &Path) {
    let url = format!("https://127.0.0.1:{port}");
    let elsewhere = tempfile::tempdir().unwrap();
    let unknown = edgewright(elsewhere.path(), &["status", "--server", &url]).await.ends(5);
    assert!(unknown.errors.contains("--ca-file FILE"), "{}", unknown.errors);
    let trusted = ["status", "--server", &url, "--ca-file", authority.to_str().unwrap()];
    edgewright(elsewhere.path(), &trusted).await.ends(0);
    let invalid = ["status", "--server", &url, "--ca-file", key.to_str().unwrap()];
    let invalid = edgewright(elsewhere.path(), &invalid).await.ends(2);
    assert!(invalid.errors.contains("certificates in PEM format"), "{}", invalid.errors);
}

#[tokio::test]
async fn clients_speak_tls_and_the_certificate_changes_while_the_server_runs() {
    if !edgewright_testkit::has(&["skopeo", "curl", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    certificate(folder.path(), "first").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("edgewright.toml");
    let (certificate_file, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    let text = format!(
        "[server]\ntls_listen = \"127.0.0.1:{port}\"\ntls_certificate_file = \"{}\"\ntls_key_file = \"{}\"\n",
        certificate_file.display(),
        key.display()
    );
    fs::write(&config, text).unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--source", repository.url()];
    let server = Server::start(&folder.path().join("data"), &arguments).await;
    let commit = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&commit).await.run.state, RunState::Passed);
    let shown = edgewright(folder.path(), &["image", "show", "hmi/a"]).await.ends(0);
    assert!(
        shown.out.contains(&format!("podman pull 127.0.0.1:{port}/plants/hmi/a@sha256:")),
        "{}",
        shown.out
    );

    // Real clients with the certificate: curl for the API, skopeo for the image.
    let ready = async |name: &str| {
        let finished = Command::new("curl")
            .args(["--silent", "--verbose", "--cacert", certificate_file.to_str().unwrap()])
            .arg(format!("https://127.0.0.1:{port}/readyz"))
            .run_status()
            .await
            .unwrap();
        finished.success()
            && finished.output.stderr_tail.iter().any(|line| line.contains(&format!("CN={name}")))
    };
    assert!(ready("first").await);
    let certificates = folder.path().join("certs");
    fs::create_dir(&certificates).unwrap();
    fs::copy(&certificate_file, certificates.join("ca.crt")).unwrap();
    let reference = format!("docker://127.0.0.1:{port}/plants/hmi/a:stable");
    let to = format!("oci:{}", folder.path().join("image").display());
    let copy = ["--insecure-policy", "copy", "--src-cert-dir", certificates.to_str().unwrap()];
    Command::new("skopeo").args(copy).args([&reference, &to]).run().await.unwrap();

    the_command_trusts_the_authority_it_is_given(port, &certificate_file, &key).await;

    certificate(folder.path(), "second").await;
    server.reload();
    until("the second certificate", async || ready("second").await.then_some(())).await;
    // Half a change is none.
    fs::write(&key, "no key").unwrap();
    server.reload();
    until("the mistake", async || server.log().contains("configuration reload failed").then_some(())).await;
    assert!(ready("second").await);
}

/// As in a Pod whose ConfigMap changes.
#[tokio::test]
async fn changed_settings_apply_without_a_signal_and_end_the_server_if_they_need_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let config = folder.path().join("edgewright.toml");
    let text = |more: &str| {
        format!(
            "[server]\non_change = \"restart\"\n{more}[[source]]\nname = \"first\"\nurl = \"{}\"\n",
            repository.url()
        )
    };
    fs::write(&config, text("")).unwrap();
    let server = Server::start(&folder.path().join("data"), &["--config", config.to_str().unwrap()]).await;
    let has = async |name: &str| {
        let sources = server.client.sources().await.unwrap();
        sources.iter().any(|source| source.name.as_str() == name).then_some(())
    };
    fs::write(&config, text("").replace("first", "second")).unwrap();
    until("the second source", async || has("second").await).await;
    // A mistake changes nothing.
    fs::write(&config, text("listen = 1\n")).unwrap();
    until("the mistake", async || server.log().contains("configuration reload failed").then_some(())).await;
    assert_eq!(has("second").await, Some(()));
    fs::write(&config, text("[keep]\nlogs = \"1d\"\n")).unwrap();
    assert_eq!(server.ends_by_itself().await, Some(0));
}
