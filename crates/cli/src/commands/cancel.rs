//! `run cancel`: ask the server to end a run.

use edgewright_model::run::RunNumber;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;

/// Ends a run.
pub(crate) async fn cancel(global: &Global, number: RunNumber) -> Result<End, Failure> {
    let answer = crate::connection::client(global)?.cancel(number).await?;
    output::note(&format!("run {} is being cancelled", answer.run));
    Ok(End::Good)
}
