//! The nodes that a run found unchanged: what a plan reuses as it is, and what was retired before.
//!
//! A commit that changes one of a thousand variants writes one row; the 999 others are one document, shared
//! with every other run that found the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::verdict::Note;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use crate::error::Operation as _;
use crate::heads::{Head, retire};
use crate::nodes::{NodeLane, NodeRow, PathStep};
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// zstd's level: speed matters, and neighbouring nodes are similar.
const LEVEL: i32 = 1;
/// The largest document, in bytes. Far beyond any source; it only bounds what a damaged row can allocate.
const LARGEST: usize = 1 << 30;

/// The number of a run's nodes by action and state.
pub type Tally = Vec<(String, NodeState, u32)>;

/// A node as documents hold it.
#[derive(Serialize, Deserialize)]
struct UnchangedNode<'a> {
    node: Cow<'a, str>,
    platform: Cow<'a, Platform>,
    variant: Cow<'a, Option<VariantName>>,
    key: Cow<'a, Option<Digest>>,
    action: Cow<'a, str>,
    reason: Cow<'a, str>,
    state: NodeState,
    digest: Cow<'a, Option<Digest>>,
    steps: Cow<'a, [PathStep]>,
    /// Documents of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lanes: Cow<'a, Option<Vec<NodeLane>>>,
    notes: Cow<'a, [Note]>,
}

impl<'a> UnchangedNode<'a> {
    fn of(node: &'a NodeRow) -> Self {
        Self {
            node: Cow::Borrowed(&node.node),
            platform: Cow::Borrowed(&node.platform),
            variant: Cow::Borrowed(&node.variant),
            key: Cow::Borrowed(&node.key),
            action: Cow::Borrowed(&node.action),
            reason: Cow::Borrowed(&node.reason),
            state: node.state,
            digest: Cow::Borrowed(&node.digest),
            steps: Cow::Borrowed(&node.steps),
            lanes: Cow::Borrowed(&node.lanes),
            notes: Cow::Borrowed(&node.notes),
        }
    }

    fn into_row(self) -> NodeRow {
        NodeRow {
            node: self.node.into_owned(),
            platform: self.platform.into_owned(),
            variant: self.variant.into_owned(),
            key: self.key.into_owned(),
            action: self.action.into_owned(),
            reason: self.reason.into_owned(),
            state: self.state,
            job: None,
            attempts: 0,
            phase: None,
            failure: None,
            digest: self.digest.into_owned(),
            steps: self.steps.into_owned(),
            lanes: self.lanes.into_owned(),
            not_before: None,
            notes: self.notes.into_owned(),
            started_at: None,
            finished_at: None,
        }
    }
}

impl Store {
    /// The number of nodes of some runs by action and state.
    pub async fn tallies(&self, runs: &[RunNumber]) -> Result<BTreeMap<RunNumber, Tally>, StoreError> {
        let rows = sqlx::query(
            "WITH wanted AS (SELECT value AS run FROM json_each(?1)),
                  unchanged AS (SELECT r.number AS run, s.reused, s.retired FROM wanted w
                                CROSS JOIN runs r ON r.number = w.run JOIN standing s ON s.digest = r.standing)
             SELECT n.run, n.action, n.state, count(*) AS nodes FROM wanted w CROSS JOIN run_nodes n ON n.run = w.run
             GROUP BY n.run, n.action, n.state
             UNION ALL SELECT run, 'reuse', 'reused', reused FROM unchanged
             UNION ALL SELECT run, 'retire', 'retired', retired FROM unchanged",
        )
        .bind(row::to_json(&runs.iter().map(|run| run.0).collect::<Vec<_>>())?)
        .fetch_all(&self.readers)
        .await
        .doing("count nodes")?;
        let mut tallies: BTreeMap<RunNumber, Tally> = BTreeMap::new();
        for row in &rows {
            let count = (row::text(row, "action")?, row::text(row, "state")?, row::number(row, "nodes")?);
            tallies.entry(RunNumber(row::number(row, "run")?)).or_default().push(count);
        }
        Ok(tallies)
    }

