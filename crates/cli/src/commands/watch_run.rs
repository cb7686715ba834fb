//! `run watch`: follows a run to its end, wherever it is executed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgewright_api::{NodeView, RunView};
use edgewright_model::error::ErrorClass;
use edgewright_model::run::{NodeState, RunNumber, RunState};

use super::serve::Stop;
use super::{find_run, run_results};
use crate::args::{Global, WatchArgs};
use crate::exit::{End, Failure};
use crate::reader::{RESUME_LIMIT, Reader};
use crate::{connection, output, render};

/// How often the run is read.
const PERIOD: Duration = Duration::from_secs(1);
/// How long it may be silent before a line shows that it is still running.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Prints what happens in a run until it ends; its end is that of the command.
pub(super) async fn watch(global: &Global, args: &WatchArgs) -> Result<End, Failure> {
    let mut stop = Stop::listen()?;
    let number = match (&args.source, args.number) {
        (Some(source), _) => {
            let client = connection::client(global)?;
            tokio::select! {
                number = find_run::find(&client, source, args) => number?,
                () = stop.next() => return Err(Failure::stopped("stopped before the run was found")),
            }
        }
        (None, Some(number)) => number,
        (None, None) => return Err(Failure::new(ErrorClass::Bug, "neither a run nor a source is named")),
    };
    let reader = Arc::new(Reader::open(global).await?);
    let view = tokio::select! {
        view = follow(&reader, number, args) => view?,
        () = stop.next() => return Err(stopped(global, number, args.cancel).await),
    };
    if let Some(folder) = &args.results {
        run_results::write(folder, &reader, &view, &args.variant).await?;
    }
    if args.format.json {
        output::json(&view)?;
    } else {
        output::print(&format!("\n{}", render::run(&view, super::now())))?;
    }
    Ok(End::of(view.run.state))
}

/// What a signal does: the run continues, or is cancelled if the user wants that.
async fn stopped(global: &Global, number: RunNumber, cancels: bool) -> Failure {
    if !cancels {
        return Failure::stopped(&format!("stopped watching; run {number} continues"))
            .hint(format!("`edgewright run cancel {number}` cancels it"));
    }
    let cancelled = async { Ok::<_, Failure>(connection::client(global)?.cancel(number).await?) };
    match cancelled.await {
        Ok(_) => Failure::stopped(&format!("stopped watching; run {number} is being cancelled")),
        Err(failure) => {
            Failure::stopped(&format!("stopped watching; run {number} cannot be cancelled: {failure}"))
                .hint(format!("`edgewright run cancel {number}` tries it again"))
        }
    }
}

/// Prints what happens in a run, or the logs of its jobs, until it ends.
async fn follow(reader: &Arc<Reader>, number: RunNumber, args: &WatchArgs) -> Result<RunView, Failure> {
    if args.logs {
        output::note(&format!("run {number}"));
        super::logs::follow_all(Arc::clone(reader), number).await?;
    }
    let mut shown = Shown::default();
    let mut reached = tokio::time::Instant::now();
    loop {
        match reader.run(number).await {
            Ok(view) => {
                reached = tokio::time::Instant::now();
                if !args.logs {
                    shown.update(&view);
                }
                if view.run.state.is_terminal() {
                    return Ok(view);
                }
            }
            Err(failure) if failure.is_unavailable() && reached.elapsed() < RESUME_LIMIT => {
                shown.line("the server is gone; waiting for it");
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What was printed last.
#[derive(Debug)]
struct Shown {
    state: Option<RunState>,
    nodes: BTreeMap<String, (NodeState, String)>,
    last: String,
    printed: tokio::time::Instant,
}

impl Default for Shown {
    fn default() -> Self {
        let printed = tokio::time::Instant::now();
        Self { state: None, nodes: BTreeMap::new(), last: String::new(), printed }
    }
}

impl Shown {
    /// Prints a line, once.
    fn line(&mut self, text: &str) {
        if self.last != text {
            output::note(text);
            text.clone_into(&mut self.last);
        }
        self.printed = tokio::time::Instant::now();
    }

    /// Prints what is new.
    fn update(&mut self, view: &RunView) {
        let run = &view.run;
        if self.state != Some(run.state) {
            self.state = Some(run.state);
            // Whether something is released shows when it is.
            if run.state != RunState::Releasing {
                self.line(&format!("run {} {}", run.number, render::state(run.state)));
            }
        }
        for node in &view.nodes {
            let now = (node.state, activity(node));
            let name = render::node_name(node, view);
            let before = self.nodes.insert(name.clone(), now.clone());
            let is_news = before.as_ref() != Some(&now)
                && !matches!(node.state, NodeState::Reused | NodeState::Retired)
                && (node.state != NodeState::Waiting || before.is_some());
            if is_news {
                self.line(&format!("{name} {}{}", render::node_state(now.0), now.1));
            }
        }
        if self.printed.elapsed() >= HEARTBEAT {
            let running = view.nodes.iter().filter(|node| node.state == NodeState::Running);
            let names: Vec<&str> = running.map(|node| node.node.as_str()).collect();
            if !names.is_empty() {
                // The same line may be due again.
                self.last.clear();
                self.line(&format!("still running: {}", names.join(", ")));
            }
        }
    }
}

/// What a node's job does, or why it failed.
fn activity(node: &NodeView) -> String {
    match (&node.failure, node.phase) {
        (Some(failure), _) if node.state.is_terminal() => format!(": {}", render::plain(&failure.message)),
        (_, Some(phase)) if node.state == NodeState::Running => format!(": {}", phase.name()),
        _ => String::new(),
    }
}
