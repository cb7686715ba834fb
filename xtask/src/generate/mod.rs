//! `generate`: the pages of `docs/reference` that follow from the code. They are committed, so that people can read and
//! review them.
//!
//! | file | from |
//! |---|---|
//! | `cli.md`, `exit-codes.md` | the help texts of `edgewright` |
//! | `settings.md` | `crates/server/src/settings`, and the variables that the command line interface reads |
//! | `metrics.md`, `events.md` | `crates/server/src/metrics`, `crates/server/src/reference/events.rs` |
//! | `limits.md` | the constants of all crates that bound input, work or time |
//! | `access.md`, `openapi.json` | the tables of `crates/api` |
//! | `json/` | the documents of `crates/api`, with their schemas and examples |
//!
//! A page is not written if something in it has no description: then both `generate` and `check` fail.

mod cli;
mod constants;
mod help;
mod limits;
mod markdown;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::command::Run;
use crate::workspace;
use help::Help;

/// A page: its path below `docs/reference`, and its text.
type Page = (String, String);

/// Writes all generated files.
pub(crate) fn write() -> anyhow::Result<()> {
    let mut changed = 0;
    for (path, text) in generated()? {
        if std::fs::read_to_string(&path).is_ok_and(|committed| committed == text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("generate: {}", workspace::shown(&path));
        changed += 1;
    }
    println!("generate: {changed} files changed");
    Ok(())
}

/// Checks that the committed files are what would be written.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (path, text) in generated()? {
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(workspace::shown(&path));
        }
    }
    ensure!(stale.is_empty(), "not up to date: {}: run `cargo xtask generate` and commit", stale.join(", "));
    Ok(())
}

fn generated() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let help = Help::of_all_commands(&build()?)?;
    let mut pages: Vec<Page> = vec![
        ("cli.md".to_owned(), cli::commands(&help)?),
        (
            "exit-codes.md".to_owned(),
            cli::exit_codes(&help, &printed("edgewright-server", "reference", &["errors"])?)?,
        ),
        (
            "settings.md".to_owned(),
            settings::page(&help, &printed("edgewright-server", "reference", &["settings"])?)?,
        ),
        ("metrics.md".to_owned(), metrics(&printed("edgewright-server", "reference", &["metrics"])?)),
        ("events.md".to_owned(), events(&printed("edgewright-server", "reference", &["events"])?)),
        ("limits.md".to_owned(), limits::page()?),
        ("access.md".to_owned(), printed("edgewright-api", "access", &[])?),
        ("openapi.json".to_owned(), printed("edgewright-api", "openapi", &[])?),
    ];
    let schemas = printed("edgewright-api", "documents", &[])?;
    let schemas: BTreeMap<String, String> =
        serde_json::from_str(&schemas).context("the example `documents` did not print an object of texts")?;
    pages.extend(schemas.into_iter().map(|(name, text)| (format!("json/{name}"), text)));
    let folder = workspace::root().join("docs/reference");
    Ok(pages.into_iter().map(|(name, text)| (folder.join(name), text)).collect())
}

/// The output of a crate's example.
fn printed(package: &str, example: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let cargo = ["run", "--quiet", "--locked", "--package", package, "--example", example, "--"];
    Run::new("cargo").args(cargo).args(arguments).cwd(workspace::root()).output()
}

fn metrics(body: &str) -> String {
    markdown::page(
        "Metrics",
        "crates/server/src/metrics",
        &format!(
            "`GET /metrics` serves these metrics as OpenMetrics text for Prometheus. Counters start at 0 with the \
             process; during a flood of events some are not counted.\n{body}"
        ),
    )
}

fn events(body: &str) -> String {
    markdown::page(
        "Events",
        "crates/server/src/reference/events.rs",
        &format!(
            "## CloudEvents\n\nSinks of the kind `cloud-events` receive every change of a run, node, release, channel or \
             copy as CloudEvents 1.0 in structured JSON, by HTTP POST, at least once and in order. Repeated deliveries \
             have the same `source` and `id`. The fields below are those of `data`; `SOURCE` in a subject is the name of \
             the source.\n{body}"
        ),
    )
}

/// Builds the command; tests and demo use the same build.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    Run::new("cargo").args(["build", "--locked", "--package", "edgewright"]).cwd(workspace::root()).run()?;
    Ok(workspace::target().join("debug/edgewright"))
}
