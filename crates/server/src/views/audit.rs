//! The audit trail as a page.

use edgewright_api::{AuditEntry, AuditFilter, AuditPage, routes};
use edgewright_store::audit::{AuditRow, AuditSelection};

use super::{ViewError, Views};

impl Views {
    /// A page of changes, newest first; oldest first of those after a number.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<AuditPage, ViewError> {
        let below = match &filter.cursor {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| ViewError::Cursor { text: text.clone() })?),
        };
        let limit = filter.limit.clamp(1, routes::LARGEST_LIMIT);
        let selection = AuditSelection {
            actor: filter.actor.clone(),
            operation: filter.operation.clone(),
            object: filter.object.clone(),
            since: filter.since,
            below,
            after: filter.after.map(|after| i64::try_from(after).unwrap_or(i64::MAX)),
            // One more than the page, to find out whether another page follows.
            limit: limit + 1,
        };
        let mut rows = self.store.audit_trail(&selection).await?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        // A page of an export is followed by `after`.
        let next = rows.last().filter(|_| has_more && filter.after.is_none());
        let next = next.map(|row| row.number.to_string());
        Ok(AuditPage { entries: rows.into_iter().map(entry).collect(), next })
    }
}

fn entry(row: AuditRow) -> AuditEntry {
    let AuditRow { number, at, entry, previous, hash } = row;
    AuditEntry {
        number: number.unsigned_abs(),
        at,
        actor: entry.actor,
        operation: entry.operation,
        object: entry.object,
        before: entry.before,
        after: entry.after,
        request: entry.request,
        previous,
        hash,
    }
}
