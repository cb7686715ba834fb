//! Debian, as the server built it: kept in the cache folder, because its bootstrap takes minutes and is not
//! what is tested.
//!
//! A copy of the server's database and registry is kept, from before it built anything else. The server
//! decides by its keys what it reuses: an old copy costs time, and changes no result.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::world::{World, source_folder};
use crate::command::Run;
use crate::workspace;

/// What is kept of a data folder. Everything else is made by each server.
const KEPT: [&str; 2] = ["control.db", "registry"];
/// What a copy depends on: the image, and the schemas of both databases.
const INPUTS: [&str; 3] =
    ["e2e/device/source/images/debian", "crates/store/migrations", "crates/registry/migrations"];

/// Lays the copy into the data folder. Whether there is one.
pub(super) fn restore(world: &World) -> anyhow::Result<bool> {
    let kept = folder(world)?;
    if !kept.is_dir() {
        return Ok(false);
    }
    let data = &world.place.data;
    Run::as_root("mkdir")?.args(["--mode=0700"]).arg(data).run()?;
    copy(&kept, data)?;
    Ok(true)
}

/// Keeps a copy of the data folder; its server has ended.
pub(super) fn keep(world: &World) -> anyhow::Result<()> {
    let kept = folder(world)?;
    if world.place.data.join("control.db-wal").exists() {
        // The server was killed: its database is more than one file.
        return Ok(());
    }
    // Tests of other checkouts may do the same: the first one wins.
    let new = kept.with_extension(format!("new-{}", std::process::id()));
    Run::as_root("mkdir")?.args(["--parents", "--mode=0700"]).arg(&new).run()?;
    copy(&world.place.data, &new)?;
    if Run::as_root("mv")?.arg("--no-target-directory").arg(&new).arg(&kept).succeeds() {
        return Ok(());
    }
    Run::as_root("rm")?.arg("--recursive").arg(&new).run()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let paths = KEPT.map(|name| from.join(name));
    Run::as_root("cp")?.args(["--archive", "--reflink=auto"]).args(paths).arg(to).run()
}

/// Where the copy for this version of the inputs is.
fn folder(world: &World) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    world.tools.file_name().hash(&mut hasher);
    std::fs::read(source_folder().join("edgewright.yaml"))?.hash(&mut hasher);
    for input in INPUTS {
        let files = workspace::files_below(&workspace::root().join(input));
        for path in files.with_context(|| format!("cannot read {input}"))? {
            path.file_name().hash(&mut hasher);
            std::fs::read(&path)?.hash(&mut hasher);
        }
    }
    Ok(workspace::cache()?.join(format!("e2e-debian-{:016x}", hasher.finish())))
}
