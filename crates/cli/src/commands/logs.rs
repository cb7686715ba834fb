//! `logs`: the log of a job, or of all jobs of a run.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::error::ErrorClass;
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_process::OwnedTask;

use crate::args::{Global, LogsArgs};
use crate::exit::{End, Failure};
use crate::output;
use crate::reader::{Log, RESUME_LIMIT, Reader};
use crate::render::style::{BOLD, paint};
use crate::render::visible::Visible;

/// How often it is tried meanwhile.
const RESUME_PAUSE: Duration = Duration::from_millis(500);
/// How often a run is read for jobs that started.
const PERIOD: Duration = Duration::from_secs(1);

/// Prints a log, and with `--follow` what is added to it.
pub(crate) async fn logs(global: &Global, args: LogsArgs) -> Result<End, Failure> {
    let reader = Reader::open(global).await?;
    let LogsArgs { run, node, follow } = args;
    let node = match node {
        Some(node) => node,
        None if follow => return until_closed(follow_all(Arc::new(reader), run)).await,
        None => most_relevant(&reader, run).await?,
    };
    until_closed(one(&reader, run, &node, follow)).await
}

/// Ends when standard output is closed, for example by `head`, even if no more lines come.
async fn until_closed(work: impl Future<Output = Result<End, Failure>>) -> Result<End, Failure> {
    tokio::select! {
        end = work => end,
        () = output::closed() => Ok(End::Good),
    }
}

async fn one(reader: &Reader, run: RunNumber, node: &str, follow: bool) -> Result<End, Failure> {
    let log = reader.log(run, node, follow, 0).await?;
    if std::io::stdout().is_terminal() {
        print(reader, (run, node), (log, follow), &mut Shown(Visible::default())).await?;
    } else {
        print(reader, (run, node), (log, follow), &mut Plain).await?;
    }
    if follow {
        note_end(reader, run, node).await;
    }
    Ok(End::Good)
}

