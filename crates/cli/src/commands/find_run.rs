//! Polls a source on the server, and finds the run of a commit: for pipelines that pushed it before.

use std::time::Duration;

use edgewright_api::{Client, ReconcilerView, RunSummary, ServerStatus, SourceView};
use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use edgewright_model::run::{RunNumber, RunState, Trigger};
use tokio::time::{Instant, sleep};

use crate::args::WatchArgs;
use crate::exit::Failure;
use crate::output;

/// How often the server is asked.
const PERIOD: Duration = Duration::from_millis(500);
/// How many of a source's runs are searched.
const RUNS: u32 = 200;

/// The run of the commit that was asked for, as soon as there is one.
pub(super) async fn find(
    client: &Client,
    source: &SourceName,
    args: &WatchArgs,
) -> Result<RunNumber, Failure> {
    let deadline = Instant::now() + args.appears_within.get();
    let mut poll = poll(client, source, deadline).await;
    loop {
        let wanted = match &args.commit {
            Some(commit) => commit.clone(),
            None => {
                newest(client, source, args.branch.as_deref(), std::mem::replace(&mut poll, Ok(()))).await?
            }
        };
        let runs = client.runs(Some(source), RUNS).await?;
        if let Some(run) = of_commit(&runs, &wanted, args.branch.as_deref()) {
            return again(client, run, args.retry).await;
        }
        if Instant::now() >= deadline {
            // The reason why the commit was not seen, if the poll has one.
            poll?;
            let message = format!("source {source} has no run of commit {wanted}");
            return Err(Failure::new(ErrorClass::NotFound, message).hint(
                "push it to a branch that the source or a channel follows; a commit below a newer one has no run",
            ));
        }
        sleep(PERIOD).await;
    }
}

/// Has the server poll a source, and waits until it has.
async fn poll(client: &Client, source: &SourceName, deadline: Instant) -> Result<(), Failure> {
    let before = reconciler(&client.status().await?, source).map(|pass| pass.started);
    client.poll(source).await?;
    loop {
        let status = client.status().await?;
        match reconciler(&status, source) {
            Some(pass) if !pass.running && before.is_none_or(|before| pass.started > before) => {
                return match &pass.error {
                    None => Ok(()),
                    Some(error) => Err(Failure::new(
                        ErrorClass::Unavailable,
                        format!("the server cannot poll source {source}: {error}"),
                    )
                    .hint("`edgewright source list` shows what it needs")),
                };
            }
            _ if Instant::now() >= deadline => {
                let message = format!("the server did not poll source {source} in time");
                return Err(
                    Failure::new(ErrorClass::Unavailable, message).hint("allow more: --appears-within TIME")
                );
            }
            _ => sleep(PERIOD).await,
        }
    }
}

fn reconciler<'a>(status: &'a ServerStatus, source: &SourceName) -> Option<&'a ReconcilerView> {
    let name = format!("source {source}");
    status.reconcilers.iter().find(|pass| pass.name == name)
}

/// The newest commit of a branch that has a run, after a poll.
async fn newest(
    client: &Client,
    source: &SourceName,
    branch: Option<&str>,
    polled: Result<(), Failure>,
) -> Result<String, Failure> {
    polled?;
    let Some(branch) = branch else {
        let sources = client.sources().await?;
        let view: Option<&SourceView> = sources.iter().find(|view| view.name == *source);
        return view.and_then(|view| view.commit.clone()).ok_or_else(|| no_run(source));
    };
    let runs = client.runs(Some(source), RUNS).await?;
    let run = runs.iter().find(|run| run.branch == branch);
    run.map(|run| run.commit.clone()).ok_or_else(|| no_run(source))
}

fn no_run(source: &SourceName) -> Failure {
    Failure::new(ErrorClass::NotFound, format!("source {source} has no run of this branch"))
        .hint("check the name of the branch, and that the source or a channel follows it")
}

/// The newest run of a commit that may release. `runs` are newest first.
fn of_commit<'a>(runs: &'a [RunSummary], commit: &str, branch: Option<&str>) -> Option<&'a RunSummary> {
    runs.iter().find(|run| {
        run.commit.starts_with(commit)
            && branch.is_none_or(|branch| run.branch == branch)
            && !matches!(run.trigger, Trigger::Selected | Trigger::Update)
    })
}

/// The run, or one that tries its commit again.
async fn again(client: &Client, run: &RunSummary, retry: bool) -> Result<RunNumber, Failure> {
    if retry && matches!(run.state, RunState::Failed | RunState::Cancelled) {
        let again = client.retry(run.number).await?.run;
        output::note(&format!("run {} {}; run {again} tries its commit again", run.number, run.state));
        return Ok(again);
    }
    Ok(run.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u32, commit: &str, branch: &str, trigger: Trigger) -> RunSummary {
        RunSummary {
            number: RunNumber(number),
            source: "plants".parse().unwrap(),
            branch: branch.to_owned(),
            commit: commit.to_owned(),
            subject: String::new(),
            author: String::new(),
            trigger,
            state: RunState::Passed,
            summary: None,
            counts: edgewright_api::Counts::default(),
            created: jiff::Timestamp::UNIX_EPOCH,
            started: None,
            finished: None,
            release: None,
        }
    }

    #[test]
    fn the_newest_run_of_a_commit_is_found_by_its_first_digits() {
        let runs = [
            run(5, "aaaaaaa1", "main", Trigger::Selected),
            run(4, "aaaaaaa1", "main", Trigger::Manual),
            run(3, "bbbbbbb1", "main", Trigger::Commit),
            run(2, "aaaaaaa1", "next", Trigger::Commit),
        ];
        let found = |commit, branch| of_commit(&runs, commit, branch).map(|run| run.number.0);
        assert_eq!(found("aaaaaaa", None), Some(4));
        assert_eq!(found("aaaaaaa", Some("next")), Some(2));
        assert_eq!(found("bbbbbbb1", Some("main")), Some(3));
        assert_eq!(found("ccccccc", None), None);
    }
}
