//! A run's nodes: the plan and its progress.

mod write;

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{ImageName, Platform, VariantName};
use edgewright_model::order::JobId;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::Note;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::heads::{self, Head};
use crate::write::{changed_one, run_all};
use crate::{Store, StoreError, row, unchanged};
use write::insert_node;
pub(crate) use write::move_node;

/// One of the steps that make a node from scratch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStep {
    /// The key of the image up to and including it.
    pub key: Digest,
    /// `bootstrap trixie`, `files sites/plant-a/files`.
    pub title: String,
    /// For the first step on an image of a registry: the key of that image alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
}

/// A lane that a commit asks for of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLane {
    pub lane: Lane,
    /// The digest of its checks.
    pub check_set: Digest,
}

/// A node of a run, for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// `hmi/plant-a`, or a prefix `hmi~1a2b3c4d5e6f`.
    pub node: String,
    pub platform: Platform,
    /// The variant; none for prefixes.
    pub variant: Option<VariantName>,
    /// Its input key; none where its definition has errors.
    pub key: Option<Digest>,
    /// `build`, `test`, `reuse`, `retire`, `blocked`.
    pub action: String,
    /// Why, as text.
    pub reason: String,
    pub state: NodeState,
    /// The newest job.
    pub job: Option<JobId>,
    /// Jobs so far.
    pub attempts: u32,
    /// The running job's phase.
    pub phase: Option<Phase>,
    /// Why it failed.
    pub failure: Option<JobFailure>,
    /// The platform manifest.
    pub digest: Option<Digest>,
    /// All its steps, from scratch on.
    pub steps: Vec<PathStep>,
    /// Its lanes; none if an earlier version wrote the row.
    pub lanes: Option<Vec<NodeLane>>,
    /// When a retry is due.
    pub not_before: Option<Timestamp>,
    /// What its state alone does not show.
    pub notes: Vec<Note>,
    /// When its first job began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A node whose job was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    pub node: String,
    pub platform: Platform,
    pub state: NodeState,
}

fn node(row: &SqliteRow) -> Result<NodeRow, StoreError> {
    let job: Option<uuid::Uuid> = row::maybe(row, "job")?;
    let phase: Option<String> = row::maybe(row, "phase")?;
    Ok(NodeRow {
        node: row::text(row, "node")?,
        platform: row::text(row, "platform")?,
        variant: row::maybe(row, "variant")?,
        key: row::maybe(row, "key")?,
        action: row::text(row, "action")?,
        reason: row::text(row, "reason")?,
        state: row::text(row, "state")?,
        job: job.map(JobId),
        attempts: row::number(row, "attempts")?,
        phase: phase.and_then(|phase| serde_json::from_value(phase.into()).ok()),
        failure: row::maybe_json(row, "failure")?,
        digest: row::maybe(row, "digest")?,
        steps: row::json(row, "steps")?,
        lanes: row::maybe_json(row, "lanes")?,
        not_before: row::maybe(row, "not_before")?,
        notes: row::json(row, "notes")?,
        started_at: row::maybe(row, "started_at")?,
        finished_at: row::maybe(row, "finished_at")?,
    })
}

/// How a node's state changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeChange<'a> {
    /// Why it failed.
    pub failure: Option<&'a JobFailure>,
    /// The platform manifest.
    pub digest: Option<&'a Digest>,
    /// When a retry is due.
    pub not_before: Option<Timestamp>,
    /// Replaces the notes; `None` keeps them.
    pub notes: Option<&'a [Note]>,
}

/// A plan that a run is to carry out.
#[derive(Debug)]
pub struct FixedPlan<'a> {
    /// The locks that it was made with: overlay numbers, none for committed ones.
    pub locks: &'a BTreeMap<ImageName, Option<u32>>,
    /// The programs that it was made with.
    pub tools: &'a ToolVersions,
    /// One line that sums it up.
    pub summary: &'a str,
    pub nodes: Vec<NodeRow>,
    /// The heads of the branch that it was compared with.
    pub heads: &'a [Head],
}

