//! A process that writes, and acknowledges on its standard output, is killed repeatedly. Every acknowledged
//! write must survive.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use edgewright_model::names::SourceName;
use edgewright_store::Store;
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use libtest_mimic::{Arguments, Trial};

/// How often the process is killed; each one continues with the database of the one before.
const KILLS: u32 = 6;
/// Acknowledgements after which it is killed, in the first round; more in each further one, so that it is
/// killed at other points.
const ACKNOWLEDGED: u32 = 40;
/// Concurrent writes.
const CONCURRENT: u32 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, path, first] = &arguments[..]
        && mode == "child"
    {
        runtime().block_on(write_endlessly(Path::new(path), first.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let trial = Trial::test("acknowledged_writes_survive_a_kill", || {
        acknowledged_survives();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn name(number: u32) -> SourceName {
    format!("source-{number}").parse().unwrap()
}

/// Adds sources, and prints the number of each acknowledged one.
async fn write_endlessly(path: &Path, first: u32) {
    let store = Store::open(path).await.unwrap();
    let mut running: FuturesUnordered<_> =
        (first..first + CONCURRENT).map(|number| add_source(&store, number)).collect();
    for number in first + CONCURRENT.. {
        running.next().await;
        running.push(add_source(&store, number));
    }
}

async fn add_source(store: &Store, number: u32) {
    let url = format!("/git/{number}");
    store.upsert_source(&name(number), &url, Timestamp::UNIX_EPOCH).await.unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{number}").unwrap();
    out.flush().unwrap();
}

fn acknowledged_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let mut acknowledged = BTreeSet::new();
    for round in 0..KILLS {
        let first = round * 1_000_000;
        #[expect(clippy::disallowed_methods, reason = "a process that is to be killed, not awaited")]
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["child", path.to_str().unwrap(), &first.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = ACKNOWLEDGED * (round + 1);
        for line in lines.by_ref().take(wanted as usize) {
            acknowledged.insert(name(line.unwrap().parse().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it printed before it died, up to the last whole line.
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).map(name));
        let stored: BTreeSet<SourceName> = runtime().block_on(async {
            let store = Store::open(&path).await.unwrap();
            let stored = store.sources().await.unwrap().into_iter().map(|source| source.name).collect();
            store.close().await;
            stored
        });
        let missing: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(missing.is_empty(), "round {round}: acknowledged and lost: {missing:?}");
    }
}
