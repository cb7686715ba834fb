//! Completion of names while a command line is typed: variants, runs, nodes, images, channels, sites,
//! sources.
//!
//! The shell starts this program with `COMPLETE=SHELL` in the environment. Names come from where the command
//! itself would read them: the server, else the data folder; variants of the source in the working directory
//! are added. What cannot be read completes to nothing: an error would end up in the middle of the user's
//! line.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};
use edgewright_api::RunView;
use edgewright_model::resolve;
use edgewright_model::run::RunNumber;

use crate::args::Global;
use crate::commands::Folder;
use crate::exit::Failure;
use crate::reader::Reader;

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How many runs are offered.
const RUNS: u32 = 20;

/// Variants of the source in this folder and of what was built.
pub(crate) fn variants(current: &OsStr) -> Vec<CompletionCandidate> {
    offered(current, async |global| {
        let mut names = declared().await;
        if let Ok(reader) = Reader::open(global).await {
            names.extend(reader.images(None).await?.into_iter().map(|image| image.variant.to_string()));
        }
        Ok(names)
    })
}

/// Variants and folders.
pub(crate) fn variants_and_paths(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = variants(current);
    candidates.extend(PathCompleter::dir().complete(current));
    candidates
}

/// Images of the source in this folder.
pub(crate) fn images(current: &OsStr) -> Vec<CompletionCandidate> {
    offered(current, async |_| {
        let folder = Folder::read(Path::new(".")).await?;
        let definition = folder.parsed.definition.as_ref();
        Ok(definition.map(|it| it.images.keys().map(ToString::to_string).collect()).unwrap_or_default())
    })
}

/// Numbers of the newest runs, each with its state and subject.
pub(crate) fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(Ok(runs)) = wait(async |global| Reader::open(global).await?.runs(None, RUNS).await) else {
        return Vec::new();
    };
    let runs = runs.into_iter().enumerate().map(|(order, run)| {
        let help = format!("{} {} {}", run.source, run.state, run.subject);
        CompletionCandidate::new(run.number.to_string()).help(Some(help.into())).display_order(Some(order))
    });
    matching(runs, current)
}

/// Nodes of the run that the line names.
pub(crate) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(number) = words().iter().find_map(|word| word.to_str()?.parse::<RunNumber>().ok()) else {
        return Vec::new();
    };
    offered(current, async move |global| {
        let RunView { nodes, .. } = Reader::open(global).await?.run(number).await?;
        Ok(nodes.into_iter().map(|node| node.node).collect())
    })
}

/// Channels.
pub(crate) fn channels(current: &OsStr) -> Vec<CompletionCandidate> {
    offered(current, async |global| {
        let channels = Reader::open(global).await?.channels(None).await?;
        Ok(channels.into_iter().map(|channel| channel.name.to_string()).collect())
    })
}

/// Sites.
pub(crate) fn sites(current: &OsStr) -> Vec<CompletionCandidate> {
    offered(current, async |global| {
        let sites = Reader::open(global).await?.sites(None).await?;
        Ok(sites.into_iter().map(|site| site.name.to_string()).collect())
    })
}

/// Sources.
pub(crate) fn sources(current: &OsStr) -> Vec<CompletionCandidate> {
    offered(current, async |global| {
        let sources = Reader::open(global).await?.sources().await?;
        Ok(sources.into_iter().map(|source| source.name.to_string()).collect())
    })
}

/// Variants that the source in this folder declares.
async fn declared() -> BTreeSet<String> {
    let Ok(folder) = Folder::read(Path::new(".")).await else { return BTreeSet::new() };
    let definition = folder.parsed.definition.as_ref();
    let names = definition.map(|it| resolve::variants(it).iter().map(ToString::to_string).collect());
    names.unwrap_or_default()
}

fn offered(
    current: &OsStr,
    names: impl AsyncFnOnce(&Global) -> Result<BTreeSet<String>, Failure>,
) -> Vec<CompletionCandidate> {
    let names = wait(names).and_then(Result::ok).unwrap_or_default();
    matching(names.into_iter().map(CompletionCandidate::new), current)
}

fn matching(
    candidates: impl Iterator<Item = CompletionCandidate>,
    current: &OsStr,
) -> Vec<CompletionCandidate> {
    let current = current.as_encoded_bytes();
    candidates.filter(|it| it.get_value().as_encoded_bytes().starts_with(current)).collect()
}

/// Runs a reading future: completion happens before the command's own threads are started.
fn wait<T>(read: impl AsyncFnOnce(&Global) -> T) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let global = global();
    let read: std::pin::Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(read(&global));
    runtime.block_on(async { tokio::time::timeout(LIMIT, read).await.ok() })
}

/// The words of the line that is being completed.
fn words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// The global options that say where to read, from the line and the environment.
fn global() -> Global {
    let words = words();
    let option = |flag: &str, variable: &str| {
        let with_value = format!("{flag}=");
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == flag {
                return words.next().cloned();
            }
            if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(&with_value)) {
                return Some(value.into());
            }
        }
        crate::settings::variable(variable)
    };
    let path = |flag, variable| option(flag, variable).map(PathBuf::from);
    Global {
        data: path("--data", "EDGEWRIGHT_DATA"),
        server: option("--server", "EDGEWRIGHT_SERVER").and_then(|url| url.into_string().ok()),
        token_file: path("--token-file", "EDGEWRIGHT_TOKEN_FILE"),
        ca_file: path("--ca-file", "EDGEWRIGHT_CA_FILE"),
        ..Global::default()
    }
}
