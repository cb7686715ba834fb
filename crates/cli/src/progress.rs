//! A run's events as people see them: a line per running node on a terminal, plain lines otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use edgewright_control::events::{RunEvent, RunEventKind};
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, RunState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::render::style::{DIM, GREEN, RED, YELLOW, paint, plain, short_digests};
use crate::{output, render};

/// How often spinners move.
const TICK: Duration = Duration::from_millis(120);

/// Shows a run's events on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    nodes: BTreeMap<String, NodeBar>,
    done: usize,
    jobs: usize,
}

/// The line of a running node.
#[derive(Debug)]
struct NodeBar {
    bar: ProgressBar,
    /// The node and its phase.
    head: String,
}

impl NodeBar {
    /// Shows the head with what happens within the phase; the bar cuts the line to the terminal's width.
    fn show(&self, detail: &str) {
        let detail = short_digests(&plain(detail));
        let detail = if output::is_coloured() { paint(DIM, detail) } else { detail };
        self.bar.set_message(format!("{} {detail}", self.head));
    }
}

impl Progress {
    /// Bars where standard error is a terminal.
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, nodes: BTreeMap::new(), done: 0, jobs: 0 }
    }

    /// Shows an event.
    pub(crate) fn event(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::State(state) => {
                if !matches!(state, RunState::Running) {
                    self.line(&format!("run {} {}", event.run, render::state(*state)));
                }
            }
            RunEventKind::Planned { summary, jobs } => {
                self.jobs = *jobs;
                self.line(&format!("plan: {summary}"));
            }
            RunEventKind::Node { node, state, failure, .. } => self.node(node, *state, failure.as_ref()),
            RunEventKind::Phase { node, phase, title } => self.phase(node, *phase, title),
            RunEventKind::Progress { node, done, total, unit } => self.further(node, *done, *total, unit),
            RunEventKind::Log { node, line } => {
                if let Some(bar) = self.nodes.get(node) {
                    bar.show(line);
                }
            }
            RunEventKind::Released(number) => {
                self.line(&format!("release {number} {}", paint(GREEN, "made")));
            }
        }
    }

    /// Takes the bars away.
    pub(crate) fn end(&mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    fn node(&mut self, node: &str, state: NodeState, failure: Option<&JobFailure>) {
        if state == NodeState::Running {
            self.bar(node);
            return;
        }
        if let Some(node) = self.nodes.remove(node) {
            node.bar.finish_and_clear();
        }
        let failure = match failure {
            // Whose fault it is, the failed node said.
            Some(failure) if state == NodeState::Blocked => format!(": {}", plain(&failure.message)),
            Some(failure) => format!(": {} failure: {}", failure.kind, plain(&failure.message)),
            None => String::new(),
        };
        let word = match state {
            NodeState::Passed => paint(GREEN, state),
            NodeState::Failed | NodeState::Blocked => paint(RED, state),
            // Without a failure it waits for somebody else's verdict.
            NodeState::Waiting if failure.is_empty() => paint(YELLOW, "waits for a verdict"),
            NodeState::Waiting => paint(YELLOW, "is tried again"),
            _ => paint(DIM, state),
        };
        let count = if matches!(state, NodeState::Passed | NodeState::Failed) && self.jobs > 0 {
            self.done += 1;
            paint(DIM, format!("[{}/{}] ", self.done, self.jobs))
        } else {
            String::new()
        };
        self.line(&format!("{count}{node} {word}{failure}"));
    }

    fn phase(&mut self, node: &str, phase: Phase, title: &str) {
        let phase = format!("{phase:?}").to_lowercase();
        let head = format!("{node} {phase} {}", short_digests(&plain(title)));
        match self.bar(node) {
            Some(bar) => {
                bar.head = head;
                bar.show("");
            }
            None => self.line(&head),
        }
    }

    fn further(&self, node: &str, done: u64, total: Option<u64>, unit: &str) {
        if let Some(bar) = self.nodes.get(node) {
            let of = total.map(|total| format!("/{total}")).unwrap_or_default();
            bar.show(&format!("{done}{of} {unit}"));
        }
    }

    /// The bar of a node, made where it is missing; none without a terminal.
    fn bar(&mut self, node: &str) -> Option<&mut NodeBar> {
        let bars = self.bars.as_ref()?;
        Some(self.nodes.entry(node.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            // The template is a constant that parses; the default style would only look plainer.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_message(node.to_owned());
            bar.enable_steady_tick(TICK);
            NodeBar { bar, head: node.to_owned() }
        }))
    }
}
