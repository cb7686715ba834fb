//! Debian, as the server built it, kept in the cache folder.

use super::kept::Kept;
use super::world::World;

/// What a copy depends on.
const INPUTS: [&str; 2] = ["e2e/device/source/edgewright.yaml", "e2e/device/source/images/debian"];

/// The copy for the present version of the inputs.
pub(super) fn debian(world: &World) -> anyhow::Result<Kept> {
    Kept::new("e2e-debian", &INPUTS, world.tools.file_name(), true)
}
