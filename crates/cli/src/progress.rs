//! A run's events for people: a line per running node on a terminal, plain lines with the elapsed time
//! otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use edgewright_control::events::{RunEvent, RunEventKind};
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, RunState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::render::style::{DIM, GREEN, RED, YELLOW, paint, plain, short_digests};
use crate::{output, render};

/// How often spinners move.
const TICK: Duration = Duration::from_millis(120);
/// How long plain lines may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Shows a run's events on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    nodes: BTreeMap<String, Node>,
    done: usize,
    jobs: usize,
    started: Instant,
    /// When a plain line was last printed.
    printed: Instant,
}

/// A running node.
#[derive(Debug)]
struct Node {
    /// Its line on a terminal.
    bar: Option<ProgressBar>,
    /// The node and its phase.
    head: String,
    /// When the phase began.
    since: Instant,
}

impl Node {
    /// Shows the head with what happens within the phase; the bar cuts the line to the terminal's width.
    fn show(&self, detail: &str) {
        let Some(bar) = &self.bar else { return };
        let detail = short_digests(&plain(detail));
        let detail = if output::is_coloured() { paint(DIM, detail) } else { detail };
        bar.set_message(format!("{} {detail}", self.head));
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress {
    /// Bars if standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self::with(std::io::stderr().is_terminal().then(MultiProgress::new))
    }

    fn with(bars: Option<MultiProgress>) -> Self {
        let now = Instant::now();
        Self { bars, nodes: BTreeMap::new(), done: 0, jobs: 0, started: now, printed: now }
    }

    /// Shows an event.
    pub(crate) fn event(&mut self, event: &RunEvent) {
        match &event.kind {
            // `running` follows from the plan; whether anything is released shows when it is.
            RunEventKind::State(RunState::Running | RunState::Releasing) => {}
            RunEventKind::State(state) => {
                self.line(&format!("run {} {}", event.run, render::state(*state)));
            }
            RunEventKind::Planned { summary, jobs } => {
                self.jobs = *jobs;
                // What ran before are locks, whose end is not an event of its own.
                self.end();
                self.line(&format!("plan: {summary}"));
            }
            RunEventKind::Node { node, state, failure, .. } => self.node(node, *state, failure.as_ref()),
            RunEventKind::Phase { node, phase, title } => self.phase(node, *phase, title),
            RunEventKind::Progress { node, done, total, unit } => self.step(node, *done, *total, unit),
            RunEventKind::Log { node, line } => {
                if let Some(node) = self.nodes.get(node) {
                    node.show(line);
                }
            }
            RunEventKind::Released(number) => {
                self.line(&format!("release {number} {}", paint(GREEN, "made")));
            }
        }
    }

    /// Waits until plain lines have been silent for too long, then prints what is running. Never returns on a
    /// terminal, whose lines move by themselves, nor while nothing runs.
    pub(crate) async fn heartbeat(&mut self) {
        if self.bars.is_some() || self.nodes.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.printed + SILENCE).await;
        if let Some(text) = self.still_running() {
            self.line(&text);
        }
    }

    fn still_running(&self) -> Option<String> {
        let running =
            self.nodes.values().map(|node| format!("{} ({})", node.head, clock(node.since.elapsed())));
        let running: Vec<String> = running.collect();
        (!running.is_empty()).then(|| format!("still running: {}", running.join(", ")))
    }

    /// Removes the bars.
    pub(crate) fn end(&mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.end();
        }
    }

    fn line(&mut self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| output::note(text)),
            None => output::note(&format!("{:>7} {text}", clock(self.started.elapsed()))),
        }
        self.printed = Instant::now();
    }

    fn node(&mut self, node: &str, state: NodeState, failure: Option<&JobFailure>) {
        if state == NodeState::Running {
            self.running(node, node.to_owned());
            return;
        }
        if let Some(node) = self.nodes.remove(node) {
            node.end();
        }
        let failure = match failure {
            // The failed node's own line has the kind.
            Some(failure) if state == NodeState::Blocked => format!(": {}", plain(&failure.message)),
            Some(failure) => format!(": {} failure: {}", failure.kind, plain(&failure.message)),
            None => String::new(),
        };
        let word = match state {
            NodeState::Passed => paint(GREEN, state),
            NodeState::Failed | NodeState::Blocked => paint(RED, state),
            // Without a failure it waits for another system's verdict.
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
        let head = format!("{node}: {} {}", phase.name(), short_digests(&plain(title)));
        let shown = self.running(node, head.clone());
        shown.since = Instant::now();
        shown.head.clone_from(&head);
        shown.show("");
        if self.bars.is_none() {
            self.line(&head);
        }
    }

    fn step(&self, node: &str, done: u64, total: Option<u64>, unit: &str) {
        if let Some(node) = self.nodes.get(node) {
            let of = total.map(|total| format!("/{total}")).unwrap_or_default();
            node.show(&format!("{done}{of} {unit}"));
        }
    }

    /// A running node, added if it is new.
    fn running(&mut self, node: &str, head: String) -> &mut Node {
        let bars = self.bars.as_ref();
        self.nodes.entry(node.to_owned()).or_insert_with(|| {
            let bar = bars.map(|bars| {
                let bar = bars.add(ProgressBar::new_spinner());
                // The template is a constant that parses; the default style would only look plainer.
                if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
                    bar.set_style(style);
                }
                bar.set_message(head.clone());
                bar.enable_steady_tick(TICK);
                bar
            });
            Node { bar, head, since: Instant::now() }
        })
    }
}

/// `0:42`, `12:05`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_lines_show_what_still_runs() {
        let mut progress = Progress::with(None);
        assert!(progress.still_running().is_none());
        progress.phase("base", Phase::Build, "bootstrap trixie");
        progress.printed -= SILENCE;
        let silent_since = progress.printed;
        progress.heartbeat().await;
        assert!(progress.printed > silent_since, "a line was printed");
        let text = progress.still_running().unwrap();
        assert!(text.starts_with("still running: base: build bootstrap trixie (0:"), "{text}");
        progress.node("base", NodeState::Passed, None);
        assert!(progress.still_running().is_none());
    }
}
