//! The audit trail, for changes that are made outside of control's own transactions.
//!
//! Changes of rows are recorded in the transaction of the change, by the store's own functions; see
//! [`edgewright_store::audit`].

use edgewright_model::error::Chain;
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::audit::NewAuditEntry;

/// Records what was changed elsewhere. Clones share the database.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Store,
    clock: Clock,
}

impl Audit {
    /// Over control's database.
    pub const fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Records a change that has been made. A row that cannot be written is logged whole; the change remains.
    pub async fn note(&self, entry: NewAuditEntry) {
        if let Err(error) = self.store.note_audit(&entry, self.clock.now()).await {
            tracing::error!(
                error = %Chain(&error),
                actor = %entry.actor,
                operation = entry.operation,
                object = entry.object,
                "a change could not be written to the audit trail"
            );
        }
    }
}
