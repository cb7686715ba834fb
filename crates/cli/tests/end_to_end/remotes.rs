//! Remotes: empty ones, ones over HTTP, ones that do not answer for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgewright_model::run::RunState;
use edgewright_process::OwnedTask;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::server::Server;
use crate::world::{Repository, edgewright, until};

/// A web server for the files of a folder: git's dumb HTTP protocol. It can be switched off.
struct Web {
    address: String,
    up: Arc<AtomicBool>,
    _server: OwnedTask<()>,
}

impl Web {
    async fn serve(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let up = Arc::new(AtomicBool::new(true));
        let is_up = Arc::clone(&up);
        let server = OwnedTask::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if is_up.load(Ordering::Acquire) {
                    // A client that goes away is none of our business.
                    let _ = answer(stream, &folder).await;
                }
            }
        });
        Self { address, up, _server: server }
    }
}

async fn answer(stream: TcpStream, folder: &std::path::Path) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let path = line.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    while stream.read_line(&mut line).await? > 2 {}
    let found = tokio::fs::read(folder.join(path.trim_start_matches('/'))).await;
    let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// A bare copy that a dumb server can serve.
async fn publish(repository: &Repository, bare: &str) {
    repository.git(&["push", "--quiet", "--force", bare, "main"]).await;
    repository.git(&["--git-dir", bare, "update-server-info"]).await;
}

#[tokio::test]
async fn a_remote_over_http_goes_away_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("work"), &["a"]).await;
    let bare = folder.path().join("web/plants.git");
    let bare = bare.to_str().unwrap();
    repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", bare]).await;
    publish(&repository, bare).await;
    let web = Web::serve(folder.path().join("web")).await;
    let url = format!("http://{}/plants.git", web.address);

    let config = folder.path().join("edgewright.toml");
    std::fs::write(&config, format!("[[source]]\nurl = \"{url}\"\npoll = \"100ms\"\n")).unwrap();
    let config = config.to_str().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--config", config]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&first).await.run.state, RunState::Passed);

    // It does not respond: the status shows it, and it is polled less and less often.
    web.up.store(false, Ordering::Release);
    let source = until("failed polls", async || {
        let source = server.client.sources().await.unwrap().remove(0);
        (source.failures >= 3).then_some(source)
    })
    .await;
    let error = source.error.unwrap();
    assert!(error.contains(&web.address), "{error}");
    let pause = source.next_poll.unwrap().duration_since(source.last_poll.unwrap());
    assert!(pause.as_millis() >= 800, "{pause:?} after {} failures", source.failures);
    let status = edgewright(folder.path(), &["status"]).await.ends(0).out;
    assert!(status.contains("plants") && status.contains(&web.address), "{status}");
    assert_eq!(server.release().await.commit, first);

    // It answers again: nothing has to be done by hand.
    repository.write("sites/a/files/etc/site", "later\n");
    let second = repository.commit("second").await;
    publish(&repository, bare).await;
    web.up.store(true, Ordering::Release);
    assert_eq!(server.ended(&second).await.run.state, RunState::Passed);
    let source = server.client.sources().await.unwrap().remove(0);
    assert_eq!((source.error, source.failures), (None, 0));

    // Without a server, too.
    let elsewhere = folder.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    edgewright(folder.path(), &["run", &url, "--data", elsewhere]).await.ends(0);
    web.up.store(false, Ordering::Release);
    let ended = edgewright(folder.path(), &["run", &url, "--data", elsewhere]).await.ends(5);
    assert!(ended.errors.contains(&web.address), "{}", ended.errors);
}

#[tokio::test]
async fn an_empty_repository_is_no_fault_and_its_first_commit_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::make(folder.path().join("plants")).await;
    let url = format!("file://{}", repository.url());
    let server = Server::start(&folder.path().join("data"), &["--source", &url]).await;
    let source = until("a poll", async || {
        let source = server.client.sources().await.unwrap().remove(0);
        source.last_poll.is_some().then_some(source)
    })
    .await;
    assert!(source.error.as_ref().is_none_or(|error| error.contains("empty")), "{source:?}");
    assert!(server.client.runs(None, 1).await.unwrap().is_empty());
    let ended = edgewright(folder.path(), &["run", &url, "--data", "other"]).await;
    assert!(ended.errors.contains("commit") || ended.errors.contains("empty"), "{}", ended.errors);
    assert!(matches!(ended.code, 2 | 3), "{ended:?}");

    let repository = Repository::plants(repository.folder, &["a"]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.builds(&first).await.run.state, RunState::Passed);
}

#[tokio::test]
async fn a_remote_that_does_not_exist_is_reported_and_others_continue() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let missing = format!("file://{}/missing.git", folder.path().display());
    let sources = ["--source", &missing, "--source", repository.url()];
    let server = Server::start(&folder.path().join("data"), &sources).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&first).await.run.state, RunState::Passed);
    let error = until("the error", async || {
        let sources = server.client.sources().await.unwrap();
        sources.into_iter().find(|source| source.name.as_str() == "missing")?.error
    })
    .await;
    assert!(error.contains("missing.git"), "{error}");
}
