//! The API over HTTP on a database of its own, through the client that the command line uses.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

use std::sync::Arc;

use edgewright_api::{Client, ImageState, NodeAction};
use edgewright_control::access::Operation;
use edgewright_control::context::OperationContext;
use edgewright_control::logs::Logs;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::order::JobId;
use edgewright_model::run::{NodeState, RunNumber, RunState, Trigger};
use edgewright_process::Clock;
use edgewright_server::{Composition, DataFolder, Options, ProcessTokens, SourceSettings};
use edgewright_store::Store;
use edgewright_store::nodes::{FixedPlan, NodeRow, PathStep};
use edgewright_store::sources::NewRun;

struct World {
    _folder: tempfile::TempDir,
    data: DataFolder,
    store: Store,
    client: Client,
    composition: Composition,
    url: String,
}

fn source() -> SourceSettings {
    let remote = "https://me:secret@git.invalid/plants.git".parse().unwrap();
    SourceSettings::new("plants".parse().unwrap(), remote, std::time::Duration::from_secs(30))
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::new(folder.path());
    let file = "[server]\nlisten = \"127.0.0.1:0\"\naddress = \"127.0.0.1:5080\"";
    let mut settings =
        Options::parse(file).unwrap().resolve(folder.path(), std::num::NonZeroUsize::MIN).unwrap();
    settings.sources = vec![source()];
    let lock = data.lock().unwrap();
    let executor = Arc::new(edgewright_job::SimulatedExecutor::new());
    let tokens = ProcessTokens::generate().unwrap();
    let composition =
        Composition::open(&settings, lock, |_| executor, tokens, Clock::system()).await.unwrap();
    let url = format!("http://{}", composition.local());
    let store = Store::open(&data.database()).await.unwrap();
    let token = std::fs::read_to_string(data.operator_token()).unwrap().trim().to_owned();
    let client = Client::new(&url).unwrap().with_token(Some(token));
    World { _folder: folder, data, store, client, composition, url }
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
    /// A run with one node, which is running.
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
        let context = OperationContext::system("polling");
        let entry = context.entry(Operation::QueueRun, "", None, None);
        let queued =
            self.store.queue_run(row.id, &new, &std::collections::BTreeSet::new(), (&entry, now)).await;
        let run = queued.unwrap();
        self.store.move_run(run, RunState::Queued, RunState::Preparing, now).await.unwrap();
        let nodes = vec![node(NodeState::Waiting, None)];
        self.store
            .fix_plan(
                run,
                FixedPlan {
                    locks: &std::collections::BTreeMap::new(),
                    summary: "builds 1 of 1",
                    nodes,
                    heads: &[],
                },
                now,
            )
            .await
            .unwrap();
        let platform = "linux/amd64".parse().unwrap();
        self.store.start_node(run, "hmi/plant-a", &platform, JobId(uuid::Uuid::now_v7()), now).await.unwrap();
        run
    }
}

#[tokio::test]
async fn a_run_has_its_plan_and_the_status_its_job() {
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
    assert_eq!(listed.url, "https://git.invalid/plants.git");
    assert_eq!(listed.subject.as_deref(), Some("plant-a: earlier shift"));

    let images = world.client.images(Some(&source().name)).await.unwrap();
    assert_eq!(images.iter().map(|image| image.state).collect::<Vec<_>>(), [ImageState::Pending]);
    let image = world.client.image(&"hmi/plant-a".parse().unwrap(), None).await.unwrap();
    assert_eq!((image.build_reason.as_str(), image.builds.len()), ("files sites/plant-a/files changed", 0));
    assert_eq!(world.client.runs(None, 5).await.unwrap().len(), 1);
    assert!(world.client.releases(None, 5).await.unwrap().is_empty());
    assert!(world.client.channels(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_is_followed_until_its_node_ends() {
    let world = world().await;
    let run = world.running().await;
    let platform = "linux/amd64".parse().unwrap();
    let path = Logs::new(world.data.root()).path(run, "hmi/plant-a", Some(&platform));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "first\n").unwrap();

    let mut log = world.client.log(run, "hmi/plant-a", true, 0).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), b"first\n");
    std::fs::write(&path, "first\nsecond\n").unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), b"second\n");
    let change = edgewright_store::nodes::NodeChange::default();
    let (from, to) = (NodeState::Running, NodeState::Failed);
    let now = Clock::system().now();
    world.store.move_node(run, ("hmi/plant-a", &platform), (from, to), change, now).await.unwrap();
    assert_eq!(log.next().await.unwrap(), None);

    let mut whole = world.client.log(run, "hmi/plant-a", false, 0).await.unwrap();
    assert_eq!(whole.next().await.unwrap().unwrap(), b"first\nsecond\n");
    let gone = world.client.log(run, "lock base", false, 0).await.unwrap_err();
    assert_eq!(gone.class(), ErrorClass::NotFound);
}

