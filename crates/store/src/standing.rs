//! Where the variants of a branch stand, and the nodes that a run found standing and left alone.
//!
//! A commit that changes one of a thousand variants writes one row; the 999 others are one document, shared with every
//! other run that found the same.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::verdict::Note;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::nodes::{NodeRow, PathStep};
use crate::sources::SourceId;
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// zstd's level: speed counts, and neighbours are alike.
const LEVEL: i32 = 1;
/// A document is not larger than this, in bytes: far beyond any source, it only bounds what a damaged row may cost.
const LARGEST: usize = 1 << 30;

/// The newest good build of a variant of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The variant.
    pub variant: VariantName,
    /// The platform.
    pub platform: Platform,
    /// Its input key.
    pub key: Digest,
    /// The platform manifest.
    pub digest: Digest,
    /// Since when no commit of the branch names it.
    pub retired_at: Option<Timestamp>,
}

/// How many nodes of a run there are of each action and state.
pub type Tally = Vec<(String, NodeState, u32)>;

/// A node as documents hold it.
#[derive(Serialize, Deserialize)]
struct Settled<'a> {
    node: Cow<'a, str>,
    platform: Cow<'a, Platform>,
    variant: Cow<'a, Option<VariantName>>,
    key: Cow<'a, Option<Digest>>,
    action: Cow<'a, str>,
    reason: Cow<'a, str>,
    state: NodeState,
    digest: Cow<'a, Option<Digest>>,
    steps: Cow<'a, [PathStep]>,
    notes: Cow<'a, [Note]>,
}

impl<'a> Settled<'a> {
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
            not_before: None,
            notes: self.notes.into_owned(),
            started_at: None,
            finished_at: None,
        }
    }
}

fn head(row: &SqliteRow) -> Result<Head, StoreError> {
    Ok(Head {
        variant: row::text(row, "variant")?,
        platform: row::text(row, "platform")?,
        key: row::text(row, "key")?,
        digest: row::text(row, "digest")?,
        retired_at: row::maybe(row, "retired_at")?,
    })
}

impl Store {
    /// Where each variant of a source's branch stands, by variant and platform; also those that are retired.
    pub async fn heads(&self, source: SourceId, branch: &str) -> Result<Vec<Head>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM heads WHERE source_id = ? AND branch = ? ORDER BY variant, platform")
                .bind(source.0)
                .bind(branch)
                .fetch_all(&self.readers)
                .await
                .doing("list where variants stand")?;
        rows.iter().map(head).collect()
    }

    /// The platform manifests at which a variant of a source stands, in whatever branch.
    pub async fn head_digests(
        &self,
        source: SourceId,
        variant: &VariantName,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let rows = sqlx::query("SELECT digest FROM heads WHERE source_id = ? AND variant = ?")
            .bind(source.0)
            .bind(variant.to_string())
            .fetch_all(&self.readers)
            .await
            .doing("read where a variant stands")?;
        rows.iter().map(|row| row::text(row, "digest")).collect()
    }

    /// How many of a run's nodes there are of each action and state.
    pub async fn tally(&self, run: RunNumber) -> Result<Tally, StoreError> {
        let rows = sqlx::query(
            "SELECT action, state, count(*) AS nodes FROM run_nodes WHERE run = ?1 GROUP BY action, state
             UNION ALL SELECT 'reuse', 'reused', s.reused FROM runs r JOIN standing s ON s.digest = r.standing WHERE r.number = ?1
             UNION ALL SELECT 'retire', 'retired', s.retired FROM runs r JOIN standing s ON s.digest = r.standing WHERE r.number = ?1",
        )
        .bind(run.0)
        .fetch_all(&self.readers)
        .await
        .doing("count nodes")?;
        rows.iter()
            .map(|row| Ok((row::text(row, "action")?, row::text(row, "state")?, row::number(row, "nodes")?)))
            .collect()
    }

    /// The nodes that a run found standing.
    pub async fn standing(&self, run: RunNumber) -> Result<Vec<NodeRow>, StoreError> {
        let found = sqlx::query(
            "SELECT s.document FROM runs r JOIN standing s ON s.digest = r.standing WHERE r.number = ?",
        )
        .bind(run.0)
        .fetch_optional(&self.readers)
        .await
        .doing("list standing nodes")?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let corrupt = |error: &dyn std::fmt::Display| StoreError::Corrupt {
            column: "document",
            message: error.to_string(),
        };
        let packed: &[u8] = found.try_get("document").map_err(|error| corrupt(&error))?;
        let json = zstd::bulk::decompress(packed, size(packed)).map_err(|error| corrupt(&error))?;
        let settled: Vec<Settled<'_>> = serde_json::from_slice(&json).map_err(|error| corrupt(&error))?;
        Ok(settled.into_iter().map(Settled::into_row).collect())
    }

    /// The statements that note the nodes which a run found standing. The document is packed here and not on the writer: it
    /// may be long, and usually it is known already.
    pub(crate) async fn settled(
        &self,
        run: RunNumber,
        nodes: &[&NodeRow],
    ) -> Result<Vec<Statement>, StoreError> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let document: Vec<Settled<'_>> = nodes.iter().map(|node| Settled::of(node)).collect();
        let document = row::to_json(&document)?;
        let digest = Digest::of(&document).to_string();
        let known = sqlx::query("SELECT 1 FROM standing WHERE digest = ?")
            .bind(&digest)
            .fetch_optional(&self.readers)
            .await
            .doing("look for a document")?;
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

