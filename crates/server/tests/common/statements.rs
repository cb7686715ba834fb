//! The statements that SQLite was given, counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Counts the statements that SQLite was given.
pub(crate) struct Statements;

pub(crate) static STATEMENTS: AtomicUsize = AtomicUsize::new(0);

/// How often all slots of a source were read.
pub(crate) static READINGS: AtomicUsize = AtomicUsize::new(0);

/// Counts them among the statements.
struct OfSlots;

impl Visit for OfSlots {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "summary" && format!("{value:?}").contains("FROM slots") {
            READINGS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
        event.record(&mut OfSlots);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
