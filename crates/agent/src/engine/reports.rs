//! The way of reports from the queue to the server, beside the work on updates.

use std::sync::Arc;
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_process::{Backoff, OwnedTask};
use jiff::SignedDuration;

use super::{Engine, EngineError};
use crate::blocking::blocking;
use crate::machine::Outcome;
use crate::report::{ReportBody, Reporter};

/// Pauses before reports are offered again to a server that did not take them. The first are short: after a
/// boot, the network comes later than the first report.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
/// How often a device without news reports that it is alive.
const ALIVE_PAUSE: SignedDuration = SignedDuration::from_hours(6);

/// How an attempt to send reports ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// None below this number waits for the server.
    Below(u64),
    /// The server was not reached, or did not take them.
    Later,
}

impl Engine {
    pub(super) async fn report_alive(&mut self) -> Result<(), EngineError> {
        let now = self.parts.clock.now();
        if self.parts.config.report.is_none() || now.duration_since(self.last_report) < ALIVE_PAUSE {
            return Ok(());
        }
        let outcome =
            Outcome { record: self.record.clone(), actions: Vec::new(), reports: vec![ReportBody::Alive] };
        self.persist(outcome, now).await.map(drop)
    }

    /// An attempt ended: the next one follows if something waits.
    pub(super) fn sent(&mut self, sent: Sent) {
        self.send_failures = match sent {
            Sent::Below(_) => 0,
            Sent::Later => self.send_failures.saturating_add(1),
        };
        if sent != Sent::Below(self.record.next_report) {
            self.send_reports();
        }
    }

    /// Sends reports in a task of its own: no update waits for the server.
    pub(super) fn send_reports(&mut self) {
        if self.sender.is_some() {
            return;
        }
        let Some(report) = self.parts.config.report.clone() else { return };
        let (outbox, next, parts) = (self.outbox.clone(), self.record.next_report, Arc::clone(&self.parts));
        let pause = PAUSES.pause(self.send_failures);
        self.sender = Some(OwnedTask::spawn(async move {
            let is_empty = outbox.clone();
            if blocking(move || is_empty.is_empty().unwrap_or(false)).await.unwrap_or(true) {
                return Sent::Below(next);
            }
            tokio::time::sleep(pause).await;
            let client = match &parts.config.authority {
                Some(pem) => edgewright_api::Client::with_authorities(&report.url, pem),
                None => edgewright_api::Client::new(&report.url),
            };
            let client = match client {
                Ok(client) => client.with_token(report.token.map(|token| token.0)),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "invalid report settings");
                    return Sent::Later;
                }
            };
            let reporter = Reporter { client, device: parts.config.device.clone() };
            if let Err(error) = reporter.send_all(&outbox, next).await {
                tracing::info!(error = %Chain(&error), "reports stay queued");
                return Sent::Later;
            }
            Sent::Below(next)
        }));
    }
}
