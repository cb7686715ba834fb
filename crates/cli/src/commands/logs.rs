//! `logs`: a job's log.

use edgewright_model::error::ErrorClass;
use edgewright_model::run::{NodeState, RunNumber};

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;
use crate::reader::Reader;

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
    let mut log = reader.log(run, &node, follow).await?;
    while let Some(chunk) = log.next().await? {
        if !output::print_bytes(&chunk)? {
            break;
        }
    }
    Ok(End::Good)
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
