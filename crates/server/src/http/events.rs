//! Changes of runs as server-sent events, for clients that would otherwise poll.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use edgewright_api::RunStateChanged;
use edgewright_control::events::{RunEvent, RunEventKind};
use edgewright_process::CancellationToken;
use futures::Stream;
use tokio::sync::broadcast::Receiver;

use super::ApiState;

pub(super) async fn stream(
    State(state): State<ApiState>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (events, stopping) = (state.control.events().subscribe(), state.control.stopping());
    let stream = futures::stream::unfold((events, stopping), async |(mut events, stopping)| {
        let moved = next(&mut events, &stopping).await?;
        let event = Event::default().event("run").json_data(moved).ok()?;
        Some((Ok(event), (events, stopping)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// The next change of a run's state. None at shutdown, and for a client that lags behind: it reconnects and
/// lists runs.
async fn next(events: &mut Receiver<RunEvent>, stopping: &CancellationToken) -> Option<RunStateChanged> {
    loop {
        let event = tokio::select! {
            () = stopping.cancelled() => return None,
            event = events.recv() => event.ok()?,
        };
        if let RunEvent { run, kind: RunEventKind::State(state) } = event {
            return Some(RunStateChanged { run, state });
        }
    }
}