/// Follows the logs of all jobs of a run, each line with its node, until the run ends.
pub(super) async fn follow_all(reader: Arc<Reader>, run: RunNumber) -> Result<End, Failure> {
    let (mut followed, mut known) = (BTreeSet::new(), 0);
    let mut logs: Vec<OwnedTask<Result<(), Failure>>> = Vec::new();
    let mut reached = tokio::time::Instant::now();
    loop {
        let started = match reader.jobs(run, None, known).await {
            Err(failure) if failure.is_unavailable() && reached.elapsed() < RESUME_LIMIT => {
                tokio::time::sleep(RESUME_PAUSE).await;
                continue;
            }
            started => started?,
        };
        reached = tokio::time::Instant::now();
        known = started.count;
        for job in &started.jobs {
            if followed.insert(job.node.clone()) {
                let (reader, name) = (Arc::clone(&reader), job.node.clone());
                logs.push(OwnedTask::spawn(async move {
                    let mut lines = Lines { prefix: format!("{} ", paint(BOLD, &name)), partial: Vec::new() };
                    // The job was seen, so the server is there, or will be again.
                    let log = match reader.log(run, &name, true, 0).await {
                        Err(failure) if failure.is_unavailable() => resume(&reader, run, &name, 0).await?,
                        log => log?,
                    };
                    print(&reader, (run, &name), (log, true), &mut lines).await?;
                    lines.end();
                    note_end(&reader, run, &name).await;
                    Ok(())
                }));
            }
        }
        if started.state.is_terminal() {
            for log in logs {
                log.await.map_err(|error| {
                    Failure::new(ErrorClass::Bug, format!("a log ended early: {error}"))
                })??;
            }
            output::note(&format!("# run {run} {}", started.state));
            return Ok(End::Good);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Where a log is printed.
trait Sink {
    /// Prints bytes as they come; false if no one reads them any more.
    fn write(&mut self, chunk: &[u8]) -> Result<bool, Failure>;
}

/// As it is.
struct Plain;

impl Sink for Plain {
    fn write(&mut self, chunk: &[u8]) -> Result<bool, Failure> {
        output::print_bytes(chunk)
    }
}

/// Without what would steer the terminal.
struct Shown(Visible);

impl Sink for Shown {
    fn write(&mut self, chunk: &[u8]) -> Result<bool, Failure> {
        output::print_bytes(self.0.next(chunk).as_bytes())
    }
}

/// In whole lines with a prefix: lines of several logs do not mix.
struct Lines {
    prefix: String,
    partial: Vec<u8>,
}

impl Lines {
    /// The whole lines of what came, each with the prefix.
    fn take(&mut self, chunk: &[u8]) -> String {
        self.partial.extend_from_slice(chunk);
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text: Vec<u8> = self.partial.drain(..whole).collect();
        let mut lines = String::new();
        for line in Visible::default().next(&text).lines() {
            lines.extend([&self.prefix, line, "\n"]);
        }
        lines
    }

    /// Prints the last line if the log does not end with a line feed.
    fn end(&mut self) {
        if !self.partial.is_empty() {
            let last = self.take(b"\n");
            drop(output::print(&last));
        }
    }
}

impl Sink for Lines {
    fn write(&mut self, chunk: &[u8]) -> Result<bool, Failure> {
        let lines = self.take(chunk);
        output::print_text(&lines)
    }
}

/// Prints a node's log from its begin, and what is added to it if it is followed.
async fn print(
    reader: &Reader,
    (run, node): (RunNumber, &str),
    (mut log, follow): (Log, bool),
    sink: &mut impl Sink,
) -> Result<(), Failure> {
    let mut read = 0;
    loop {
        match log.next().await {
            Ok(Some(chunk)) => {
                read += chunk.len() as u64;
                if !sink.write(&chunk)? {
                    return Ok(());
                }
            }
            // A server that stops ends its responses, too: the run shows whether the job has ended.
            Ok(None) if !follow || is_over(reader, run, node).await => return Ok(()),
            Err(failure) if !(follow && failure.is_unavailable()) => return Err(failure),
            Ok(None) | Err(_) => log = resume(reader, run, node, read).await?,
        }
    }
}

/// Whether nothing will be added; if the server cannot be reached, more may come.
async fn is_over(reader: &Reader, run: RunNumber, node: &str) -> bool {
    let Ok(found) = reader.jobs(run, Some(node), 0).await else { return false };
    // Locks and rebuilds are not nodes of the plan.
    found.state.is_terminal() || found.jobs.iter().all(|job| job.state.is_terminal())
}

/// Notes how a job ended that did not pass: its log may just stop.
async fn note_end(reader: &Reader, run: RunNumber, node: &str) {
    let Ok(found) = reader.jobs(run, Some(node), 0).await else { return };
    let ended = found.jobs.first().map(|job| job.state);
    if let Some(state @ (NodeState::Failed | NodeState::Cancelled | NodeState::Blocked)) = ended {
        output::note(&format!("# {node} {state}"));
    }
}

/// Continues behind what was read, as soon as the server responds again.
async fn resume(reader: &Reader, run: RunNumber, node: &str, read: u64) -> Result<Log, Failure> {
    output::note("# the server is gone; waiting for it");
    let deadline = tokio::time::Instant::now() + RESUME_LIMIT;
    loop {
        tokio::time::sleep(RESUME_PAUSE).await;
        match reader.log(run, node, true, read).await {
            Err(failure) if failure.is_unavailable() && tokio::time::Instant::now() < deadline => {}
            result => return result,
        }
    }
}

/// The node whose log is most relevant: one that failed, else one that runs, else the first one with a job.
async fn most_relevant(reader: &Reader, run: RunNumber) -> Result<String, Failure> {
    let view = reader.run(run).await?;
    let worked = || view.nodes.iter().filter(|node| node.job.is_some());
    let of = |state| worked().find(|node| node.state == state);
    let node = of(NodeState::Failed).or_else(|| of(NodeState::Running)).or_else(|| worked().next());
    let Some(node) = node else {
        return Err(Failure::new(ErrorClass::NotFound, format!("run {run} has no log: no job ran"))
            .hint(format!("`edgewright run show {run}` shows why")));
    };
    if worked().count() > 1 {
        output::note(&format!("# {} (others: edgewright logs {run} NODE)", node.node));
    }
    Ok(node.node.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_have_a_prefix() {
        let mut lines = Lines { prefix: "base ".to_owned(), partial: Vec::new() };
        assert_eq!(lines.take(b"one\ntw"), "base one\n");
        assert_eq!(lines.take(b"o\n\nthree"), "base two\nbase \n");
        assert_eq!(lines.take(b"\n"), "base three\n");
        assert_eq!(lines.take(b"\x1b[2Jfour\x1b]0;x\x07\r\n"), "base four\u{fffd}]0;x\u{fffd}\n");
    }
}
