//! Image tests by hand: Pods that boot the image and look at one file.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::demo::server::text;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::world::until;

/// How long they may take.
const LIMIT: Duration = Duration::from_mins(10);
/// Waits for the end of the boot beside systemd, which ends with the result.
const TEST: &str = "(until systemctl is-system-running 2>/dev/null | grep -q running; do sleep 0.2; done; \
                    grep -q version= /etc/plant/version && systemctl exit 0 || systemctl exit 1) & exec /sbin/init";

/// Runs them at once. The seconds until all have ended.
pub(super) fn by_hand(site: &Site<'_>, images: &[String]) -> anyhow::Result<f64> {
    let mut yaml = String::new();
    for (number, image) in images.iter().enumerate() {
        let from = site.pull_from();
        // Writing to a text cannot fail.
        let _ = writeln!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: hand-{number}, namespace: {}, labels: {{by: hand}}}}\n\
             spec:\n  restartPolicy: Never\n  automountServiceAccountToken: false\n  volumes: [{{name: run, emptyDir: \
             {{medium: Memory}}}}]\n  containers:\n  - name: image\n    image: {from}/plant/{image}\n    command: [/bin/sh, \
             -c, {}]\n    env: [{{name: container, value: oci}}]\n    volumeMounts: [{{name: run, mountPath: /run}}]\n    \
             securityContext: {{capabilities: {{add: [SYS_ADMIN]}}}}",
            site.namespace,
            serde_json::Value::from(TEST),
        );
    }
    let began = Instant::now();
    site.apply("hand.yaml", &yaml)?;
    let mut phases = Vec::new();
    until("the Pods have ended", LIMIT, || {
        let get = ["get", "pods", "--selector=by=hand", "--output=jsonpath={.items[*].status.phase}"];
        phases = site.kubectl(&get)?.split_whitespace().map(str::to_owned).collect();
        let is_over = |phase: &String| matches!(phase.as_str(), "Succeeded" | "Failed");
        Ok(phases.len() == images.len() && phases.iter().all(is_over))
    })?;
    let took = began.elapsed().as_secs_f64();
    ensure!(phases.iter().all(|phase| phase == "Succeeded"), "not all Pods succeeded: {phases:?}");
    site.kubectl(&["delete", "pods", "--selector=by=hand", "--wait=false"])?;
    Ok(took)
}

/// The state of a node.
pub(super) fn state(node: &serde_json::Value) -> &str {
    text(&node["state"])
}
