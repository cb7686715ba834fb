//! `verdict post`: the verdict of another system.

use edgewright_api::VerdictPost;

use super::{digest, run_results};
use crate::args::{Global, VerdictArgs};
use crate::connection;
use crate::exit::{End, Failure};
use crate::output;
use crate::reader::Reader;

/// Posts a verdict to the server.
pub(super) async fn post(args: &VerdictArgs, global: &Global) -> Result<End, Failure> {
    let digest = match args.digest.parse() {
        Ok(digest) => digest,
        Err(_) => digest::manifest(&Reader::open(global).await?, &args.digest).await?,
    };
    let post = VerdictPost {
        digest,
        check_set: args.check_set.clone(),
        passed: args.passed,
        message: args.message.clone(),
        url: args.url.clone(),
    };
    let response = connection::client(global)?.post_verdict(&post).await?;
    if let Some(folder) = &args.results {
        let values = [("run", response.run.to_string()), ("awaited-by", response.awaited_by.join(" "))];
        run_results::write_files(folder, &values).await?;
    }
    if args.format.json {
        output::json(&response)?;
        return Ok(End::Good);
    }
    let word = if args.passed { "passed" } else { "failed" };
    match response.awaited_by.as_slice() {
        [] => {
            output::note(&format!("recorded {} as {word}; no run waits for it", response.digest.short()));
        }
        nodes => output::note(&format!(
            "recorded as {word}; run {} continues with {}",
            response.run,
            nodes.join(", ")
        )),
    }
    Ok(End::Good)
}