/// The length of what a frame holds, which its header says.
fn size(packed: &[u8]) -> usize {
    let declared = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    declared.and_then(|size| usize::try_from(size).ok()).unwrap_or(LARGEST).min(LARGEST)
}

/// A plan's nodes, parted into those that stand as they stood and the others.
pub(crate) struct Parts {
    /// For each node whether it stands as it stood.
    pub(crate) is_settled: Vec<bool>,
    /// Notes of variants that are retired, or are not any longer.
    pub(crate) retirements: Vec<Statement>,
}

/// Parts the nodes of a plan; `heads` is where the variants of the branch stand.
pub(crate) fn part(run: RunNumber, nodes: &[NodeRow], heads: &[Head], now: Timestamp) -> Parts {
    let heads: BTreeMap<(&VariantName, &Platform), &Head> =
        heads.iter().map(|head| ((&head.variant, &head.platform), head)).collect();
    let mut parts = Parts { is_settled: Vec::with_capacity(nodes.len()), retirements: Vec::new() };
    for node in nodes {
        let Some(variant) = &node.variant else {
            parts.is_settled.push(node.state == NodeState::Reused);
            continue;
        };
        let place = (variant, &node.platform);
        let head = heads.get(&place);
        let is_retired = head.is_some_and(|head| head.retired_at.is_some());
        let is_settled = match node.state {
            NodeState::Reused => {
                let is_here = |head: &&Head| {
                    Some(&head.key) == node.key.as_ref() && Some(&head.digest) == node.digest.as_ref()
                };
                !is_retired && head.is_some_and(is_here)
            }
            NodeState::Retired => is_retired,
            _ => false,
        };
        parts.is_settled.push(is_settled);
        match node.state {
            _ if is_settled => {}
            NodeState::Retired => parts.retirements.push(retire(run, place, Some(now))),
            _ if is_retired => parts.retirements.push(retire(run, place, None)),
            _ => {}
        }
    }
    parts
}

fn retire(
    run: RunNumber,
    (variant, platform): (&VariantName, &Platform),
    at: Option<Timestamp>,
) -> Statement {
    sqlx::query(
        "UPDATE heads SET retired_at = ?1 WHERE variant = ?2 AND platform = ?3
         AND (source_id, branch) = (SELECT source_id, branch FROM runs WHERE number = ?4)",
    )
    .bind(at.map(|at| at.to_string()))
    .bind(variant.to_string())
    .bind(platform.to_string())
    .bind(run.0)
}

/// A variant's node became good: its branch stands there now.
pub(crate) fn advance(run: RunNumber, node: &str, platform: &Platform) -> Statement {
    sqlx::query(
        "INSERT INTO heads (source_id, branch, variant, platform, key, digest)
         SELECT r.source_id, r.branch, n.variant, n.platform, n.key, n.digest FROM run_nodes n JOIN runs r ON r.number = n.run
         WHERE n.run = ? AND n.node = ? AND n.platform = ? AND n.variant IS NOT NULL AND n.key IS NOT NULL AND n.digest IS NOT NULL
         ON CONFLICT DO UPDATE SET key = excluded.key, digest = excluded.digest, retired_at = NULL",
    )
    .bind(run.0)
    .bind(node)
    .bind(platform.to_string())
}
