//! The conformance suite of executors, on this cluster.

use serde_json::json;

use crate::cluster::HOST_NAME;
use crate::command::Run;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::free_port;
use crate::workspace;

/// Runs `crates/cluster/tests/real.rs`, which skips itself without a cluster.
pub(super) fn conformance(stage: &Stage<'_>) -> anyhow::Result<()> {
    let cluster = &stage.world.cluster;
    let host = cluster.host_address();
    let registry = format!("{host}:{}", free_port(host)?);
    let pull = "conformance.edgewright.internal";
    let (_, port) = registry.rsplit_once(':').unwrap_or_default();
    cluster.pull_from(pull, &format!("http://{HOST_NAME}:{port}"))?;
    let described = json!({ "kubeconfig": cluster.kubeconfig(), "registry": registry, "pull": pull });
    // As `cargo xtask test` compiles it: nothing is compiled again after it.
    Run::new("cargo")
        .args(["test", "--workspace", "--locked", "--quiet", "--test", "real"])
        .cwd(workspace::root())
        .env("EDGEWRIGHT_TEST_CLUSTER", described.to_string())
        .run()
}