    /// The nodes that a run found unchanged.
    pub async fn unchanged_nodes(&self, run: RunNumber) -> Result<Vec<NodeRow>, StoreError> {
        let found = sqlx::query(
            "SELECT s.document FROM runs r JOIN standing s ON s.digest = r.standing WHERE r.number = ?",
        )
        .bind(run.0)
        .fetch_optional(&self.readers)
        .await
        .doing("list unchanged nodes")?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let corrupt = |error: &dyn std::fmt::Display| StoreError::Corrupt {
            column: "document",
            message: error.to_string(),
        };
        let packed: &[u8] = found.try_get("document").map_err(|error| corrupt(&error))?;
        let json = zstd::bulk::decompress(packed, unpacked_size(packed)).map_err(|error| corrupt(&error))?;
        let unchanged: Vec<UnchangedNode<'_>> =
            serde_json::from_slice(&json).map_err(|error| corrupt(&error))?;
        Ok(unchanged.into_iter().map(UnchangedNode::into_row).collect())
    }

    /// The statements that note the nodes which a run found unchanged. The document is packed here and not on
    /// the writer: it may be long, and usually it is stored already.
    pub(crate) async fn unchanged_statements(
        &self,
        run: RunNumber,
        nodes: &[&NodeRow],
    ) -> Result<Vec<Statement>, StoreError> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let document: Vec<UnchangedNode<'_>> = nodes.iter().map(|node| UnchangedNode::of(node)).collect();
        let document = row::to_json(&document)?;
        let digest = Digest::of(&document).to_string();
        let known = sqlx::query("SELECT 1 FROM standing WHERE digest = ?")
            .bind(&digest)
            .fetch_optional(&self.readers)
            .await
            .doing("find a document")?;
        let mut statements = Vec::new();
        if known.is_none() {
            let packed = zstd::bulk::compress(document.as_bytes(), LEVEL)
                .map_err(|error| StoreError::Corrupt { column: "document", message: error.to_string() })?;
            let count = |state| row::signed(nodes.iter().filter(|node| node.state == state).count() as u64);
            let insert = sqlx::query(
                "INSERT INTO standing (digest, document, reused, retired) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(&digest)
            .bind(packed)
            .bind(count(NodeState::Reused))
            .bind(count(NodeState::Retired));
            statements.push(insert);
        }
        statements
            .push(sqlx::query("UPDATE runs SET standing = ? WHERE number = ?").bind(&digest).bind(run.0));
        Ok(statements)
    }
}

/// The unpacked length of a frame, from its header.
fn unpacked_size(packed: &[u8]) -> usize {
    let declared = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    declared.and_then(|size| usize::try_from(size).ok()).unwrap_or(LARGEST).min(LARGEST)
}

/// A plan's nodes, divided into the unchanged and the others.
pub(crate) struct Partition {
    /// For each node whether it is unchanged.
    pub(crate) is_unchanged: Vec<bool>,
    /// Variants that this plan retires, or names again.
    pub(crate) retirements: Vec<Statement>,
}

/// Divides the nodes of a plan; `heads` are those of the branch.
pub(crate) fn partition(run: RunNumber, nodes: &[NodeRow], heads: &[Head], now: Timestamp) -> Partition {
    let heads: BTreeMap<(&VariantName, &Platform), &Head> =
        heads.iter().map(|head| ((&head.variant, &head.platform), head)).collect();
    let mut partition = Partition { is_unchanged: Vec::with_capacity(nodes.len()), retirements: Vec::new() };
    for node in nodes {
        let Some(variant) = &node.variant else {
            partition.is_unchanged.push(node.state == NodeState::Reused);
            continue;
        };
        let place = (variant, &node.platform);
        let head = heads.get(&place);
        let is_retired = head.is_some_and(|head| head.retired_at.is_some());
        let is_unchanged = match node.state {
            NodeState::Reused => {
                let is_head = |head: &&Head| {
                    Some(&head.key) == node.key.as_ref() && Some(&head.digest) == node.digest.as_ref()
                };
                !is_retired && head.is_some_and(is_head)
            }
            NodeState::Retired => is_retired,
            _ => false,
        };
        partition.is_unchanged.push(is_unchanged);
        match node.state {
            _ if is_unchanged => {}
            NodeState::Retired => partition.retirements.push(retire(run, place, Some(now))),
            _ if is_retired => partition.retirements.push(retire(run, place, None)),
            _ => {}
        }
    }
    partition
}
