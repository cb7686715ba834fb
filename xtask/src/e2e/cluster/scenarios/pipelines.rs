//! Edgewright in Pipelines of other projects, and their Pipelines in runs of Edgewright.

pub(super) mod channels;
pub(super) mod platform;
pub(super) mod team;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use self::team::{LIMIT, Team, result};
use super::ended::{BEGUN, slow_step};
use super::release::RUN_LIMIT;
use super::view::{ensure_contains, node};
use crate::command::Run;
use crate::demo::server::text;
use crate::e2e::cluster::listener::Triggers;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;

/// The page whose YAML blocks are used.
const HOW_TO: &str = "docs/how-to/use-in-tekton-pipelines.md";

/// A Pipeline of another project that checks, runs and promotes; one whose run fails; one that is cancelled.
pub(super) fn product(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    channels::define(&site)?;
    let commit = site.commit("version 1")?;
    promoted(&Team::new(stage, &site)?, &commit)?;
    stage.progress("a channel is held");
    let before = channels::held(&site, &Team::of(stage, &site))?;
    site.write("images/app/files/etc/plant/version", "version=1\nshift=early\n")?;
    let commit = site.commit("another shift")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let newer = run["release"].as_u64().context("a release")?;
    stage.progress("the channel is resumed");
    channels::resumed(&site, &Team::of(stage, &site), (before, newer))?;

    stage.progress("a commit whose check fails");
    site.write("images/app/files/etc/plant/version", "version=2\n")?;
    let commit = site.commit("a version that no one expects")?;
    not_promoted(&Team::of(stage, &site), &commit)?;
    site.ended(&commit, RUN_LIMIT)?;

    stage.progress("a TaskRun that is cancelled");
    slow_step(&site, 600)?;
    let commit = site.commit("a step that takes long")?;
    cancelled(&Team::of(stage, &site), &commit)?;
    let run = site.ended(&commit, LIMIT)?;
    ensure!(text(&run["state"]) == "cancelled", "the run is cancelled with its TaskRun: {run}");
    site.end()
}

/// The Pipeline passes, and its results are those of the release.
fn promoted(team: &Team<'_>, commit: &str) -> anyhow::Result<()> {
    team.clone_source()?;
    let run = team.run("product-1", &product_spec(commit))?;
    team.succeeded(&run)?;
    let server = team.site.server()?;
    let release = result(&run, "release");
    let releases = server.get(&format!("/api/v1/releases?number={release}"))?;
    let entries = releases[0]["entries"].as_array().context("the release is there")?;
    let digests: Value = serde_json::from_str(result(&run, "digests")).context("`digests` is JSON")?;
    for entry in entries {
        ensure!(digests[text(&entry["variant"])] == entry["digest"], "{digests} has all of {entries:?}");
    }
    ensure!(digests["app"].is_string(), "the release has the image: {digests}");
    let channels = server.get("/api/v1/channels")?;
    let pin = channels[0]["pin"].as_u64();
    ensure!(pin == release.parse().ok(), "the channel is pinned to {release}: {channels}");
    ensure!(channels[0]["pin_reason"] == "product-1", "the reason names the PipelineRun: {channels}");
    Ok(())
}

/// The Pipeline fails with its run, and promotes nothing.
fn not_promoted(team: &Team<'_>, commit: &str) -> anyhow::Result<()> {
    let run = team.run("product-2", &product_spec(commit))?;
    ensure!(
        run["status"]["conditions"][0]["status"] == "False",
        "the Pipeline fails as the run does: {run:#}"
    );
    let task: Value =
        serde_json::from_str(&team.kubectl(&["get", "taskrun", "product-2-run", "--output", "json"])?)?;
    let step = &task["status"]["steps"][0]["terminated"];
    ensure!(step["exitCode"] == 1, "the step has the exit code of the run: {step}");
    ensure!(result(&task, "state") == "failed", "a failed run has results: {}", task["status"]["results"]);
    ensure_contains("the skipped tasks", &run["status"]["skippedTasks"].to_string(), "promote")
}

/// A TaskRun that is cancelled while a step runs.
fn cancelled(team: &Team<'_>, commit: &str) -> anyhow::Result<()> {
    let run = serde_json::json!({
        "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": { "name": "cancelled" },
        "spec": {
            "taskRef": { "name": "edgewright-run" },
            "params": [
                { "name": "source", "value": "plant" }, { "name": "commit", "value": commit },
                { "name": "cancel", "value": "true" },
            ],
            "workspaces": [{ "name": "server", "secret": { "secretName": "edgewright" } }],
        },
    });
    team.apply("cancelled.json", &run.to_string())?;
    until("the Task follows the run", RUN_LIMIT, || {
        let log = team.kubectl(&["logs", "cancelled-pod", "--container", "step-run"]).unwrap_or_default();
        Ok(log.contains(BEGUN))
    })?;
    let patch = r#"{"spec": {"status": "TaskRunCancelled"}}"#;
    team.kubectl(&["patch", "taskrun", "cancelled", "--type", "merge", "--patch", patch]).map(drop)
}

fn product_spec(commit: &str) -> Value {
    serde_json::json!({
        "pipelineRef": { "name": "product" },
        "params": [{ "name": "source", "value": "plant" }, { "name": "commit", "value": commit }],
        "workspaces": [
            { "name": "clone", "persistentVolumeClaim": { "claimName": "clone" } },
            { "name": "server", "secret": { "secretName": "edgewright" } },
        ],
        "taskRunTemplate": { "podTemplate": { "automountServiceAccountToken": false } },
    })
}

