//! A server with an API client and an open database, in which tests make runs.

use std::sync::Arc;

use edgewright_api::Client;
use edgewright_control::access::Operation;
use edgewright_control::context::OperationContext;
use edgewright_model::Digest;
use edgewright_model::order::JobId;
use edgewright_model::run::{NodeState, RunNumber, RunState, Trigger};
use edgewright_process::Clock;
use edgewright_server::{Composition, DataFolder, Options, ProcessTokens, SourceSettings};
use edgewright_store::Store;
use edgewright_store::nodes::{FixedPlan, NodeLane, NodeRow, PathStep};
use edgewright_store::sources::NewRun;

/// A server with an API client, and its database.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    pub(crate) data: DataFolder,
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) composition: Composition,
    pub(crate) url: String,
}

pub(crate) fn source() -> SourceSettings {
    let remote = "https://me:secret@git.invalid/plants.git".parse().unwrap();
    SourceSettings::new("plants".parse().unwrap(), remote, std::time::Duration::from_secs(30))
}

pub(crate) async fn world() -> World {
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
        Composition::open(&settings, lock, |_, _| executor, tokens, Clock::system()).await.unwrap();
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
        steps: vec![PathStep {
            key: Digest::of("key"),
            title: "files sites/plant-a/files".to_owned(),
            base: None,
        }],
        lanes: None,
        not_before: None,
        notes: Vec::new(),
        started_at: None,
        finished_at: None,
    }
}

impl World {
    /// A run with one node, which is running.
    pub(crate) async fn running(&self) -> RunNumber {
        self.running_in("main", None).await
    }

    /// The same of a ref, and with the lanes that its commit asks for.
    pub(crate) async fn running_in(&self, branch: &str, lanes: Option<Vec<NodeLane>>) -> RunNumber {
        let now = Clock::system().now();
        let row = self.store.upsert_source(&source().name, &source().remote.to_string(), now).await.unwrap();
        let new = NewRun {
            branch: branch.to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            subject: if branch == "main" { "plant-a: earlier shift" } else { "of a pull request" }.to_owned(),
            author: "A <a@example>".to_owned(),
            trigger: Trigger::Commit,
            trusted: true,
        };
        let context = OperationContext::system("polling");
        let entry = context.entry(Operation::QueueRun, "", None, None);
        let queued =
            self.store.queue_run(row.id, &new, &std::collections::BTreeSet::new(), (&entry, now)).await;
        let run = queued.unwrap();
        self.store.move_run(run, RunState::Queued, RunState::Preparing, now).await.unwrap();
        let nodes = vec![NodeRow { lanes, ..node(NodeState::Waiting, None) }];
        self.store
            .fix_plan(
                run,
                FixedPlan {
                    locks: &std::collections::BTreeMap::new(),
                    tools: &edgewright_model::tools::ToolVersions::default(),
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
