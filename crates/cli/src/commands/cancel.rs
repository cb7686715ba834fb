//! `run cancel`: asks the server to cancel a run.

use edgewright_model::run::RunNumber;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;

/// Cancels a run.
pub(crate) async fn cancel(global: &Global, number: RunNumber) -> Result<End, Failure> {
    let run = crate::connection::client(global)?.cancel(number).await?.run;
    output::note(&format!("cancelling run {run}"));
    Ok(End::Good)
}
