//! Shipwright's controller, built from the Go module proxy and kept in the cache folder. It runs as a process
//! of this host.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::world::until;
use crate::cluster::{self, Cluster};
use crate::command::Run;

/// Its kinds of objects.
const KINDS: [&str; 4] = ["buildruns", "builds", "buildstrategies", "clusterbuildstrategies"];
/// Where it elects a leader.
const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shipwright-build}}";
/// Images of steps that no strategy of a test uses; it wants their names.
const STEP_IMAGES: [&str; 4] = ["GIT", "IMAGE_PROCESSING", "BUNDLE", "WAITER"];
/// Objects of the old version are converted by a webhook, which is not there, and are not used.
const NO_CONVERSION: &str = r#"[{"op": "remove", "path": "/spec/conversion"}]"#;
/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The running controller; it ends with this value.
#[derive(Debug)]
pub(super) struct Shipwright {
    child: Child,
}

impl Shipwright {
    /// Installs the kinds of objects, and starts the controller.
    pub(super) fn start(cluster: &Cluster, log: &Path) -> anyhow::Result<Self> {
        let folder = cluster::shipwright()?;
        cluster.apply(NAMESPACE)?;
        for kind in KINDS {
            let file = folder.join(format!("shipwright.io_{kind}.yaml"));
            let file = file.to_str().context("paths of tests are text")?;
            cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", file])?;
            let name = format!("crd/{kind}.shipwright.io");
            cluster.kubectl(&["patch", &name, "--type=json", "--patch", NO_CONVERSION])?;
            cluster.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=1m"])?;
        }
        let mut run = Run::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(folder.join("shipwright-build-controller"))
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("WATCH_NAMESPACE", "")
            .env("BUILD_CONTROLLER_LEADER_ELECTION_NAMESPACE", "shipwright-build")
            .env("POD_NAME", "shipwright-0")
            .env("CONTROLLER_NAME", "shipwright-build")
            .env("GIT_ENABLE_REWRITE_RULE", "false");
        for name in STEP_IMAGES {
            run = run.env(&format!("{name}_CONTAINER_IMAGE"), "localhost/not-used:1");
        }
        let mut shipwright = Self { child: run.start_logged(log)? };
        let waited = until("the controller of Shipwright works", START_LIMIT, || {
            if let Some(status) = shipwright.child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(std::fs::read_to_string(log)?.contains("Starting workers"))
        });
        waited.with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(shipwright)
    }
}

impl Drop for Shipwright {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
