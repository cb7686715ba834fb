//! Telling others: every change of state goes to the configured sinks, at least once and in order.
//!
//! ```text
//!  a change ─trigger, same transaction─▶ events ──one task for each sink──▶ HTTP POST
//!                                       (bounded)   └─ sinks.told moves after the response
//! ```
//!
//! A sink that does not respond is tried again with growing pauses, and delays no other sink. A permanent
//! error (4xx) skips that event. What a sink misses for so long that the outbox is full is lost to it, and
//! logged.

mod cloud_event;
mod status;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::names::SourceName;
use edgewright_process::Backoff;
use edgewright_store::Store;
use edgewright_store::outbox::EventRow;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use cloud_event::{event_type, event_types};

use crate::ControlError;
use crate::events::{Events, RunEventKind};
use crate::reconcile::{Outcome, Reconciler, Reconcilers, Wake};

/// Events that are read at once.
const BATCH: u32 = 100;
/// How long a sink may take to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// How often the outbox is read at least: events that nothing announced.
const PERIOD: Duration = Duration::from_secs(2);
/// The pause after the first failed try; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// What a sink takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    /// CloudEvents 1.0.
    CloudEvents,
    /// Commit statuses of GitHub.
    Github,
    /// Commit statuses of GitLab.
    Gitlab,
    /// Commit statuses of Gitea and Forgejo.
    Gitea,
}

/// How an event is laid out in a request: section 3 of the HTTP protocol binding of CloudEvents 1.0.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventMode {
    /// All of it is the body, as JSON.
    #[default]
    Structured,
    /// Its data is the body; the rest is in headers `ce-…`.
    Binary,
}

/// Who is notified.
#[derive(Clone, PartialEq, Eq)]
pub struct Sink {
    /// Its name, unique.
    pub name: String,
    /// What it takes.
    pub kind: SinkKind,
    /// Its address, without a slash at the end.
    pub url: String,
    /// How events are laid out, if they are CloudEvents.
    pub mode: EventMode,
    /// Only CloudEvents of these types; all, if there are none.
    pub types: Vec<String>,
    /// Only what concerns this source.
    pub source: Option<SourceName>,
    /// The repository on the forge, `OWNER/NAME`.
    pub repository: Option<String>,
    /// Sent along; never printed.
    pub token: Option<String>,
    /// Base of links for people.
    pub link: String,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How a try ended.
#[derive(Debug, PartialEq, Eq)]
enum Delivery {
    /// Taken, or nothing for this sink.
    Done,
    /// Refused for good.
    Rejected(String),
    /// Not now.
    Retry(String),
}

impl Sink {
    fn request(&self, client: &Client, event: &EventRow) -> Option<RequestBuilder> {
        if self.source.as_ref().is_some_and(|source| *source != event.source) {
            return None;
        }
        match self.kind {
            SinkKind::CloudEvents
                if !self.types.is_empty() && !self.types.contains(&event_type(&event.kind)) =>
            {
                None
            }
            SinkKind::CloudEvents => Some(cloud_event::request(self, client, event)),
            SinkKind::Github | SinkKind::Gitlab | SinkKind::Gitea => status::request(self, client, event),
        }
    }

    async fn deliver(&self, client: &Client, event: &EventRow) -> Delivery {
        let Some(request) = self.request(client, event) else { return Delivery::Done };
        match request.send().await {
            Ok(answer) => judge(answer.status()),
            Err(error) => Delivery::Retry(Chain(&error.without_url()).to_string()),
        }
    }
}

fn judge(status: StatusCode) -> Delivery {
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status)
            // Wrong or expired credentials are put right without losing what happened in between.
            || [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
    let reason = match advice(status) {
        Some(advice) => format!("it answered {status}: {advice}"),
        None => format!("it answered {status}"),
    };
    if status.is_success() {
        Delivery::Done
    } else if status.is_client_error() && !again {
        Delivery::Rejected(reason)
    } else {
        Delivery::Retry(reason)
    }
}

/// What to do about an answer.
const fn advice(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => {
            Some("put its `token_file` right, then SIGHUP; nothing is lost in between")
        }
        StatusCode::FORBIDDEN => {
            Some("its token may not do this: commit statuses want the right to write them to `repository`")
        }
        StatusCode::NOT_FOUND => Some(
            "are `url` and `repository` right? Forges say the same of what the token may not see, \
             and of commits that were not pushed to them",
        ),
        _ => None,
    }
}

