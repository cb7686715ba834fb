//! The child process: reads an order, writes events, ends with its input.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::time::Duration;

use edgewright_model::error::ErrorClass;
use edgewright_model::order::{JobOrder, ORDER_VERSION};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::verdict::LaneResult;
use edgewright_process::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::error::ExecutorError;
use crate::executor::EVENTS;
use crate::worker::Worker;

/// The longest order, in bytes. Orders hold package lists and small files.
const ORDER_LIMIT: u64 = 64 * 1024 * 1024;
/// How long a cancelled job may clean up before it is abandoned.
const CLEARING: Duration = Duration::from_secs(15);

/// Why no order could be served.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Standard input ended before an order, or cannot be read.
    #[error("cannot read a job order from standard input")]
    Read(#[source] io::Error),
    /// The line is not an order.
    #[error("malformed job order on standard input")]
    Order(#[source] serde_json::Error),
    /// The outcome cannot be delivered.
    #[error("cannot write the outcome to standard output")]
    Write(#[source] io::Error),
}

impl ProcessError {
    /// The class.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Read(_) | Self::Order(_) => ErrorClass::UserFault,
            Self::Write(_) => ErrorClass::Unavailable,
        }
    }
}

/// The part of an order that every version has.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads one order, runs it, writes events and the outcome as JSON lines. The end of `input`, SIGTERM and
/// SIGINT cancel the job. Returns `Ok` if the outcome was delivered, even if the job failed. If a machine is
/// kept and `is_sandboxed`, it does not return: this process's end would be the end of the sandbox.
pub async fn serve(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    worker: &dyn Worker,
    is_sandboxed: bool,
) -> Result<(), ProcessError> {
    let cancel = CancellationToken::new();
    let line = read_order(input, cancel.clone()).await.map_err(ProcessError::Read)?;
    let version = serde_json::from_str::<Versioned>(&line).map_err(ProcessError::Order)?.version;
    let (events, receiver) = mpsc::channel(EVENTS);
    let writer = tokio::task::spawn_blocking(move || write_events(receiver, output));
    let outcome = if version == ORDER_VERSION {
        let order: JobOrder = serde_json::from_str(&line).map_err(ProcessError::Order)?;
        bounded(order, worker, &events, &cancel, stopped(&cancel)).await
    } else {
        refused(format!(
            "unsupported version {version} of the job protocol in the order, expected {ORDER_VERSION}"
        ))
    };
    // If the writer has ended, it returned its own error.
    let _ = events.send(JobEvent::Outcome(outcome)).await;
    drop(events);
    let written = writer.await.map_err(io::Error::other).and_then(|written| written);
    let is_kept = written.map_err(ProcessError::Write)?;
    if is_kept && is_sandboxed {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Runs a job within its limit. When `stopped` resolves or the limit ends, `cancel` is cancelled, and the job
/// has a short time to clean up.
pub(crate) async fn bounded(
    order: JobOrder,
    worker: &dyn Worker,
    events: &mpsc::Sender<JobEvent>,
    cancel: &CancellationToken,
    stopped: impl Future<Output = ()>,
) -> JobOutcome {
    let within = order.within;
    let mut job = worker.work(order, events.clone(), cancel.clone());
    let limit = tokio::select! {
        done = &mut job => return done.unwrap_or_else(|error| failed(&error)),
        () = stopped => None,
        () = tokio::time::sleep(within.get()) => Some(ExecutorError::TimeLimit { within, phase: None }),
    };
    cancel.cancel();
    let reason = limit.unwrap_or(ExecutorError::Cancelled);
    let ended = timeout(CLEARING, job).await;
    // The log must show why it ends here. If the channel is full, its reader is gone or stuck.
    let _ = events.try_send(JobEvent::Log { line: format!("[{reason}]") });
    match ended {
        // Builds that were pushed before count; the failure is the reason for the stop.
        Ok(Ok(outcome)) if is_complete(&outcome) => outcome,
        Ok(Ok(outcome)) => JobOutcome { failure: Some(reason.failure()), ..outcome },
        Ok(Err(_)) | Err(_) => failed(&reason),
    }
}

/// Whether a job passed just before it was stopped: an interrupted lane has a failed verdict.
fn is_complete(outcome: &JobOutcome) -> bool {
    outcome.failure.is_none() && outcome.verdicts.iter().all(|verdict| verdict.result == LaneResult::Passed)
}

/// Waits for the token or a signal.
async fn stopped(cancel: &CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return cancel.cancelled().await;
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn failed(error: &ExecutorError) -> JobOutcome {
    with_failure(error.failure())
}

fn refused(message: String) -> JobOutcome {
    with_failure(JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Fetch,
        message,
        hint: Some("server and job process must be the same build: restart the server".to_owned()),
        output: Vec::new(),
    })
}

pub(crate) fn with_failure(failure: JobFailure) -> JobOutcome {
    JobOutcome { failure: Some(failure), ..JobOutcome::empty() }
}

/// Reads a line, then waits for the end of the input on a thread that ends with the process, because a read
/// cannot be cancelled.
async fn read_order(input: impl Read + Send + 'static, cancel: CancellationToken) -> io::Result<String> {
    let (sender, order) = oneshot::channel();
    std::thread::Builder::new().name("job-input".to_owned()).spawn(move || {
        let mut input = BufReader::new(input);
        let mut line = String::new();
        let read = input.by_ref().take(ORDER_LIMIT).read_line(&mut line);
        let complete = line.ends_with('\n');
        let _ = sender.send(read.and_then(|_| {
            if complete { Ok(line) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
        }));
        // No further input is expected: it is ignored, and an error is the end.
        let _ = io::copy(&mut input, &mut io::sink());
        cancel.cancel();
    })?;
    order.await.map_err(io::Error::other)?
}

/// Writes events to the outcome; whether a machine is kept.
fn write_events(mut events: mpsc::Receiver<JobEvent>, mut output: impl Write) -> io::Result<bool> {
    let mut is_kept = false;
    while let Some(event) = events.blocking_recv() {
        is_kept |= matches!(event, JobEvent::Kept { .. });
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        output.write_all(&line)?;
        output.flush()?;
        if matches!(event, JobEvent::Outcome(_)) {
            // Events of tasks that outlive the job are dropped.
            break;
        }
    }
    Ok(is_kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::image_order;
    use crate::executor::BoxFuture;
    use crate::simulated::{Behaviour, SimulatedExecutor};

    /// Works until it is stopped; then it ends with its behaviour, like an interrupted lane.
    #[derive(Debug)]
    struct Cut(Behaviour);

    impl Worker for Cut {
        fn work(
            &self,
            order: JobOrder,
            events: mpsc::Sender<JobEvent>,
            cancel: CancellationToken,
        ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
            Box::pin(async move {
                cancel.cancelled().await;
                let executor = SimulatedExecutor::new();
                executor.set_default(self.0.clone());
                executor.work(order, events, CancellationToken::new()).await
            })
        }
    }

    #[tokio::test]
    async fn an_interrupted_lane_reports_the_reason() {
        let run = async |behaviour, within: &str, stopped: BoxFuture<'static, ()>| {
            let mut order = image_order(1, "a").unwrap();
            order.within = within.parse().unwrap();
            let (events, _receiver) = mpsc::channel(EVENTS);
            bounded(order, &Cut(behaviour), &events, &CancellationToken::new(), stopped).await
        };
        let never = || Box::pin(std::future::pending());
        let cut = Behaviour::FailLanes { kind: FailureKind::Image };
        let late = run(cut.clone(), "1ms", never()).await;
        let failure = late.failure.unwrap();
        assert!(failure.message.contains("1ms"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("[jobs] timeout"));
        // Earlier builds are kept.
        assert_eq!(late.builds.len(), 2);
        let stopped = run(cut, "1h", Box::pin(std::future::ready(()))).await.failure.unwrap();
        assert!(stopped.message.contains("cancelled"), "{stopped:?}");
        // A job that passed just then has passed.
        assert_eq!(run(Behaviour::Succeed, "1ms", never()).await.failure, None);
    }

    #[tokio::test]
    async fn malformed_orders_are_rejected() {
        let executor = SimulatedExecutor::new();
        for (input, want) in [
            ("", "cannot read a job order"),
            ("{}", "cannot read a job order"),
            ("{}\n", "malformed job order"),
            ("nonsense\n", "malformed job order"),
            ("{\"version\":3}\n", "malformed job order"),
        ] {
            let error = serve(input.as_bytes(), io::sink(), &executor, false).await.unwrap_err();
            assert!(error.to_string().contains(want), "{input}: {error}");
        }
    }

    #[tokio::test]
    async fn an_order_of_another_version_gives_an_outcome_with_that_failure() {
        let (mut reader, writer) = io::pipe().unwrap();
        serve("{\"version\":99}\n".as_bytes(), writer, &SimulatedExecutor::new(), false).await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let JobEvent::Outcome(outcome) = serde_json::from_str(&text).unwrap() else { panic!("no outcome") };
        assert!(outcome.failure.unwrap().message.contains("version 99"));
    }
}
