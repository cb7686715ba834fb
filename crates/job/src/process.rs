//! The child's side of the pipe: order in, events out, ends with its input.

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

/// Longest order; in bytes. Orders hold package lists, and small files.
const ORDER_LIMIT: u64 = 64 * 1024 * 1024;
/// How long a cancelled job may clear away before it is given up.
const CLEARING: Duration = Duration::from_secs(15);

/// Why no order could be served.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Standard input ended before an order, or cannot be read.
    #[error("cannot read a job order from standard input")]
    Read(#[source] io::Error),
    /// The line is no order.
    #[error("standard input is not a job order")]
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

/// Reads one order, has it done, writes events and the outcome as JSON lines. The end of `input`, SIGTERM and SIGINT
/// cancel the job. Whatever the job's outcome, delivering it is success.
pub async fn serve(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    worker: &dyn Worker,
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
            "the order has version {version} of the job protocol, this program speaks {ORDER_VERSION}"
        ))
    };
    // The writer is gone when nobody reads; then it says so itself.
    let _ = events.send(JobEvent::Outcome(outcome)).await;
    drop(events);
    writer.await.map_err(io::Error::other).and_then(|written| written).map_err(ProcessError::Write)
}

/// Has a job done within its limit. When `stopped` comes first or the limit ends, `cancel` is cancelled, and the job has a
/// while to clear away.
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
    match timeout(CLEARING, job).await {
        // Builds that were pushed before count; the reason why it stopped is ours.
        Ok(Ok(outcome)) if is_complete(&outcome) => outcome,
        Ok(Ok(outcome)) => JobOutcome { failure: Some(reason.failure()), ..outcome },
        Ok(Err(_)) | Err(_) => failed(&reason),
    }
}

/// Whether a job ended well just before it was told to stop: a lane that was cut has a verdict of its own.
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

pub(crate) const fn with_failure(failure: JobFailure) -> JobOutcome {
    JobOutcome {
        version: ORDER_VERSION,
        builds: Vec::new(),
        verdicts: Vec::new(),
        lock: None,
        failure: Some(failure),
    }
}

/// Reads a line; then watches for the end on a thread that ends with the process, because a read cannot be cancelled.
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
        // Nothing more is expected: what comes is skipped, an error is an end.
        let _ = io::copy(&mut input, &mut io::sink());
        cancel.cancel();
    })?;
    order.await.map_err(io::Error::other)?
}

fn write_events(mut events: mpsc::Receiver<JobEvent>, mut output: impl Write) -> io::Result<()> {
    while let Some(event) = events.blocking_recv() {
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        output.write_all(&line)?;
        output.flush()?;
        if matches!(event, JobEvent::Outcome(_)) {
            // Events of tasks that outlive the job are nobody's.
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::image_order;
    use crate::executor::BoxFuture;
    use crate::simulated::{Behaviour, SimulatedExecutor};

    /// Works until it is told to stop; then it ends as its behaviour says, as lanes do that are cut.
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
    async fn a_lane_that_was_cut_is_told_by_what_cut_it() {
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
        assert!(failure.hint.unwrap().contains("[jobs] within"));
        // What was built before stays built.
        assert_eq!(late.builds.len(), 2);
        let stopped = run(cut, "1h", Box::pin(std::future::ready(()))).await.failure.unwrap();
        assert!(stopped.message.contains("cancelled"), "{stopped:?}");
        // What ended well just then is done.
        assert_eq!(run(Behaviour::Succeed, "1ms", never()).await.failure, None);
    }

    #[tokio::test]
    async fn input_that_is_no_order_is_refused() {
        let executor = SimulatedExecutor::new();
        for (input, want) in [
            ("", "cannot read a job order"),
            ("{}", "cannot read a job order"),
            ("{}\n", "is not a job order"),
            ("nonsense\n", "is not a job order"),
            ("{\"version\":2}\n", "is not a job order"),
        ] {
            let error = serve(input.as_bytes(), io::sink(), &executor).await.unwrap_err();
            assert!(error.to_string().contains(want), "{input}: {error}");
        }
    }

    #[tokio::test]
    async fn another_version_gets_an_outcome_that_says_so() {
        let (mut reader, writer) = io::pipe().unwrap();
        serve("{\"version\":99}\n".as_bytes(), writer, &SimulatedExecutor::new()).await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let JobEvent::Outcome(outcome) = serde_json::from_str(&text).unwrap() else { panic!("no outcome") };
        assert!(outcome.failure.unwrap().message.contains("version 99"));
    }
}
