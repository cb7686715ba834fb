//! Follows one attempt: waits for its container, reads its log, however often the connection breaks, and
//! gives how it ended.

use std::time::Duration;

use edgewright_process::Backoff;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::Namespace;
use crate::stage::{End, Stage, Wait};
use crate::task_run::WAITING;

/// How long an image may fail to be pulled: nodes try again by themselves, more and more seldom.
const PULLING: Duration = Duration::from_mins(2);
/// How long the rest of a log may take once its container has ended.
const REST: Duration = Duration::from_secs(30);
/// How long the cluster may take to report the end of a container that has reported its outcome.
const ENDING: Duration = Duration::from_mins(1);
/// How often the rest of a log is asked for.
const TRIES: u32 = 5;
/// Between two connections to a log.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// Receives what is seen of an attempt.
pub(crate) trait Sink: Send {
    /// The log is read from its beginning.
    fn begin(&mut self);
    /// A line of it.
    fn line(&mut self, line: &str);
    /// Whether it is known how the work in the container ended.
    fn is_done(&self) -> bool;
    /// Whether nothing more of the log is expected.
    fn is_read(&self) -> bool {
        self.is_done()
    }
    /// Whether the end of the container would change nothing, even if it is waited for otherwise.
    fn is_confirmed(&self) -> bool {
        false
    }
    /// It does not start: why, where that is known.
    fn waits(&mut self, wait: Option<&Wait>);
}

/// What is followed.
pub(crate) struct Target<'a> {
    /// The container with the log.
    pub(crate) container: &'a str,
    /// How far it is, as last seen; none: it is not in the cluster.
    pub(crate) stage: &'a (dyn Fn() -> Option<Stage> + Send + Sync),
    /// The limit of its container.
    pub(crate) within: Duration,
    /// Whether the end of the container is waited for when nothing more is expected of the log, unless what
    /// was read is confirmed.
    pub(crate) to_its_end: bool,
}

/// How following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Followed {
    /// Its container ended.
    Ended(End),
    /// Nothing more is expected, and its container runs.
    Done,
    /// Its objects were removed by another client.
    Gone,
    /// It did not start.
    NeverStarted(Option<Wait>),
    /// It ran longer than its limit.
    TooLong,
}

/// Follows an attempt whose objects were created.
pub(crate) async fn follow(cluster: &Namespace, target: &Target<'_>, sink: &mut dyn Sink) -> Followed {
    let mut changes = cluster.changes();
    let waits_until = Instant::now() + WAITING;
    let (mut seen, mut pulls_until) = (false, None);
    loop {
        changes.mark_unchanged();
        let until = match (target.stage)() {
            None if seen => return Followed::Gone,
            // The watch is behind.
            None => waits_until,
            Some(Stage::Waits(wait)) => {
                seen = true;
                sink.waits(wait.as_ref());
                let until = match wait {
                    Some(Wait::Image(_)) => *pulls_until.get_or_insert_with(|| Instant::now() + PULLING),
                    _ => waits_until,
                };
                if Instant::now() >= until {
                    return Followed::NeverStarted(wait);
                }
                until
            }
            Some(Stage::Runs { pod }) => {
                sink.waits(None);
                return running(cluster, target, (&pod, Instant::now() + target.within), sink).await;
            }
            Some(Stage::Ended { pod, end }) => {
                sink.waits(None);
                return rest(cluster, target, (pod.as_deref(), end), sink).await;
            }
        };
        match timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            // The server is stopping: this job is dropped with it.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) if seen => {}
            Err(_) => return Followed::NeverStarted(None),
        }
    }
}

/// How the cluster sees the end of a container.
enum Over {
    /// Its objects are gone.
    Gone,
    /// It ended; its log is in this Pod.
    Ended(Option<String>, End),
}

/// The container runs, or has run.
async fn running(
    cluster: &Namespace,
    target: &Target<'_>,
    (pod, until): (&str, Instant),
    sink: &mut dyn Sink,
) -> Followed {
    let mut failures = 0;
    loop {
        let mut over = None;
        tokio::select! {
            read = timeout_at(until, read(cluster, (pod, target.container), sink)) => match read {
                Err(_) => return Followed::TooLong,
                Ok(Ok(())) => {}
                Ok(Err(reason)) => tracing::debug!(pod, reason, "the connection to a log ended"),
            },
            ended = async { let ended = ended(cluster, target).await; tokio::time::sleep(REST).await; ended } => {
                over = Some(ended);
            }
        }
        failures += 1;
        let left = until.saturating_duration_since(Instant::now());
        let patience = match (sink.is_done(), target.to_its_end && !sink.is_confirmed()) {
            (true, false) => return Followed::Done,
            (true, true) => ENDING,
            // The log ended, or the connection to it: the end of the container is seen soon, or not at all.
            (false, _) => RECONNECT.pause(failures).min(left),
        };
        if over.is_none() {
            over = timeout(patience, ended(cluster, target)).await.ok();
        }
        match over {
            Some(Over::Ended(pod, end)) => return rest(cluster, target, (pod.as_deref(), end), sink).await,
            Some(Over::Gone) => return Followed::Gone,
            _ if sink.is_done() => return Followed::Done,
            _ if Instant::now() >= until => return Followed::TooLong,
            _ => {}
        }
    }
}

/// Waits for the end of the container.
async fn ended(cluster: &Namespace, target: &Target<'_>) -> Over {
    let mut changes = cluster.changes();
    loop {
        changes.mark_unchanged();
        match (target.stage)() {
            None => return Over::Gone,
            Some(Stage::Ended { pod, end }) => return Over::Ended(pod, end),
            Some(Stage::Waits(_) | Stage::Runs { .. }) => {}
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The container has ended: its log is read to its end, if it is not known yet.
async fn rest(
    cluster: &Namespace,
    target: &Target<'_>,
    (pod, end): (Option<&str>, End),
    sink: &mut dyn Sink,
) -> Followed {
    for failures in 1..=TRIES {
        let Some(pod) = pod.filter(|_| !sink.is_done()) else { break };
        match timeout(REST, read(cluster, (pod, target.container), sink)).await {
            Ok(Ok(())) => break,
            Ok(Err(reason)) => tracing::debug!(pod, reason, "cannot read the log of a container that ended"),
            Err(_) => tracing::debug!(pod, "the log of a container that ended does not end"),
        }
        tokio::time::sleep(RECONNECT.pause(failures)).await;
    }
    Followed::Ended(end)
}

/// Reads a log from its beginning to its end.
async fn read(
    cluster: &Namespace,
    (pod, container): (&str, &str),
    sink: &mut dyn Sink,
) -> Result<(), String> {
    let lines = cluster.log(pod, container).await.map_err(|fault| format!("{fault:?}"))?;
    let mut lines = std::pin::pin!(lines);
    sink.begin();
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| error.to_string())?;
        sink.line(&String::from_utf8_lossy(&line));
        if sink.is_read() {
            break;
        }
    }
    Ok(())
}
