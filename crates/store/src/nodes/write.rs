//! The statements that insert and move nodes.

use edgewright_model::names::Platform;
use edgewright_model::run::{NodeState, RunNumber};
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{NodeChange, NodeRow};
use crate::error::Operation as _;
use crate::write::{Statement, changed_one};
use crate::{StoreError, heads, row};

pub(super) fn insert_node(
    number: RunNumber,
    position: u32,
    node: &NodeRow,
    now: Timestamp,
) -> Result<Statement, StoreError> {
    let statement = sqlx::query(
        "INSERT INTO run_nodes (run, node, platform, variant, position, key, action, reason, state, failure, digest, steps, notes, finished_at, lanes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    Ok(statement
        .bind(number.0)
        .bind(&node.node)
        .bind(node.platform.to_string())
        .bind(node.variant.as_ref().map(ToString::to_string))
        .bind(position)
        .bind(node.key.as_ref().map(ToString::to_string))
        .bind(&node.action)
        .bind(&node.reason)
        .bind(node.state.name())
        .bind(node.failure.as_ref().map(row::to_json).transpose()?)
        .bind(node.digest.as_ref().map(ToString::to_string))
        .bind(row::to_json(&node.steps)?)
        .bind(row::to_json(&node.notes)?)
        .bind(node.state.is_terminal().then(|| now.to_string()))
        .bind(node.lanes.as_ref().map(row::to_json).transpose()?))
}

/// A node's change of state, ready to run inside a write.
pub(crate) struct NodeMove {
    node: String,
    change: Statement,
    /// Makes the node the head of its branch, if it becomes good.
    advance: Option<Statement>,
}

impl NodeMove {
    /// Moves the node, unless it changed in between.
    pub(crate) async fn run(self, db: &mut SqliteConnection) -> Result<(), StoreError> {
        let done = self.change.execute(&mut *db).await.doing("move a node")?;
        changed_one(&done, || format!("node {}", self.node))?;
        if let Some(advance) = self.advance {
            advance.execute(db).await.doing("advance a head")?;
        }
        Ok(())
    }
}

pub(crate) fn move_node(
    number: RunNumber,
    (node, platform): (&str, &Platform),
    (from, to): (NodeState, NodeState),
    change: NodeChange<'_>,
    now: Timestamp,
) -> Result<NodeMove, StoreError> {
    let statement = sqlx::query(
        "UPDATE run_nodes SET state = ?1, phase = NULL, failure = ?2, digest = coalesce(?3, digest), not_before = ?4,
         notes = coalesce(?11, notes), finished_at = CASE WHEN ?5 THEN ?6 END WHERE run = ?7 AND node = ?8 AND platform = ?9 AND state = ?10",
    )
    .bind(to.name())
    .bind(change.failure.map(row::to_json).transpose()?)
    .bind(change.digest.map(ToString::to_string))
    .bind(change.not_before.map(|at| at.to_string()))
    .bind(to.is_terminal())
    .bind(now.to_string())
    .bind(number.0)
    .bind(node)
    .bind(platform.to_string())
    .bind(from.name())
    .bind(change.notes.map(|notes| row::to_json(&notes)).transpose()?);
    let advance = to.is_good().then(|| heads::advance(number, node, platform));
    Ok(NodeMove { node: node.to_owned(), change: statement, advance })
}
