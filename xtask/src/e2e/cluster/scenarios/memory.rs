//! Jobs and images that take more memory than there is.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::release::{INIT_STEP, RUN_LIMIT, files_only};
use super::view::{ensure_contains, failure, node};
use crate::demo::server::text;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// An init that is large.
const HUNGRY: &str = "#!/bin/sh\nexec dd if=/dev/zero of=/dev/null bs=400M count=1\n";
/// An init that ends if it does not get much memory, and is systemd otherwise. Checks know it by its name.
const FIRST_HUNGRY: &str = "\
#!/bin/sh
printf systemd >/proc/self/comm
sleep 10
dd if=/dev/zero of=/dev/null bs=400M count=1 || exit 3
exec /usr/lib/systemd/systemd
";
/// Limits what a whole Pod takes, as if its node had no more; its containers have no limit.
const LIMIT_POD: &str = r#"
for folder in $(find /sys/fs/cgroup -type d -name "pod$0"); do
    for file in "$folder"/memory.limit_in_bytes "$folder"/memory.max; do
        if test -e "$file"; then echo 200M >"$file" && echo limited; fi
    done
done"#;

/// A step takes more memory than a job may: its run fails, and names the limit.
pub(super) fn memory(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|settings| {
        settings.set("jobs", "max_memory_mib", 512);
    })?;
    let hungry = "RUN dd if=/dev/zero of=/dev/null bs=900M count=1\nRUN systemctl";
    site.replace("images/app/service/Containerfile", "RUN systemctl", hungry)?;
    let commit = site.commit("a hungry step")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed", "the run failed: {run}");
    let failure = failure(node(&run, "app")?);
    ensure_contains("the failure", &failure, "reaches its memory limit")?;
    let attempts = site.names(["taskruns"])?;
    ensure!(
        attempts.iter().all(|name| name.ends_with("-1")),
        "its own limit is no reason to repeat: {attempts:?}"
    );
    site.end()
}

/// An image takes more memory than its test may: that is its own fault.
pub(super) fn test_memory(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|settings| {
        settings.text("cluster", "test_memory_limit", "128Mi");
    })?;
    init(&site, HUNGRY)?;
    let commit = site.commit("an init that is large")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed" && run["release"].is_null(), "no release: {run}");
    let app = node(&run, "app")?;
    ensure_contains("the failure", &failure(app), "out of memory")?;
    ensure!(app["verdicts"][0]["result"]["kind"] == "image", "it is the image's fault: {app}");
    let attempts = site.names(["pods"])?;
    ensure!(
        !attempts.iter().any(|name| name.ends_with("-2")),
        "a limit is no reason to repeat: {attempts:?}"
    );
    site.end()
}

/// The node has no memory left for a test: the test is tried again, and passes.
pub(super) fn node_memory(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    init(&site, FIRST_HUNGRY)?;
    let commit = site.commit("a test that takes much memory")?;
    let mut pod = Value::Null;
    until("the image runs", RUN_LIMIT, || {
        let pods = site.objects("pods")?.into_iter();
        let name = |pod: &Value| text(&pod["metadata"]["name"]).ends_with("-container-1");
        pod = pods.into_iter().find(name).unwrap_or_default();
        Ok(pod["status"]["phase"] == "Running")
    })?;
    let limited = stage.world.cluster.on_node(&["sh", "-c", LIMIT_POD, text(&pod["metadata"]["uid"])])?;
    ensure!(limited.trim() == "limited", "the Pod has a cgroup: {limited}");
    stage.progress("its Pod has no more memory");
    let run = site.passed(&commit, RUN_LIMIT)?;
    let log = site.log(&run, "app")?;
    ensure_contains("the log", &log, "the node ran out of memory and killed the process")?;
    let again = site.names(["pods"])?.into_iter().find(|name| name.ends_with("-container-2"));
    again.context("a second attempt")?;
    site.end()
}

/// Gives the image an init, and leaves out what needs a TaskRun.
fn init(site: &Site<'_>, script: &str) -> anyhow::Result<()> {
    files_only(site)?;
    site.write("images/app/files/usr/sbin/init", script)?;
    site.replace("images/app/image.yaml", "- files: files", INIT_STEP)
}
