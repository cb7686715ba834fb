//! `static.bootc-lint` in the Pod of a job. Debian has no bootc, so a script takes its place in the image:
//! what is tested is that the image's program runs there, and that its verdict counts.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::release::RUN_LIMIT;
use super::view::{ensure_contains, failure, node};
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;

/// The image's bootc.
const BOOTC: &str = "images/app/files/usr/bin/bootc";
/// It cannot write to the image. The program fails for any other command.
const SCRIPT: &str = "#!/bin/sh\n[ \"$*\" = 'container lint' ] || exit 64\n\
    if touch /usr/x 2>/dev/null; then echo 'error: the image can be written to'; exit 1; fi\n";

/// One that passes with a warning, and one that fails.
pub(super) fn lint(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = with_bootc(&site, "echo 'Lint warning: var-log: found files'\n")?;
    site.passed(&commit, RUN_LIMIT)?;
    let check = check(&site)?;
    ensure_contains("the check", &check.to_string(), "\"passed\"")?;
    ensure_contains("the check", &check.to_string(), "var-log: found files")?;

    let commit = with_bootc(&site, "echo 'error: Linting: no kernel' >&2\nexit 1\n")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(run["state"] == "failed", "the run failed: {run}");
    ensure_contains("the failure", &failure(node(&run, "app")?), "Linting: no kernel")?;
    site.end()
}

fn with_bootc(site: &Site<'_>, end: &str) -> anyhow::Result<String> {
    site.write(BOOTC, &format!("{SCRIPT}{end}"))?;
    std::fs::set_permissions(site.source().join(BOOTC), std::fs::Permissions::from_mode(0o755))?;
    site.commit("another bootc")
}

/// The check in the newest image's verdicts.
fn check(site: &Site<'_>) -> anyhow::Result<Value> {
    let image = site.server()?.get("/api/v1/images/app")?;
    let lanes = image["lanes"].as_array().cloned().unwrap_or_default();
    let checks = lanes.iter().filter(|verdict| verdict["lane"] == "static");
    let mut checks = checks.flat_map(|verdict| verdict["checks"].as_array().cloned().unwrap_or_default());
    let found = checks.find(|check| check["id"] == "static.bootc-lint");
    found.with_context(|| format!("the lane has the check: {}", image["lanes"]))
}
