//! `demo --cluster`: a source whose jobs run in a Kubernetes of this machine, with every claim asserted.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use super::server::text;
use super::source::Source;
use super::story::say;
use crate::e2e::cluster::options::Options;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::World;
use crate::workspace;

/// How long a run may take.
const RUN_LIMIT: Duration = Duration::from_mins(10);
/// The file that the demo changes.
const FILE: &str = "images/app/files/etc/plant/version";

/// Runs the demo.
pub(crate) fn run() -> anyhow::Result<()> {
    println!("Edgewright on a cluster. All files are below target/demo-cluster; Ctrl-C ends it at any time.");
    let mut world = World::start("demo-cluster", "cluster-demo", &Options::default())?;
    world.story.step("The base image; it is built in the cluster once, and kept");
    crate::e2e::cluster::ensure_base(&world)?;
    world
        .story
        .step("A namespace with the rights of docs/how-to/run-jobs-on-kubernetes.md, a server, a source");
    let stage = Stage::only(&world, "demo");
    let mut site = stage.site(|_| {})?;
    say(&format!("server: {}\nsource: {}", site.url(), workspace::shown(&site.source())));

    stage.progress("a commit: its steps are a TaskRun, its image is tested as a Pod");
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "the first run should make a release: {run}");
    say(&site.kubectl(&["get", "taskruns,pods"])?);
    show(&site, &run)?;

    stage.progress("a commit that changes one file to what a check does not expect");
    let file = site.source().join(FILE);
    std::fs::write(file, "version=two\n")?;
    let commit = site.commit("a version that no check expects")?;
    say(&Source::open(&site.source()).last_change()?);
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed", "the second run should fail: {run}");
    show(&site, &run)?;
    say("Only the file was added: no TaskRun. The image is not released; the release before is current.");
    next(&site);
    Ok(())
}

/// A run, as the command prints it.
fn show(site: &Site<'_>, run: &Value) -> anyhow::Result<()> {
    let number = run["number"].to_string();
    say(&site.edgewright(&["run", "show", &number]).answer()?);
    Ok(())
}

/// Shows what to try, and keeps all of it running for that if this is a terminal.
fn next(site: &Site<'_>) {
    let url = site.url();
    let edgewright = workspace::shown(&site.program());
    println!("\nDone. What to try next, as long as the demo runs:");
    say(&format!(
        "cargo xtask cluster --state target/cluster-demo kubectl -n {} get taskruns,pods,events
{edgewright} logs 2 app --server {url}        # a TaskRun, then a Pod
{edgewright} image show app --server {url}
$EDITOR {}/{FILE}       # then commit",
        site.namespace,
        workspace::shown(&site.source()),
    ));
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        println!("\nServer and cluster run until you press Ctrl-C.");
        loop {
            std::thread::park();
        }
    }
    println!("\nThis is no terminal, so server and cluster end now: nothing stays.");
}
