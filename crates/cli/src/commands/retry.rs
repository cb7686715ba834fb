//! `run retry`: asks the server to run a run's commit again.

use edgewright_model::run::RunNumber;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;

/// Queues a run's commit again.
pub(crate) async fn retry(global: &Global, number: RunNumber) -> Result<End, Failure> {
    let run = crate::connection::client(global)?.retry(number).await?.run;
    output::note(&format!("run {run} is queued\nnext: edgewright run watch {run}"));
    Ok(End::Good)
}