/// A commit whose image another system tests, too.
fn tested_elsewhere(site: &Site<'_>) -> anyhow::Result<String> {
    let image = std::fs::read_to_string(site.source().join("images/app/image.yaml"))?;
    let image = image.replace("  - containerfile: service/Containerfile\n", "");
    let (kept, _) = image.split_once("  - {id: boots").context("the image has checks")?;
    site.write("images/app/image.yaml", &format!("{kept}test: {{lanes: [static, external]}}\n"))?;
    site.commit("tested elsewhere")
}

/// A run that waits for the verdict of another project's Pipeline.
pub(super) fn external(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = tested_elsewhere(&site)?;
    let mut digest = String::new();
    until("the node waits for a verdict", RUN_LIMIT, || {
        let Some(run) = site.run_of(&commit)? else { return Ok(false) };
        let Ok(app) = node(&run, "app") else { return Ok(false) };
        ensure!(app["state"] != "failed", "{app:#}");
        text(&app["digest"]).clone_into(&mut digest);
        Ok(app["notes"].to_string().contains("awaiting"))
    })?;
    {
        let team = Team::new(stage, &site)?;
        let spec = serde_json::json!({
            "pipelineRef": { "name": "external-test" },
            "params": [
                { "name": "digest", "value": digest },
                { "name": "evidence", "value": "https://ci.example.org/runs/7" },
            ],
            "workspaces": [{ "name": "server", "secret": { "secretName": "edgewright" } }],
        });
        team.succeeded(&team.run("external-1", &spec)?)?;
    }
    let run = site.passed(&commit, RUN_LIMIT)?;
    let verdicts = node(&run, "app")?["verdicts"].to_string();
    ensure_contains("the verdicts", &verdicts, "external")?;
    site.end()
}

/// The same, with a Pipeline that our event starts through an EventListener.
pub(super) fn trigger(stage: &Stage<'_>) -> anyhow::Result<()> {
    let cluster = &stage.world.cluster;
    let triggers = Triggers::ensure()?;
    triggers.install(cluster)?;
    let namespace = format!("ew-{}-team", stage.name);
    let page = std::fs::read_to_string(workspace::root().join(HOW_TO))?;
    let listener = yaml_block(&page, "kind: EventListener")?.replace("press-line", &namespace);
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"))?;
    cluster.apply(&listener)?;
    let log = stage.world.place.root.join("event-listener.log");
    let listener = triggers.start(cluster, (&namespace, "edgewright"), &log)?;
    let sink = format!(
        "[[sink]]\nname = \"tests\"\nkind = \"cloud-events\"\nurl = \"{}\"\ntypes = \
         [\"dev.edgewright.verdict.awaited\"]\n",
        listener.url
    );
    let mut site = stage.site(|settings| settings.append(&sink))?;
    Team::new(stage, &site)?;
    let commit = tested_elsewhere(&site)?;
    let run =
        site.passed(&commit, RUN_LIMIT).with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    let verdicts = node(&run, "app")?["verdicts"].to_string();
    ensure_contains("the verdicts", &verdicts, "external")?;
    let started =
        site.cluster_command().args(["--namespace", &namespace, "get", "pipelineruns", "--output", "name"]);
    let started = started.output()?;
    ensure!(started.lines().count() == 1, "one event starts one Pipeline: {started}");
    site.end()
}

/// The Role, with its binding, for a kind of objects by which the platform builds.
pub(super) fn role_of_how_to(kind: &str) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(workspace::root().join(HOW_TO))?;
    yaml_block(&page, &format!("resources: [{kind}"))
}

/// The YAML block of a page that has a text.
fn yaml_block(page: &str, wanted: &str) -> anyhow::Result<String> {
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let block = blocks.find(|block| block.contains(wanted));
    block.map(str::to_owned).with_context(|| format!("{HOW_TO} has no block with `{wanted}`"))
}

/// The objects of a variant, created by hand, build the same digest and test it.
pub(super) fn export(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let digest = text(&node(&run, "app")?["digest"]).to_owned();
    let command = |more: &[&str]| {
        let command =
            Run::new(&stage.world.place.program).args(["export", "tekton", "app", "--server", &site.url()]);
        command.arg("--token-file").arg(site.data().join("operator-token")).args(more).output()
    };
    let without = command(&[])?;
    ensure_contains("the export", &without, "no token")?;
    site.apply("export.yaml", &command(&["--token"])?)?;
    let selector = "edgewright.dev/server=export";
    let names = stage.world.api.names(&site.namespace, "taskruns", selector)?;
    let name = names.into_iter().next().context("the export has a TaskRun")?;
    let mut made = Value::Null;
    until("the exported TaskRun has ended", RUN_LIMIT, || {
        made = site.object(("taskruns", &name))?;
        Ok(made["status"]["completionTime"].is_string())
    })?;
    let logs = || site.kubectl(&["logs", "--tail=20", &format!("{name}-pod")]).unwrap_or_default();
    ensure!(result(&made, "digest") == digest, "the same digest {digest}: {:#}\n{}", made["status"], logs());
    let pods = stage.world.api.names(&site.namespace, "pods", selector)?;
    let pod = pods.into_iter().find(|pod| pod.ends_with("-container-1")).context("the lane has a Pod")?;
    until("the exported Pod has ended well", LIMIT, || {
        let phase = site.object(("pods", &pod))?["status"]["phase"].clone();
        ensure!(phase != "Failed", "{}", site.kubectl(&["logs", &pod, "--tail=40"])?);
        Ok(phase == "Succeeded")
    })?;
    site.kubectl(&["delete", "taskruns,pods,secrets", "--selector", selector])?;
    site.end()
}
