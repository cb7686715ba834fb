//! From events to rows: what an event leads to, in one transaction.

use edgewright_model::names::SourceName;
use edgewright_model::principal::Principal;
use edgewright_model::run::RolloutNumber;
use edgewright_rollout::state::{Event, Move};
use edgewright_store::audit::NewAuditEntry;
use edgewright_store::rollouts::{Completion, EventRow, RolloutState};
use jiff::Timestamp;
use serde_json::json;

use super::Rollouts;
use super::memory::{Active, note_approval, state_name};
use crate::ControlError;

/// The actor of moves in the audit trail.
const MOVER: Principal = Principal::System { component: "rollouts" };

/// Events of a rollout that were applied in memory, and are to be written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rollout: RolloutNumber,
    source: SourceName,
    events: Vec<EventRow>,
    state: RolloutState,
    completion: Option<Completion>,
    pub(super) entries: Vec<NewAuditEntry>,
    now: Timestamp,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl Active {
    /// Applies events, each with who ordered it, and what follows from them.
    pub(super) fn step(&mut self, events: Vec<(Event, Option<String>)>, now: Timestamp) -> Batch {
        let mut rows = Vec::with_capacity(events.len());
        for (event, actor) in events {
            rows.push(self.record(&event, actor, now));
        }
        let mut entries = Vec::new();
        let mut completion = None;
        loop {
            let moves = self.engine.advance(now);
            if moves.is_empty() {
                break;
            }
            for step in moves {
                if step == Move::Complete {
                    completion = Some(Completion {
                        channel: self.row.channel.clone(),
                        release: self.row.release,
                        reason: format!("rollout {} is complete", self.row.number),
                    });
                }
                entries.push(self.entry(&step));
                rows.push(self.record(&Event::Moved { step, at: now }, None, now));
            }
        }
        let status = self.engine.status();
        self.row.state = state_name(status).to_owned();
        self.row.stage = self.engine.stage();
        let outcomes = status.is_final().then(|| json!(self.engine.gate().outcomes()));
        if outcomes.is_some() {
            self.row.ended_at = self.row.ended_at.or(Some(now));
        }
        Batch {
            rollout: self.row.number,
            source: self.source.clone(),
            events: rows,
            state: RolloutState { state: self.row.state.clone(), stage: self.row.stage, outcomes },
            completion,
            entries,
            now,
        }
    }

    fn record(&mut self, event: &Event, actor: Option<String>, now: Timestamp) -> EventRow {
        note_approval(&mut self.approved, event, actor.as_deref());
        self.engine.apply(event);
        self.row.generation += 1;
        let (kind, member) = kind(event);
        EventRow {
            number: self.row.generation,
            at: now,
            kind: kind.to_owned(),
            member,
            event: json!(event),
            actor,
        }
    }

    fn entry(&self, step: &Move) -> NewAuditEntry {
        let mut after = json!({ "move": step });
        if let Move::Stop { why } = step {
            let why = edgewright_rollout::words::stop(why, |index| self.variant(index));
            after["reason"] = json!(why);
            after["outcomes"] = json!(self.engine.gate().outcomes());
            after["evidence"] = json!(self.engine.gate().pooled_evidence());
        }
        NewAuditEntry {
            actor: MOVER.id(),
            operation: "rollout.move".to_owned(),
            object: format!("{}/rollouts/{}", self.source, self.row.number),
            before: Some(json!({ "stage": self.engine.stage_name(self.engine.stage()) })),
            after: Some(after),
            request: None,
        }
    }
}

/// The kind of an event's row, and its device.
const fn kind(event: &Event) -> (&'static str, Option<u32>) {
    match event {
        Event::Seen { device, .. } => ("seen", Some(*device)),
        Event::Offered { device, .. } => ("offered", Some(*device)),
        Event::Reached { device, rung, .. } => (rung.name(), Some(*device)),
        Event::Failed { device, .. } => ("failed", Some(*device)),
        Event::Left { device, .. } => ("left", Some(*device)),
        Event::Ordered { .. } => ("ordered", None),
        Event::Moved { .. } => ("moved", None),
    }
}

impl Rollouts {
    /// Writes what was applied in memory.
    ///
    /// # Errors
    /// The database cannot be written, or another server wrote: memory is made again from the rows.
    pub(super) async fn write(&self, batch: Batch) -> Result<(), ControlError> {
        if batch.is_empty() {
            return Ok(());
        }
        let Batch { rollout, source, events, state, completion, entries, now } = batch;
        let is_complete = completion.is_some();
        let written =
            self.0.store.add_rollout_events(rollout, &events, &state, (completion, &entries), now).await;
        if let Err(error) = written {
            self.memory().is_good = false;
            self.wake().wake("a row could not be written");
            return Err(error.into());
        }
        for event in events.iter().filter(|event| event.kind == "moved") {
            tracing::info!(
                source.name = %source,
                rollout.number = rollout.0,
                step = %event.event,
                state = state.state,
                "rollout moved"
            );
        }
        if is_complete {
            self.0.tags.refresh(&self.0.store).await?;
            self.0.channels.wake("a rollout is complete");
        }
        Ok(())
    }
}
