//! The base image of all scenarios: built in the cluster once, and kept in the cache folder.

use std::time::Duration;

use super::server::Signal;
use super::site::Site;
use super::stage::Stage;
use super::world::World;
use crate::e2e::kept::Kept;

/// A bootstrap over the network.
const LIMIT: Duration = Duration::from_mins(15);
/// What a copy depends on.
const INPUTS: [&str; 2] = ["e2e/cluster/source/edgewright.yaml", "e2e/cluster/source/images/base"];

/// The copy for the present version of the inputs. The server's jobs make it with the programs of our image.
pub(super) fn kept(world: &World) -> anyhow::Result<Kept> {
    Kept::new("e2e-cluster-base", &INPUTS, world.tools.file_name(), false)
}

/// Builds it, if there is no copy.
pub(super) fn ensure(world: &World) -> anyhow::Result<()> {
    let kept = kept(world)?;
    if kept.exists() {
        return Ok(());
    }
    let stage = Stage::only(world, "base");
    let mut site = Site::prepare(&stage, "base")?;
    site.remove("images/app")?;
    site.start()?;
    let commit = site.commit("base")?;
    site.passed(&commit, LIMIT)?;
    site.end_server(Signal::Term)?;
    kept.keep(&site.data())
}
