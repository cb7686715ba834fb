//! `logs`: a job's log.

use std::time::Duration;

use edgewright_model::error::ErrorClass;
use edgewright_model::run::{NodeState, RunNumber};

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;
use crate::reader::{Log, Reader};

/// How long a server may be away while its log is followed: an update with a restart takes less.
const RESUME_WITHIN: Duration = Duration::from_mins(5);
/// How often it is asked meanwhile.
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// Prints a log, and with `follow` what is added to it.
pub(crate) async fn logs(
    global: &Global,
    run: RunNumber,
    node: Option<String>,
    follow: bool,
) -> Result<End, Failure> {
    let reader = Reader::open(global).await?;
    let node = match node {
        Some(node) => node,
        None => telling(&reader, run).await?,
    };
    let mut log = reader.log(run, &node, follow, 0).await?;
    let mut read = 0;
    loop {
        match log.next().await {
            Ok(Some(chunk)) => {
                read += chunk.len() as u64;
                if !output::print_bytes(&chunk)? {
                    break;
                }
            }
            // A server that stops ends its answers; whether the job is over, the next one says.
            Ok(None) if !follow || is_over(&reader, run, &node).await => break,
            Err(failure) if !(follow && failure.is_unavailable()) => return Err(failure),
            Ok(None) | Err(_) => log = resume(&reader, run, &node, read).await?,
        }
    }
    Ok(End::Good)
}

/// Whether there is nothing more to come; where nobody can say, there may be.
async fn is_over(reader: &Reader, run: RunNumber, node: &str) -> bool {
    let Ok(view) = reader.run(run).await else { return false };
    let mut rows = view.nodes.iter().filter(|row| row.node == node).peekable();
    // Locks and rebuilds are no nodes of the plan.
    view.run.state.is_terminal() || rows.peek().is_none() || rows.all(|row| row.state.is_terminal())
}

/// Goes on behind what was read, as soon as the server answers again.
async fn resume(reader: &Reader, run: RunNumber, node: &str, read: u64) -> Result<Log, Failure> {
    output::note("# the server is gone; waiting for it");
    let deadline = tokio::time::Instant::now() + RESUME_WITHIN;
    loop {
        tokio::time::sleep(RESUME_PAUSE).await;
        match reader.log(run, node, true, read).await {
            Err(failure) if failure.is_unavailable() && tokio::time::Instant::now() < deadline => {}
            result => return result,
        }
    }
}

/// The node that tells most: one that failed, else one that runs, else the first that a job worked on.
async fn telling(reader: &Reader, run: RunNumber) -> Result<String, Failure> {
    let view = reader.run(run).await?;
    let worked = || view.nodes.iter().filter(|node| node.job.is_some());
    let of = |state| worked().find(|node| node.state == state);
    let node = of(NodeState::Failed).or_else(|| of(NodeState::Running)).or_else(|| worked().next());
    let Some(node) = node else {
        return Err(Failure::new(ErrorClass::NotFound, format!("run {run} has no log: no job ran"))
            .hint(format!("`edgewright run show {run}` says why")));
    };
    if worked().count() > 1 {
        output::note(&format!("# {} (others: edgewright logs {run} NODE)", node.node));
    }
    Ok(node.node.clone())
}
