//! The status.

use std::fmt::Write as _;

use edgewright_api::{ServerStatus, SourceView};
use edgewright_model::outcome::Phase;
use jiff::Timestamp;

use super::facts::Facts;
use super::run::{commit, runs};
use super::style::{BOLD, DIM, GREEN, RED, paint, plain};
use super::table::Table;
use super::units::{age, bytes};

/// The columns that names of facts take.
const COLUMNS: usize = 9;

/// The state of a server. `program` is the command that holds the data folder, if it is not a server that
/// stays.
pub(crate) fn status(status: &ServerStatus, program: Option<&str>) -> String {
    let mut text = facts(status, program);
    text.push('\n');
    text.push_str(&sources(&status.sources, status.now));
    for sink in &status.sinks {
        if let Some(error) = &sink.error {
            let behind = format!("{} did not receive {} events:", sink.name, sink.undelivered);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n{} {}", paint(RED, format!("sink {behind}")), plain(error));
        }
    }
    let waiting: Vec<_> = status.active.iter().chain(&status.queue).cloned().collect();
    let sections = [
        (!status.targets.is_empty()).then(|| targets(status)),
        (!waiting.is_empty()).then(|| runs(&waiting, status.now)),
        (!status.jobs.is_empty()).then(|| jobs(status)),
        (!status.kept.is_empty()).then(|| kept(status)),
    ];
    for section in sections.into_iter().flatten() {
        text.push('\n');
        text.push_str(&section);
    }
    text
}

/// The reconcilers of the server.
pub(crate) fn reconcilers(status: &ServerStatus) -> String {
    let mut table = Table::new(["reconciler", "started", "why", "took", "next", "result"]);
    for reconciler in &status.reconcilers {
        let result = match (&reconciler.error, &reconciler.done) {
            (Some(error), _) => paint(RED, format!("failed {} times: {}", reconciler.failures, plain(error))),
            (None, Some(done)) => plain(done),
            (None, None) => String::new(),
        };
        let next = reconciler.next.map(|next| until(next, status.now));
        table.row([
            paint(BOLD, &reconciler.name),
            age(reconciler.started, status.now),
            reconciler.cause.clone(),
            format!("{} ms", reconciler.duration_ms),
            next.unwrap_or_else(|| paint(GREEN, "running")),
            result,
        ]);
    }
    format!("\n{}", table.text("no server runs: nothing is reconciled"))
}

/// How long it is until a time, in whole seconds.
fn until(at: Timestamp, now: Timestamp) -> String {
    let wait = at.duration_since(now).as_secs().max(0);
    format!("in {wait} s")
}

fn facts(status: &ServerStatus, program: Option<&str>) -> String {
    let mut facts = Facts::new(COLUMNS);
    let server = match status.server_pid {
        Some(pid) if program.is_some() => {
            let program = program.map(plain).unwrap_or_default();
            format!("not running; `{program}` (process {pid}) uses the data folder")
        }
        Some(pid) => format!("{} (process {pid}, version {})", paint(GREEN, "running"), status.version),
        None => "not running".to_owned(),
    };
    facts.add("server", server);
    facts.add("registry", status.registry.as_deref().unwrap_or_default());
    let data = &status.data;
    let (free, disk, built) = (bytes(data.free_bytes), bytes(data.disk_bytes), bytes(data.built_bytes));
    facts.add("data", format!("{} ({free} free of {disk}, {built} built)", data.path));
    facts.into_text()
}

/// The list of sources.
pub(crate) fn sources(sources: &[SourceView], now: Timestamp) -> String {
    let mut table = Table::new(["source", "url", "branch", "polled", "commit", "note"]);
    for source in sources {
        table.row([
            source.name.to_string(),
            source.url.clone(),
            source.branch.clone().unwrap_or_default(),
            match source.followed {
                Some(false) => paint(DIM, "not followed"),
                _ => source.last_poll.map(|at| age(at, now)).unwrap_or_default(),
            },
            source.commit.as_deref().map(commit).unwrap_or_default().to_owned(),
            match &source.error {
                _ if source.followed == Some(false) => paint(DIM, "no longer in the settings"),
                Some(error) => paint(RED, plain(error)),
                None => source.subject.as_deref().map(plain).unwrap_or_default(),
            },
        ]);
    }
    table.text("no sources")
}

fn jobs(status: &ServerStatus) -> String {
    let mut table = Table::new(["run", "node", "phase", "since"]);
    for job in &status.jobs {
        table.row([
            job.run.to_string(),
            paint(BOLD, &job.node),
            job.phase.map(Phase::name).unwrap_or_default().to_owned(),
            age(job.started, status.now),
        ]);
    }
    table.text("")
}

fn kept(status: &ServerStatus) -> String {
    let mut table = Table::new(["kept machine", "state", "since"]);
    for machine in &status.kept {
        table.row([paint(BOLD, &machine.repository), machine.state.clone(), machine.status.clone()]);
    }
    table.text("") + "`edgewright shell VARIANT` enters one, `edgewright shell VARIANT --rm` removes it\n"
}

fn targets(status: &ServerStatus) -> String {
    let mut table = Table::new(["target", "source", "channel", "release", "state", "since"]);
    for target in &status.targets {
        let state = match (target.state.as_str(), target.copied) {
            ("copied", _) => paint(GREEN, "copied"),
            ("failed", _) => paint(RED, format!("failed {} times", target.failures)),
            (state, Some(copied)) => format!("{state}, has {copied}"),
            (state, None) => state.to_owned(),
        };
        table.row([
            target.target.clone(),
            target.source.to_string(),
            target.channel.to_string(),
            target.release.to_string(),
            state,
            age(target.changed, status.now),
        ]);
    }
    let mut text = table.text("");
    for target in &status.targets {
        let Some(error) = &target.error else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", paint(RED, format!("{}:", target.target)), plain(error));
        if let Some(hint) = &target.hint {
            let _ = writeln!(text, " {} {}", paint(BOLD, "hint:"), plain(hint));
        }
    }
    text
}
