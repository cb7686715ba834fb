//! The API over HTTP against a database of its own, through the client that the command line uses.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgewright_api::{Client, ImageState, NodeAction};
use edgewright_control::logs::Logs;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::order::JobId;
use edgewright_model::run::{NodeState, RunNumber, RunState, Trigger};
use edgewright_process::Clock;
use edgewright_server::http::{ApiState, router};
use edgewright_server::views::{Serving, Views};
use edgewright_server::{DataFolder, SourceSettings};
use edgewright_store::Store;
use edgewright_store::nodes::{NodeRow, PathStep};
use edgewright_store::sources::NewRun;

struct World {
    _folder: tempfile::TempDir,
    data: DataFolder,
    store: Store,
    client: Client,
    ready: Arc<AtomicBool>,
    url: String,
}

fn source() -> SourceSettings {
    SourceSettings {
        name: "plants".parse().unwrap(),
        remote: "https://me:secret@git.example/plants.git".parse().unwrap(),
        branch: None,
        poll: std::time::Duration::from_secs(30),
    }
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::new(folder.path());
    let store = Store::open(&data.database()).await.unwrap();
    let serving = Serving { address: "127.0.0.1:5080".to_owned(), sources: vec![source()] };
    let views = Views::new(store.clone(), data.clone(), Clock::system(), Some(serving));
    let ready = Arc::new(AtomicBool::new(false));
    let state =
        ApiState { views, wake: Arc::new(|name| name.as_str() == "plants"), ready: Arc::clone(&ready) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router(state)).await.unwrap() });
    World { _folder: folder, data, store, client: Client::new(&url).unwrap(), ready, url }
}

fn node(state: NodeState, job: Option<JobId>) -> NodeRow {
    NodeRow {
        node: "hmi/plant-a".to_owned(),
        platform: "linux/amd64".parse().unwrap(),
        variant: Some("hmi/plant-a".parse().unwrap()),
        key: Some(Digest::of("key")),
        action: "build".to_owned(),
        reason: "files sites/plant-a/files changed".to_owned(),
        state,
        job,
        attempts: 0,
        phase: None,
        failure: None,
        digest: None,
        steps: vec![PathStep { key: Digest::of("key"), title: "files sites/plant-a/files".to_owned() }],
        not_before: None,
        notes: Vec::new(),
        started_at: None,
        finished_at: None,
    }
}

impl World {
    /// A run whose one node runs.
    async fn running(&self) -> RunNumber {
        let now = Clock::system().now();
        let row = self.store.upsert_source(&source().name, &source().remote.to_string(), now).await.unwrap();
        let new = NewRun {
            branch: "main".to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            subject: "plant-a: earlier shift".to_owned(),
            author: "A <a@example>".to_owned(),
            trigger: Trigger::Commit,
        };
        let run = self.store.queue_run(row.id, &new, now).await.unwrap();
        self.store.move_run(run, RunState::Queued, RunState::Preparing, now).await.unwrap();
        let nodes = [node(NodeState::Waiting, None)];
        self.store
            .fix_plan(run, &std::collections::BTreeMap::new(), "builds 1 of 1", &nodes, now)
            .await
            .unwrap();
        let platform = "linux/amd64".parse().unwrap();
        self.store.start_node(run, "hmi/plant-a", &platform, JobId(uuid::Uuid::now_v7()), now).await.unwrap();
        run
    }
}

#[tokio::test]
async fn a_run_is_shown_with_its_plan_and_the_status_with_its_job() {
    let world = world().await;
    let run = world.running().await;
    let view = world.client.run(run).await.unwrap();
    assert_eq!((view.run.number, view.run.state, view.run.counts.build), (run, RunState::Running, 1));
    let [node] = view.nodes.as_slice() else { panic!("{view:?}") };
    assert_eq!((node.action, node.state), (NodeAction::Build, NodeState::Running));
    assert_eq!(node.reason, "files sites/plant-a/files changed");

    let status = world.client.status().await.unwrap();
    assert_eq!((status.active.len(), status.queue.len(), status.jobs.len()), (1, 0, 1));
    assert_eq!(status.registry.as_deref(), Some("127.0.0.1:5080"));
    let [listed] = status.sources.as_slice() else { panic!("{status:?}") };
    assert_eq!(listed.url, "https://git.example/plants.git");
    assert_eq!(listed.subject.as_deref(), Some("plant-a: earlier shift"));

    let images = world.client.images(Some(&source().name)).await.unwrap();
    assert_eq!(images.iter().map(|image| image.state).collect::<Vec<_>>(), [ImageState::Pending]);
    let image = world.client.image(&"hmi/plant-a".parse().unwrap(), None).await.unwrap();
    assert_eq!((image.why.as_str(), image.builds.len()), ("files sites/plant-a/files changed", 0));
    assert_eq!(world.client.runs(None, 5).await.unwrap().len(), 1);
    assert!(world.client.releases(None, 5).await.unwrap().is_empty());
    assert!(world.client.channels(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_is_followed_until_its_node_is_over() {
    let world = world().await;
    let run = world.running().await;
    let platform = "linux/amd64".parse().unwrap();
    let path = Logs::new(world.data.root()).path(run, "hmi/plant-a", Some(&platform));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "first\n").unwrap();

    let mut log = world.client.log(run, "hmi/plant-a", true).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), b"first\n");
    std::fs::write(&path, "first\nsecond\n").unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), b"second\n");
    let change = edgewright_store::nodes::NodeChange::default();
    let (from, to) = (NodeState::Running, NodeState::Failed);
    let now = Clock::system().now();
    world.store.move_node(run, ("hmi/plant-a", &platform), from, to, change, now).await.unwrap();
    assert_eq!(log.next().await.unwrap(), None);

    let mut whole = world.client.log(run, "hmi/plant-a", false).await.unwrap();
    assert_eq!(whole.next().await.unwrap().unwrap(), b"first\nsecond\n");
    let gone = world.client.log(run, "lock base", false).await.unwrap_err();
    assert_eq!(gone.class(), ErrorClass::NotFound);
}

#[tokio::test]
async fn refusals_are_documents_with_a_class_and_a_hint() {
    let world = world().await;
    let missing = world.client.run(RunNumber(7)).await.unwrap_err();
    assert_eq!((missing.class(), missing.to_string().as_str()), (ErrorClass::NotFound, "there is no run 7"));
    assert_eq!(missing.hint().as_deref(), Some("`edgewright runs` lists them"));
    let unknown = "nobody".parse().unwrap();
    assert_eq!(world.client.images(Some(&unknown)).await.unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(world.client.poll(&unknown).await.unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(world.client.poll(&source().name).await.unwrap().source, source().name);

    for (path, status) in [
        ("/api/v1/runs/seven", 400),
        ("/api/v1/runs?limit=many", 400),
        ("/api/v1/images/A", 400),
        ("/api/v1/runs/7/jobs/hmi/plant-a", 404),
        ("/api/v2/status", 404),
        ("/healthz", 200),
        ("/readyz", 503),
    ] {
        let answer = reqwest::get(format!("{}{path}", world.url)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    world.ready.store(true, Ordering::Release);
    assert_eq!(reqwest::get(format!("{}/readyz", world.url)).await.unwrap().status().as_u16(), 200);
}
