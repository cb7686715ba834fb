//! The status at a glance.

use std::fmt::Write as _;

use edgewright_api::ServerStatus;

use super::run::{commit, runs};
use super::style::{BOLD, DIM, GREEN, RED, paint, plain};
use super::table::Table;
use super::units::{age, bytes};

/// How a server is doing.
pub(crate) fn status(status: &ServerStatus) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {value}", paint(DIM, format!("{name:<9}")));
    };
    line(
        "server",
        match status.server {
            Some(pid) => format!("{} (process {pid}, version {})", paint(GREEN, "running"), status.version),
            None => "not running".to_owned(),
        },
    );
    if let Some(registry) = &status.registry {
        line("registry", registry.clone());
    }
    let data = &status.data;
    line(
        "data",
        format!(
            "{} ({} free of {}, {} built)",
            data.path,
            bytes(data.free_bytes),
            bytes(data.disk_bytes),
            bytes(data.built_bytes)
        ),
    );
    text.push('\n');
    let mut sources = Table::new(["source", "url", "branch", "polled", "commit", "note"]);
    for source in &status.sources {
        sources.row([
            source.name.to_string(),
            source.url.clone(),
            source.branch.clone().unwrap_or_default(),
            source.last_poll.map(|at| age(at, status.now)).unwrap_or_default(),
            source.commit.as_deref().map(commit).unwrap_or_default().to_owned(),
            match &source.error {
                Some(error) => paint(RED, plain(error)),
                None => source.subject.as_deref().map(plain).unwrap_or_default(),
            },
        ]);
    }
    text.push_str(&sources.text("no sources"));
    for sink in &status.sinks {
        if let Some(error) = &sink.error {
            let behind = format!("{} was not told of {} events:", sink.name, sink.untold);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n{} {}", paint(RED, format!("sink {behind}")), plain(error));
        }
    }
    if !status.targets.is_empty() {
        text.push('\n');
        text.push_str(&targets(status));
    }
    let waiting: Vec<_> = status.active.iter().chain(&status.queue).cloned().collect();
    if !waiting.is_empty() {
        text.push('\n');
        text.push_str(&runs(&waiting, status.now));
    }
    if !status.jobs.is_empty() {
        text.push('\n');
        let mut jobs = Table::new(["run", "node", "phase", "since"]);
        for job in &status.jobs {
            jobs.row([
                job.run.to_string(),
                paint(BOLD, &job.node),
                job.phase.map(|phase| format!("{phase:?}").to_lowercase()).unwrap_or_default(),
                age(job.started, status.now),
            ]);
        }
        text.push_str(&jobs.text(""));
    }
    if !status.kept.is_empty() {
        text.push('\n');
        let mut kept = Table::new(["kept machine", "state", "since"]);
        for machine in &status.kept {
            kept.row([paint(BOLD, &machine.repository), machine.state.clone(), machine.status.clone()]);
        }
        text.push_str(&kept.text(""));
        text.push_str("`edgewright shell VARIANT` enters one, `edgewright shell VARIANT --rm` removes it\n");
    }
    text
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
