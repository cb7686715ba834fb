//! `generate`: the pages of `docs/reference` that follow from the code. They are committed, so that people
//! can read and review them.
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
//! The chart in `deploy/helm` follows from `deploy/kustomize` ([`chart`]).
//!
//! A page is not written if something in it has no description: then both `generate` and `check` fail.

mod chart;
mod cli;
mod constants;
mod help;
mod limits;
mod markdown;
mod settings;
mod values;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use crate::command::Run;
use crate::workspace;
use help::Help;

/// A page below `docs/reference`, and how to make it.
type Page = (&'static str, fn(&Sources) -> anyhow::Result<String>);

/// The folder of the schemas of JSON documents, many files from one source.
const SCHEMAS: &str = "json";

/// All other pages.
const PAGES: &[Page] = &[
    ("cli.md", |sources| cli::commands(sources.help()?)),
    ("exit-codes.md", |sources| cli::exit_codes(sources.help()?, &reference("errors")?)),
    ("settings.md", |sources| settings::page(sources.help()?, &reference("settings")?)),
    ("metrics.md", |_| Ok(metrics(&reference("metrics")?))),
    ("events.md", |_| Ok(events(&reference("events")?))),
    ("limits.md", |_| limits::page()),
    ("access.md", |_| printed("access", &[])),
    ("openapi.json", |_| printed("openapi", &[])),
];

/// What several pages are made of, read once.
#[derive(Default)]
struct Sources {
    help: OnceCell<Vec<Help>>,
}

impl Sources {
    /// The help of every command.
    fn help(&self) -> anyhow::Result<&[Help]> {
        if let Some(help) = self.help.get() {
            return Ok(help);
        }
        let help = Help::of_all_commands(&programs().join("edgewright"))?;
        Ok(self.help.get_or_init(|| help))
    }
}

/// Writes the named pages, or all of them.
pub(crate) fn write(names: &[&str]) -> anyhow::Result<()> {
    let mut changed = 0;
    for (path, text) in generated(names)? {
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
    for (path, text) in generated(&[])? {
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(workspace::shown(&path));
        }
    }
    ensure!(stale.is_empty(), "not up to date: {}: run `cargo xtask generate` and commit", stale.join(", "));
    Ok(())
}

fn generated(names: &[&str]) -> anyhow::Result<Vec<(PathBuf, String)>> {
    if names == [chart::NAME] {
        return chart::files();
    }
    let is_page =
        |name: &str| [SCHEMAS, chart::NAME].contains(&name) || PAGES.iter().any(|(page, _)| *page == name);
    if let Some(unknown) = names.iter().find(|name| !is_page(name)) {
        let pages: Vec<&str> = PAGES.iter().map(|(name, _)| *name).chain([SCHEMAS, chart::NAME]).collect();
        bail!("unknown page `{unknown}`: write one of {}", pages.join(", "));
    }
    build()?;
    let folder = workspace::root().join("docs/reference");
    let sources = Sources::default();
    let is_wanted = |name: &str| names.is_empty() || names.contains(&name);
    let wanted = PAGES.iter().filter(|(name, _)| is_wanted(name));
    let mut files: Vec<(PathBuf, String)> =
        wanted.map(|(name, page)| Ok((folder.join(name), page(&sources)?))).collect::<anyhow::Result<_>>()?;
    if is_wanted(SCHEMAS) {
        let schemas: BTreeMap<String, String> = serde_json::from_str(&printed("documents", &[])?)
            .context("the example `documents` did not print an object of texts")?;
        files.extend(schemas.into_iter().map(|(name, text)| (folder.join(SCHEMAS).join(name), text)));
    }
    if is_wanted(chart::NAME) {
        files.extend(chart::files()?);
    }
    Ok(files)
}

/// A page of the server's reference, without its head.
fn reference(name: &str) -> anyhow::Result<String> {
    printed("reference", &[name])
}

/// The output of an example.
fn printed(example: &str, arguments: &[&str]) -> anyhow::Result<String> {
    Run::new(programs().join("examples").join(example)).args(arguments).cwd(workspace::root()).output()
}

/// Builds the command and the examples. The whole workspace is selected, as for tests: other selections have
/// other features of dependencies, which would be compiled again.
fn build() -> anyhow::Result<()> {
    let cargo = ["build", "--quiet", "--locked", "--workspace", "--bins", "--examples"];
    Run::new("cargo").args(cargo).cwd(workspace::root()).run()
}

/// Where they are.
fn programs() -> PathBuf {
    workspace::target().join("debug")
}

fn metrics(body: &str) -> String {
    markdown::page(
        "Metrics",
        "`crates/server/src/metrics`",
        &format!(
            "`GET /metrics` serves these metrics as OpenMetrics text for Prometheus. Counters start at 0 with the \
             process; during a flood of events some are not counted.\n{body}"
        ),
    )
}

fn events(body: &str) -> String {
    markdown::page(
        "Events",
        "`crates/server/src/reference/events.rs`",
        &format!(
            "## CloudEvents\n\nSinks of the kind `cloud-events` receive every change of a run, node, release, channel or \
             copy as CloudEvents 1.0, by HTTP POST, at least once and in order. Repeated deliveries \
             have the same `source` and `id`. The fields below are those of `data`; `SOURCE` in a subject is the name of \
             the source.\n{body}"
        ),
    )
}
