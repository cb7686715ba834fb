//! `verdict post`: what another system found.

use edgewright_api::VerdictPost;

use crate::args::{Global, VerdictArgs};
use crate::connection;
use crate::exit::{End, Failure};
use crate::output;

/// Posts a verdict to the server.
pub(super) async fn post(args: &VerdictArgs, global: &Global) -> Result<End, Failure> {
    let post = VerdictPost {
        digest: args.digest.clone(),
        check_set: args.check_set.clone(),
        passed: args.passed,
        message: args.message.clone(),
        url: args.url.clone(),
    };
    let answer = connection::client(global)?.post_verdict(&post).await?;
    if args.format.json {
        output::json(&answer)?;
        return Ok(End::Good);
    }
    let word = if args.passed { "passed" } else { "failed" };
    match answer.awaited_by.as_slice() {
        [] => output::note(&format!("{} is noted as {word}: no run waits for it now", answer.digest.short())),
        nodes => output::note(&format!("{word}: run {} goes on with {}", answer.run, nodes.join(", "))),
    }
    Ok(End::Good)
}
