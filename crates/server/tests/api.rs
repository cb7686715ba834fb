//! The API over HTTP on a database of its own, through the client that the command line uses.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use common::world::{source, world};
use edgewright_api::{EvidenceQuery, ImageState, NodeAction};
use edgewright_control::logs::Logs;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::order::{BlobRef, ManifestRef};
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{Evidence, LaneResult, RecordedOn, Verdict, VerdictOrigin};
use edgewright_process::Clock;
use edgewright_store::nodes::{NodeChange, NodeLane};
use edgewright_store::results::NodeResult;

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

    // What a run begins with has a log, too, before there are nodes.
    let of_tools = Logs::new(world.data.root()).path(run, "tools", None);
    std::fs::write(of_tools, "[waits for quota]\n").unwrap();
    let mut of_tools = world.client.log(run, "tools", false, 0).await.unwrap();
    assert_eq!(of_tools.next().await.unwrap().unwrap(), b"[waits for quota]\n");
}

#[tokio::test]
async fn a_log_that_is_followed_ends_at_shutdown() {
    let world = world().await;
    let run = world.running().await;
    let path = Logs::new(world.data.root()).path(run, "hmi/plant-a", Some(&"linux/amd64".parse().unwrap()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "first\n").unwrap();
    let mut log = world.client.log(run, "hmi/plant-a", true, 0).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), b"first\n");
    world.composition.shutdown().await;
    assert_eq!(log.next().await.unwrap(), None, "it was not aborted");
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

/// A verdict of the container lane on the digest `manifest`, with a piece of evidence.
fn verdict(check_set: &str, passed: bool, journal: &[u8]) -> Verdict {
    let manifest =
        ManifestRef { repository: "plants/hmi/plant-a".parse().unwrap(), digest: Digest::of("manifest") };
    let failed = LaneResult::Failed { kind: FailureKind::Image, message: "check `n`: bad".to_owned() };
    let blob = BlobRef {
        repository: manifest.repository.clone(),
        digest: Digest::of(journal),
        size: journal.len() as u64,
    };
    Verdict {
        lane: Lane::Container,
        manifest,
        check_set: Digest::of(check_set),
        inputs: edgewright_job::local_lane_profile(Lane::Container).unwrap().inputs(None),
        recorded_on: RecordedOn::default(),
        result: if passed { LaneResult::Passed } else { failed },
        checks: Vec::new(),
        evidence: vec![Evidence { name: "journal".to_owned(), media_type: "text/html".to_owned(), blob }],
        duration_ms: 1,
        origin: VerdictOrigin::Ran,
    }
}

/// Ends the running node of a run with verdicts.
async fn end_node(world: &common::world::World, run: RunNumber, verdicts: &[Verdict]) {
    let job = world.store.nodes(run).await.unwrap()[0].job.unwrap();
    let digest = Digest::of("manifest");
    let check_sets: Vec<_> = verdicts.iter().map(|verdict| (verdict.check_set.clone(), Vec::new())).collect();
    let result = NodeResult {
        run,
        node: "hmi/plant-a",
        platform: &"linux/amd64".parse().unwrap(),
        job,
        builds: &[],
        verdicts,
        check_sets: &check_sets,
        state: NodeState::Passed,
        change: NodeChange { digest: Some(&digest), ..NodeChange::default() },
    };
    world.store.record(result, Clock::system().now()).await.unwrap();
}

#[tokio::test]
async fn the_shown_verdict_is_that_for_the_checks_of_the_commit() {
    let world = world().await;
    let lanes = vec![NodeLane { lane: Lane::Container, check_set: Digest::of("n") }];
    let run = world.running_in("main", Some(lanes)).await;
    // The same digest failed the checks of a commit in between.
    end_node(&world, run, &[verdict("n", true, b"n"), verdict("q", false, b"q")]).await;
    let view = world.client.run(run).await.unwrap();
    let shown: Vec<&LaneResult> = view.nodes[0].verdicts.iter().map(|verdict| &verdict.result).collect();
    assert_eq!(shown, [&LaneResult::Passed]);
}