impl Store {
    /// Fixes a run's plan and sets the run running. Gives the unchanged nodes.
    pub async fn fix_plan(
        &self,
        number: RunNumber,
        plan: FixedPlan<'_>,
        now: Timestamp,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let FixedPlan { locks, tools, summary, nodes, heads } = plan;
        let fixed = sqlx::query(
            "UPDATE runs SET state = ?, generation = generation + 1, locks = ?, tools = ?, summary = ?
             WHERE number = ? AND state = ? AND cancel_requested_at IS NULL",
        )
        .bind(RunState::Running.name())
        .bind(row::to_json(locks)?)
        .bind(row::to_json(tools)?)
        .bind(summary)
        .bind(number.0)
        .bind(RunState::Preparing.name());
        let parts = unchanged::partition(number, &nodes, heads, now);
        let kept: Vec<&NodeRow> = select_nodes(&nodes, &parts.is_unchanged, true).collect();
        let document = self.unchanged_statements(number, &kept).await?;
        let mut own = Vec::new();
        for (position, node) in (0_u32..).zip(select_nodes(&nodes, &parts.is_unchanged, false)) {
            own.push(insert_node(number, position, node, now)?);
            if node.state.is_good() {
                own.push(heads::advance(number, &node.node, &node.platform));
            }
        }
        self.write(move |db| {
            Box::pin(async move {
                let done = fixed.execute(&mut *db).await.doing("fix a plan")?;
                changed_one(&done, || format!("run {number}"))?;
                run_all(db, "note which variants are retired", parts.retirements).await?;
                run_all(db, "note the unchanged nodes", document).await?;
                run_all(db, "store nodes", own).await
            })
        })
        .await?;
        let nodes = nodes.into_iter().zip(parts.is_unchanged);
        Ok(nodes.filter_map(|(node, is_unchanged)| is_unchanged.then_some(node)).collect())
    }

    /// All nodes of a run's plan: those that it works on, in its order, then the unchanged.
    pub async fn nodes(&self, number: RunNumber) -> Result<Vec<NodeRow>, StoreError> {
        let mut nodes = self.own_nodes(number).await?;
        nodes.extend(self.unchanged_nodes(number).await?);
        Ok(nodes)
    }

