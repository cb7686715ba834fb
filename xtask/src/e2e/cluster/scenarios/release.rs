//! Commits that become releases, or do not.

use std::time::Duration;

use anyhow::ensure;

use super::view::{ensure_contains, failure, node};
use crate::demo::server::text;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;

/// How long a run may take on a machine with much else to do.
pub(super) const RUN_LIMIT: Duration = Duration::from_mins(6);

/// Where nodes keep the bases of builds.
const NODE_CACHE: &str = "/var/cache/edgewright";

/// A commit becomes a release by a TaskRun and a Pod; later ones repeat nothing of it, and find its base on
/// the node.
pub(super) fn release(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|settings| {
        settings.text("cluster", "node_cache", NODE_CACHE);
    })?;
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    let app = node(&run, "app")?;
    ensure!(app["verdicts"].as_array().is_some_and(|all| all.len() == 2), "two lanes have verdicts: {app}");
    let log = site.log(&run, "app")?;
    ensure_contains("the log of the job", &log, "systemctl enable plant.service")?;
    let made = site.names(["taskruns", "pods"])?;
    for ending in ["-job-1", "-job-1-pod", "-container-1"] {
        ensure!(made.iter().filter(|name| name.ends_with(ending)).count() == 1, "one {ending}: {made:?}");
    }

    stage.progress("a commit that changes no image");
    site.write("README.md", "The plant.\n")?;
    let commit = site.commit("a page")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["counts"]["build"] == 0, "nothing is built: {run}");
    let after = site.names(["taskruns", "pods"])?;
    ensure!(after.iter().all(|name| made.contains(name)), "nothing is started: {after:?}");

    stage.progress("a commit that changes one file");
    site.write("images/app/files/etc/plant/version", "version=1\nshift=early\n")?;
    let commit = site.commit("another shift")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let log = site.log(&run, "app")?;
    ensure!(
        !log.contains("systemctl enable plant.service"),
        "the Containerfile did not change, and its commands ran again:\n{log}"
    );
    let tested = site.names(["pods"])?.into_iter().filter(|name| !made.contains(name));
    ensure!(tested.filter(|name| name.ends_with("-container-1")).count() == 1, "the new digest is tested");

    stage.progress("a commit that changes a command");
    let [marks, layers] = kept_bases(stage, &site)?;
    let command = "RUN echo another >/etc/plant-command\nRUN systemctl";
    site.replace("images/app/service/Containerfile", "RUN systemctl", command)?;
    let commit = site.commit("another command")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure_contains("the log", &site.log(&run, "app")?, "echo another >/etc/plant-command")?;
    let [later_marks, later_layers] = kept_bases(stage, &site)?;
    ensure!(layers == later_layers, "the base was pulled twice: {layers:?}, {later_layers:?}");
    ensure!(marks != later_marks, "the build used no base of the node: {marks:?}");
    site.end()
}

/// What the node keeps for the builds of a site: when each base was used last, and the folders of layers,
/// which a pull makes.
fn kept_bases(stage: &Stage<'_>, site: &Site<'_>) -> anyhow::Result<[Vec<String>; 2]> {
    let folder = format!("{NODE_CACHE}/{}", site.namespace);
    let find = |path: &str, shown: &str| -> anyhow::Result<Vec<String>> {
        let words = ["find", &folder, "-maxdepth", "5", "-path", path, "-printf", shown];
        let found = stage.world.cluster.on_node(&words)?;
        let mut lines: Vec<String> = found.lines().map(str::to_owned).collect();
        lines.sort();
        ensure!(!lines.is_empty(), "the node has no {path} below {folder}");
        Ok(lines)
    };
    Ok([find("*/bases/*", "%f %T@\\n")?, find("*/storage/overlay/*", "%f %i\\n")?])
}

/// A check that fails: no release, and the reason where people look for it.
pub(super) fn failing_check(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    site.write("images/app/files/etc/plant/version", "version=2\n")?;
    files_only(&site)?;
    let commit = site.commit("a version that no one expects")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed" && run["release"].is_null(), "no release: {run}");
    let failure = failure(node(&run, "app")?);
    ensure_contains("the failure", &failure, "version")?;
    ensure_contains("the log", &site.log(&run, "app")?, "check `version` failed")?;
    let attempts = site.names(["pods"])?;
    ensure!(!attempts.iter().any(|name| name.ends_with("-2")), "a failure is no reason for another attempt");
    site.end()
}

/// An image whose init ends at once.
pub(super) fn crashing_init(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    files_only(&site)?;
    let init = "images/app/files/usr/sbin/init";
    site.write(init, "#!/bin/sh\necho the plant burns\nexit 3\n")?;
    site.replace("images/app/image.yaml", "- files: files", INIT_STEP)?;
    let commit = site.commit("an init that ends")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed", "the run failed: {run}");
    let app = node(&run, "app")?;
    ensure_contains("the failure", &failure(app), "ended with 3")?;
    ensure!(app["verdicts"][0]["result"]["kind"] == "image", "it is the image's fault: {app}");
    site.end()
}

/// The files, with an init that can be executed.
pub(super) const INIT_STEP: &str = r#"- files: {path: files, modes: {"usr/sbin/init": "0755"}}"#;

/// Leaves out the step that needs a TaskRun: the server adds files by itself, and only Pods are started.
pub(super) fn files_only(site: &Site<'_>) -> anyhow::Result<()> {
    let image = "images/app/image.yaml";
    site.replace(image, "  - containerfile: service/Containerfile\n", "")?;
    site.replace(image, "  - {id: service, unit: plant.service, timeout: 60s}\n", "")?;
    site.replace(image, "[static, container]", "[container]")
}
