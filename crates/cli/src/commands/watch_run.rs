//! `run watch`: follows a run to its end, wherever it is executed.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_api::{NodeView, RunView};
use edgewright_model::run::{NodeState, RunNumber, RunState};

use super::serve::Stop;
use crate::args::Global;
use crate::exit::{End, Failure};
use crate::reader::{RESUME_LIMIT, Reader};
use crate::{output, render};

/// How often the run is read.
const PERIOD: Duration = Duration::from_secs(1);
/// How long it may be silent before a line shows that it is still running.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Prints what happens in a run until it ends; its end is that of the command.
pub(super) async fn watch(global: &Global, number: RunNumber) -> Result<End, Failure> {
    let reader = Reader::open(global).await?;
    let mut stop = Stop::listen()?;
    let mut shown = Shown::default();
    let mut reached = tokio::time::Instant::now();
    loop {
        match reader.run(number).await {
            Ok(view) => {
                reached = tokio::time::Instant::now();
                shown.update(&view);
                if view.run.state.is_terminal() {
                    output::print(&format!("\n{}", render::run(&view, super::now())))?;
                    return Ok(End::of(view.run.state));
                }
            }
            Err(failure) if failure.is_unavailable() && reached.elapsed() < RESUME_LIMIT => {
                shown.line("the server is gone; waiting for it");
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.next() => {
                let message = format!("stopped watching; run {number} continues");
                return Err(Failure::stopped(&message)
                    .hint(format!("`edgewright run cancel {number}` cancels it")));
            }
        }
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