/// Notifies the configured sinks. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    store: Store,
    events: Events,
    reconcilers: Reconcilers,
    shutdown: CancellationToken,
    /// Ends the reconcilers of the sinks of now.
    current: Arc<Mutex<CancellationToken>>,
}

impl Notifier {
    pub(crate) fn new(
        store: Store,
        events: Events,
        reconcilers: Reconcilers,
        shutdown: CancellationToken,
    ) -> Self {
        Self { store, events, reconcilers, shutdown, current: Arc::default() }
    }

    /// Notifies these sinks from now on, and no others: reconcilers of earlier ones end.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub(crate) fn notify(&self, sinks: &[Sink]) -> Result<(), reqwest::Error> {
        let client = Client::builder()
            .timeout(WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("edgewright/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let stop = self.shutdown.child_token();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, stop.clone()).cancel();
        drop(current);
        for sink in sinks {
            let wake = Wake::default();
            self.events.wake(is_change, wake.clone(), stop.clone());
            let (store, sink, client) = (self.store.clone(), sink.clone(), client.clone());
            let reconciler = NotifySink { store, sink, client };
            self.reconcilers.start(Arc::new(reconciler), wake, stop.clone());
        }
        Ok(())
    }
}

/// Notifies one sink of all that is in the outbox.
struct NotifySink {
    store: Store,
    sink: Sink,
    client: Client,
}

impl Reconciler for NotifySink {
    fn name(&self) -> String {
        format!("sink {}", self.sink.name)
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
    }

    fn wakes_from_backoff(&self) -> bool {
        false
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        self.notify_all().boxed()
    }
}

impl NotifySink {
    /// Sends all that is there; an error where it has to be tried again.
    async fn notify_all(&self) -> Result<Outcome, ControlError> {
        let (store, sink) = (&self.store, &self.sink);
        let mut delivered = store.sink(&sink.name).await?.delivered;
        let mut sent: u32 = 0;
        loop {
            let events = store.events_after(delivered, BATCH).await?;
            let Some(first) = events.first() else {
                return Ok(if sent == 0 {
                    Outcome::idle()
                } else {
                    Outcome::done(format!("sent {sent} events"))
                });
            };
            if delivered > 0 && first.id > delivered + 1 {
                let lost = first.id - delivered - 1;
                tracing::warn!(sink.name = sink.name, lost, "events were lost: the outbox was full");
            }
            let end = events.last().map_or(delivered, |event| event.id);
            for event in events {
                match sink.deliver(&self.client, &event).await {
                    Delivery::Done => sent = sent.saturating_add(1),
                    Delivery::Rejected(why) => {
                        tracing::warn!(sink.name = sink.name, event.id, error = why, "sink refused an event");
                    }
                    Delivery::Retry(why) => {
                        store.note_delivered(&sink.name, event.id - 1).await?;
                        store.note_delivery_failure(&sink.name, &why).await?;
                        return Err(ControlError::Sink { name: sink.name.clone(), why });
                    }
                }
                delivered = event.id;
                // Events that are none of its business are not worth a commit each.
                if delivered == end || sink.request(&self.client, &event).is_some() {
                    store.note_delivered(&sink.name, delivered).await?;
                }
            }
        }
    }
}

/// Whether an event announces a row in the outbox.
const fn is_change(kind: &RunEventKind) -> bool {
    matches!(kind, RunEventKind::State(_) | RunEventKind::Node { .. } | RunEventKind::Released(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_decide_whether_to_try_again() {
        let kind = |status: u16| match judge(StatusCode::from_u16(status).unwrap()) {
            Delivery::Done => "yes",
            Delivery::Rejected(_) => "never",
            Delivery::Retry(_) => "later",
        };
        let cases = [
            (200, "yes"),
            (204, "yes"),
            (301, "later"),
            (400, "never"),
            (401, "later"),
            (404, "never"),
            (410, "never"),
            (422, "never"),
            (429, "later"),
            (500, "later"),
            (503, "later"),
        ];
        for (status, expected) in cases {
            assert_eq!(kind(status), expected, "{status}");
        }
    }
}