#[tokio::test]
async fn errors_are_documents_with_a_class_and_a_hint() {
    let world = world().await;
    let missing = world.client.run(RunNumber(7)).await.unwrap_err();
    assert_eq!((missing.class(), missing.to_string().as_str()), (ErrorClass::NotFound, "run 7 not found"));
    assert_eq!(missing.hint().as_deref(), Some("`edgewright runs` lists them"));
    let unknown = "unknown".parse().unwrap();
    assert_eq!(world.client.images(Some(&unknown)).await.unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(world.client.poll(&unknown).await.unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(world.client.poll(&source().name).await.unwrap().source, source().name);

    for (path, status) in [
        ("/api/v1/runs/seven", 400),
        ("/api/v1/runs?limit=many", 400),
        ("/api/v1/images/A", 400),
        ("/api/v1/runs/7/jobs/hmi/plant-a", 404),
        ("/api/v2/status", 404),
        ("/", 200),
        ("/healthz", 200),
        ("/readyz", 503),
    ] {
        let response = reqwest::get(format!("{}{path}", world.url)).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    for path in ["/api/v1/runs/7/cancel", "/hooks/github/plants"] {
        let response = reqwest::get(format!("{}{path}", world.url)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["allow"].to_str().unwrap()),
            (405, "POST")
        );
        let error: edgewright_api::ApiError = response.json().await.unwrap();
        assert_eq!(error.code, ErrorClass::UserFault, "{path}");
    }
    world.composition.start().unwrap();
    assert_eq!(reqwest::get(format!("{}/readyz", world.url)).await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn runs_are_cancelled_and_retried_over_http() {
    let world = world().await;
    let run = world.running().await;
    assert_eq!(world.client.cancel(run).await.unwrap().run, run);
    let missing = world.client.cancel(RunNumber(99)).await.unwrap_err();
    assert_eq!(missing.class(), ErrorClass::NotFound);
    assert_eq!(missing.hint().as_deref(), Some("`edgewright runs` lists them"));
    assert_eq!(world.client.retry(RunNumber(99)).await.unwrap_err().class(), ErrorClass::NotFound);
    let comment = reqwest::get(format!("{}/api/v1/runs/{run}/comment.md", world.url)).await.unwrap();
    assert_eq!(comment.headers()["content-type"], "text/markdown; charset=utf-8");
    assert!(comment.text().await.unwrap().contains("| `hmi/plant-a` | build |"));
    let document: serde_json::Value = serde_json::from_str(
        &reqwest::get(format!("{}/api/v1/openapi.json", world.url)).await.unwrap().text().await.unwrap(),
    )
    .unwrap();
    assert_eq!(document, edgewright_api::openapi::document());
    let metrics = reqwest::get(format!("{}/metrics", world.url)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("edgewright_runs{state=\"running\"} 1"), "{metrics}");
}

#[tokio::test]
async fn operations_are_found_in_the_audit_trail() {
    use edgewright_api::AuditFilter;
    let world = world().await;
    let run = world.running().await;
    world.client.cancel(run).await.unwrap();
    world.client.poll(&source().name).await.unwrap();
    assert!(world.client.cancel(RunNumber(99)).await.is_err());
    let all = AuditFilter { limit: 1, ..AuditFilter::default() };
    let page = world.client.audit(&all).await.unwrap();
    let [row] = page.entries.as_slice() else { panic!("{page:?}") };
    assert_eq!((row.operation.as_str(), row.object.as_str()), ("run.cancel", format!("runs/{run}").as_str()));
    assert_eq!((&row.before, &row.after), (&Some("running".into()), &Some("cancelled".into())));
    assert_eq!((row.actor.to_string().as_str(), row.request.is_some()), ("operator:token", true));
    let next = world.client.audit(&AuditFilter { cursor: page.next.clone(), ..all.clone() }).await.unwrap();
    assert_eq!((next.entries[0].operation.as_str(), next.next), ("run.queue", None));
    for (filter, expected) in [
        (AuditFilter { actor: Some("system:polling".parse().unwrap()), ..all.clone() }, 1),
        (AuditFilter { object: Some("runs/99".to_owned()), ..all.clone() }, 0),
        (AuditFilter { since: Some(Clock::system().now()), ..all.clone() }, 0),
    ] {
        assert_eq!(world.client.audit(&filter).await.unwrap().entries.len(), expected, "{filter:?}");
    }
    let wrong = AuditFilter { cursor: Some("x".to_owned()), ..all };
    assert_eq!(world.client.audit(&wrong).await.unwrap_err().class(), ErrorClass::UserFault);
}

#[tokio::test]
async fn events_report_the_end_of_a_run_and_stop_at_shutdown() {
    let world = world().await;
    let run = world.running().await;
    let mut events = reqwest::get(format!("{}/api/v1/events", world.url)).await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    world.client.cancel(run).await.unwrap();
    world.composition.control.drive(run).await.unwrap();
    let sent = events.chunk().await.unwrap().unwrap();
    let data = format!("event: run\ndata: {{\"run\":{run},\"state\":\"cancelled\"}}\n\n");
    assert_eq!(sent, data.as_bytes());
    world.composition.shutdown().await;
    assert_eq!(events.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn an_update_needs_a_source_that_ran() {
    let world = world().await;
    let update =
        async |name: &str| world.client.update(&name.parse().unwrap(), &["base".parse().unwrap()]).await;
    let unknown = update("unknown").await.unwrap_err();
    assert_eq!(unknown.class(), ErrorClass::Conflict, "{unknown}");
    let never_run = update("plants").await.unwrap_err();
    assert!(never_run.to_string().contains("no commit of the source was run yet"), "{never_run}");
}

#[tokio::test]
async fn deliveries_are_retried_and_a_reload_changes_sinks_and_sources() {
    use axum::http::StatusCode;
    let world = world().await;
    let received = Arc::new(std::sync::Mutex::new(Vec::<serde_json::Value>::new()));
    let events = Arc::clone(&received);
    let take = move |body: String| {
        let events = Arc::clone(&events);
        async move {
            let mut events = events.lock().unwrap();
            events.push(serde_json::from_str(&body).unwrap());
            // The first attempt fails, so it is repeated.
            if events.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/", axum::routing::post(take));
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });

    let secret = world.data.root().join("hook");
    std::fs::write(&secret, "0123456789abcdef0123\n").unwrap();
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\naddress = \"127.0.0.1:5080\"\n[[sink]]\nname = \"ops\"\nkind = \"cloud-events\"\n\
         url = \"http://{address}/\"\n[[source]]\nurl = \"/no/such/other\"\nhook_secret_file = \"{}\"",
        secret.display()
    );
    let settings =
        Options::parse(&file).unwrap().resolve(world.data.root(), std::num::NonZeroUsize::MIN).unwrap();
    let changes = world.composition.reload(&settings).await.unwrap();
    assert_eq!(changes[..3], ["source plants removed", "source other added", "1 sinks configured"]);
    assert!(changes.contains(&"`server.listen` applies after a restart".to_owned()), "{changes:?}");
    let hook = |token: &'static str| {
        let request = reqwest::Client::new().post(format!("{}/hooks/gitlab/other", world.url));
        async move { request.header("x-gitlab-token", token).send().await.unwrap().status().as_u16() }
    };
    assert_eq!((hook("0123456789abcdef0123").await, hook("another").await), (202, 401));

    // A new sink receives events from now on.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !world.store.sinks().await.unwrap().iter().any(|sink| sink.name == "ops") {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let run = world.running().await;
    while received.lock().unwrap().len() < 3 {
        assert!(std::time::Instant::now() < deadline, "{received:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let received = received.lock().unwrap();
    assert_eq!(received[0], received[1], "every attempt sends the same");
    assert_eq!(received[0]["type"], "dev.edgewright.run.changed");
    assert_eq!(received[0]["subject"], format!("plants/runs/{run}"));
    assert_eq!(
        (&received[0]["data"]["state"], &received[2]["data"]["previous"]),
        (&"queued".into(), &"queued".into())
    );
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_restored_without_channel_positions() {
    use edgewright_server::backup::{BackupError, backup, restore};
    let world = world().await;
    let run = world.running().await;
    let file = world.data.root().join("backup.tar");
    let now = Clock::system().now();
    let made = backup(&world.data, &file, now).await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(backup(&world.data, &file, now).await.unwrap_err().class(), ErrorClass::Conflict);
    let place = tempfile::tempdir().unwrap();
    let folder = DataFolder::new(place.path().join("new"));
    assert_eq!(restore(&file, &folder).await.unwrap(), made);
    assert!(matches!(restore(&file, &folder).await.unwrap_err(), BackupError::NotEmpty { .. }));
    let store = Store::open(&folder.database()).await.unwrap();
    assert_eq!(store.run(run).await.unwrap().unwrap().state, RunState::Cancelled);
    let source = store.sources().await.unwrap()[0].id;
    assert!(store.decided(source).await.unwrap().is_empty());

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = place.path().join("damaged.tar");
    std::fs::write(&damaged, bytes).unwrap();
    let other = DataFolder::new(place.path().join("other"));
    assert!(restore(&damaged, &other).await.is_err());
    assert!(!other.database().exists());
}