#[tokio::test]
async fn evidence_is_listed_and_served_as_plain_text() {
    let world = world().await;
    let run = world.running().await;
    let journal = b"<script>alert(1)</script>\n\x1b[2J";
    end_node(&world, run, &[verdict("n", true, journal)]).await;
    let digest = Digest::of(journal);
    let folder = world.data.registry().join("blobs/sha256").join(&digest.hex()[..2]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(digest.hex()), journal).unwrap();

    let pieces = world.client.evidence(run, "hmi/plant-a").await.unwrap();
    let [piece] = pieces.as_slice() else { panic!("{pieces:?}") };
    assert_eq!((piece.name.as_str(), piece.lane, piece.run), ("journal", Lane::Container, run));
    let of = EvidenceQuery { lane: Some(Lane::Container), platform: Some(piece.platform.clone()) };
    assert_eq!(world.client.piece(run, "hmi/plant-a", "journal", &of).await.unwrap(), journal);
    let url = format!("{}/api/v1/runs/{run}/pieces/journal/hmi/plant-a", world.url);
    let token = std::fs::read_to_string(world.data.operator_token()).unwrap();
    let response = reqwest::Client::new().get(url).bearer_auth(token.trim()).send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-disposition").starts_with("attachment"));

    let other = EvidenceQuery { lane: Some(Lane::Static), ..EvidenceQuery::default() };
    for (node, name, of) in
        [("hmi/plant-a", "console", &of), ("hmi/plant-a", "journal", &other), ("nowhere", "journal", &of)]
    {
        let error = world.client.piece(run, node, name, of).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{node} {name}");
    }
    // What is on the disk is not what the lane stored.
    std::fs::write(folder.join(digest.hex()), "something else").unwrap();
    assert!(world.client.piece(run, "hmi/plant-a", "journal", &of).await.is_err());
}

#[tokio::test]
async fn the_status_shows_the_branch_and_who_is_not_followed() {
    let world = world().await;
    world.running().await;
    world.running_in("refs/pull/1/head", None).await;
    let now = Clock::system().now();
    world.store.upsert_source(&"gone".parse().unwrap(), "file:///gone", now).await.unwrap();
    let status = world.client.status().await.unwrap();
    let of = |name: &str| status.sources.iter().find(|source| source.name.as_str() == name).unwrap();
    assert_eq!(of("plants").subject.as_deref(), Some("plant-a: earlier shift"));
    assert_eq!((of("plants").followed, of("gone").followed), (Some(true), Some(false)));
}

#[tokio::test]
async fn reports_of_devices_are_kept_once_and_in_order() {
    use edgewright_api::access::Method;
    use edgewright_api::{DeviceReport, DeviceReports};
    let served = common::Served::start(false).await;
    let device = "press-1".parse().unwrap();
    let report = |sequence: u64| -> DeviceReport {
        serde_json::from_value(serde_json::json!({
            "stream": "0a", "sequence": sequence, "at": "2026-11-28T00:00:00Z", "boot": "b",
            "sender": "test/1", "kind": "a-kind-of-later", "a-key-of-later": 1,
        }))
        .unwrap()
    };
    let client = served.client();
    let send = async |from: u64, to: u64| {
        let reports = DeviceReports { reports: (from..=to).map(report).collect() };
        client.post_device_reports(&device, &reports).await
    };
    assert_eq!(send(1, 3).await.unwrap().added, 3);
    assert_eq!(send(2, 4).await.unwrap().added, 1);
    let kept = client.device_reports(&device, 10).await.unwrap();
    let numbers: Vec<u64> = kept.iter().map(|row| row.report.sequence).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    assert_eq!(client.device_reports(&device, 2).await.unwrap().len(), 2);
    assert!(client.device_reports(&"other".parse().unwrap(), 10).await.unwrap().is_empty());
    assert!(send(1, 101).await.unwrap_err().to_string().contains("at most 100"));
    // The newest 1000 stay.
    for first in (5..1100).step_by(100) {
        send(first, first + 99).await.unwrap();
    }
    let kept = client.device_reports(&device, 1000).await.unwrap();
    assert_eq!((kept.len(), kept[0].report.sequence, kept[999].report.sequence), (1000, 1104, 105));
    // The token of devices is for reports alone.
    let ask =
        async |method, path| served.ask(method, path, common::Credentials::Device).await.status().as_u16();
    assert_eq!(ask(Method::Post, "/api/v1/devices/press-1/reports").await, 400);
    assert_eq!(ask(Method::Get, "/api/v1/devices/press-1/reports").await, 403);
    assert_eq!(ask(Method::Get, "/api/v1/status").await, 403);
    served.close().await;
}