    /// The nodes that a run works on, or whose build differs from the branch's head, in the plan's order.
    pub async fn own_nodes(&self, number: RunNumber) -> Result<Vec<NodeRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM run_nodes WHERE run = ? ORDER BY position")
            .bind(number.0)
            .fetch_all(&self.readers)
            .await
            .doing("list nodes")?;
        rows.iter().map(node).collect()
    }

    /// The nodes of a name that a run works on, one per platform.
    pub async fn nodes_named(&self, run: RunNumber, name: &str) -> Result<Vec<NodeRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM run_nodes WHERE run = ? AND node = ? ORDER BY position")
            .bind(run.0)
            .bind(name)
            .fetch_all(&self.readers)
            .await
            .doing("read a node")?;
        rows.iter().map(node).collect()
    }

    /// The state of a run, and of one of its nodes for a platform; none for one that it does not work on.
    pub async fn progress(
        &self,
        run: RunNumber,
        node: Option<(&str, &Platform)>,
    ) -> Result<Option<(RunState, Option<NodeState>)>, StoreError> {
        let (name, platform) = node.unzip();
        let found = sqlx::query(
            "SELECT r.state AS run_state, n.state AS node_state FROM runs r
             LEFT JOIN run_nodes n ON n.run = r.number AND n.node = ? AND n.platform = ? WHERE r.number = ?",
        )
        .bind(name)
        .bind(platform.map(Platform::to_string))
        .bind(run.0)
        .fetch_optional(&self.readers)
        .await
        .doing("read a run's progress")?;
        found.map(|row| Ok((row::text(&row, "run_state")?, row::maybe(&row, "node_state")?))).transpose()
    }

    /// The nodes of a run whose job was started, in this order.
    pub async fn started_jobs(&self, run: RunNumber) -> Result<Vec<JobRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT node, platform, state FROM run_nodes WHERE run = ? AND started_at IS NOT NULL
             ORDER BY started_at, node, platform",
        )
        .bind(run.0)
        .fetch_all(&self.readers)
        .await
        .doing("list started jobs")?;
        let job = |row: &SqliteRow| {
            Ok(JobRow {
                node: row::text(row, "node")?,
                platform: row::text(row, "platform")?,
                state: row::text(row, "state")?,
            })
        };
        rows.iter().map(job).collect()
    }

    /// The nodes of some runs that have a job now.
    pub async fn running_nodes(&self, runs: &[RunNumber]) -> Result<Vec<(RunNumber, NodeRow)>, StoreError> {
        let rows = sqlx::query(
            "SELECT n.* FROM json_each(?) wanted CROSS JOIN run_nodes n ON n.run = wanted.value
             WHERE n.state = 'running' ORDER BY n.run, n.position",
        )
        .bind(row::to_json(&runs.iter().map(|run| run.0).collect::<Vec<_>>())?)
        .fetch_all(&self.readers)
        .await
        .doing("list running nodes")?;
        rows.iter().map(|row| Ok((RunNumber(row::number(row, "run")?), node(row)?))).collect()
    }

    /// The lanes that the newest good node of each of some platform manifests was asked for by a commit, a
    /// trusted one first.
    pub async fn lanes_of(
        &self,
        digests: &BTreeSet<&Digest>,
    ) -> Result<BTreeMap<Digest, Vec<NodeLane>>, StoreError> {
        let rows = sqlx::query(
            "SELECT n.digest, n.lanes, max(n.run + r.trusted * 1000000000000) FROM json_each(?) wanted
             CROSS JOIN run_nodes n ON n.digest = wanted.value JOIN runs r ON r.number = n.run
             WHERE n.state IN ('passed', 'reused') AND n.lanes IS NOT NULL AND r.trigger <> 'update'
             GROUP BY n.digest",
        )
        .bind(row::to_json(digests)?)
        .fetch_all(&self.readers)
        .await
        .doing("list lanes of digests")?;
        rows.iter().map(|row| Ok((row::text(row, "digest")?, row::json(row, "lanes")?))).collect()
    }

    /// The newest good nodes, trusted ones first, that have a digest: a platform manifest's, or of all
    /// platforms of an index.
    pub async fn nodes_of(&self, digest: &Digest) -> Result<Vec<(RunNumber, NodeRow)>, StoreError> {
        let rows = sqlx::query(
            "SELECT n.*, max(n.run + r.trusted * 1000000000000) % 1000000000000 AS newest FROM run_nodes n
             JOIN runs r ON r.number = n.run WHERE n.state IN ('passed', 'reused') AND (n.digest = ?1 OR n.digest IN
             (SELECT m.value FROM indexes i, json_each(i.manifests) m WHERE i.digest = ?1))
             GROUP BY n.platform ORDER BY n.platform",
        )
        .bind(digest.to_string())
        .fetch_all(&self.readers)
        .await
        .doing("find what built a digest")?;
        rows.iter().map(|row| Ok((RunNumber(row::number(row, "newest")?), node(row)?))).collect()
    }

    /// The nodes that have a platform manifest, in any state, those of the newest runs first.
    pub async fn nodes_with(&self, digest: &Digest) -> Result<Vec<NodeRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM run_nodes WHERE digest = ? ORDER BY run DESC, position LIMIT 50")
                .bind(digest.to_string())
                .fetch_all(&self.readers)
                .await
                .doing("list the nodes of a digest")?;
        rows.iter().map(node).collect()
    }

    /// Whether a run took a platform manifest: its lanes passed in it, some perhaps by an exception.
    pub async fn has_passed_in(&self, run: RunNumber, digest: &Digest) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM run_nodes WHERE run = ? AND digest = ? AND state = 'passed'")
            .bind(run.0)
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await;
        Ok(found.doing("find a digest in a run")?.is_some())
    }

    /// Notes that a node's job begins. Fails in a run that is to be cancelled.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the node is not waiting, or the run is being cancelled.
    pub async fn start_node(
        &self,
        number: RunNumber,
        node: &str,
        platform: &Platform,
        job: JobId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE run_nodes SET state = 'running', job = ?1, attempts = attempts + 1, phase = NULL, failure = NULL,
             not_before = NULL, notes = '[]', started_at = coalesce(started_at, ?2)
             WHERE run = ?3 AND node = ?4 AND platform = ?5 AND state = 'waiting'
             AND NOT EXISTS (SELECT 1 FROM runs WHERE number = ?3 AND cancel_requested_at IS NOT NULL)",
        )
        .bind(job.to_string())
        .bind(now.to_string())
        .bind(number.0)
        .bind(node)
        .bind(platform.to_string());
        let done = self.execute("start a node", statement).await?;
        changed_one(&done, || format!("node {node}"))
    }

    /// Notes the phase of a running node; does nothing for one that has ended.
    pub async fn note_phase(
        &self,
        number: RunNumber,
        node: &str,
        platform: &Platform,
        phase: Phase,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_value(phase).ok().and_then(|value| value.as_str().map(str::to_owned));
        let statement = sqlx::query("UPDATE run_nodes SET phase = ? WHERE run = ? AND node = ? AND platform = ? AND state = 'running'")
            .bind(text)
            .bind(number.0)
            .bind(node)
            .bind(platform.to_string());
        self.execute("note a phase", statement).await?;
        Ok(())
    }

    /// Moves a node from one state to another; fails if it changed in between.
    pub async fn move_node(
        &self,
        number: RunNumber,
        key: (&str, &Platform),
        states: (NodeState, NodeState),
        change: NodeChange<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let moved = move_node(number, key, states, change, now)?;
        self.write(move |db| Box::pin(moved.run(db))).await
    }

    /// After a crash: nodes of a run that were running wait again.
    pub async fn reset_interrupted(&self, number: RunNumber) -> Result<u64, StoreError> {
        let statement = sqlx::query(
            "UPDATE run_nodes SET state = 'waiting', job = NULL, phase = NULL, attempts = max(attempts - 1, 0)
             WHERE run = ? AND state = 'running'",
        );
        let done = self.execute("reset interrupted nodes", statement.bind(number.0)).await?;
        Ok(done.rows_affected())
    }
}

/// The nodes that are unchanged, or those that are not.
fn select_nodes<'a>(
    nodes: &'a [NodeRow],
    is_unchanged: &[bool],
    wanted: bool,
) -> impl Iterator<Item = &'a NodeRow> {
    nodes.iter().zip(is_unchanged).filter(move |(_, is)| **is == wanted).map(|(node, _)| node)
}
