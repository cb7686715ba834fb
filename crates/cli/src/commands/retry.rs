//! `run retry`: ask the server to run a commit again.

use edgewright_model::run::RunNumber;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;

/// Queues a run's commit again.
pub(crate) async fn retry(global: &Global, number: RunNumber) -> Result<End, Failure> {
    let answer = crate::connection::client(global)?.retry(number).await?;
    let run = answer.run;
    output::note(&format!("run {run} is queued\nto see it: edgewright run show {run}"));
    Ok(End::Good)
}
