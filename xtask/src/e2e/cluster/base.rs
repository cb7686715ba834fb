//! The base image of all scenarios: built in the cluster once, and kept in the cache folder.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::server::Signal;
use super::site::Site;
use super::stage::Stage;
use super::world::{World, copy, source_folder};
use crate::command::Run;
use crate::e2e::kept::Kept;
use crate::workspace;

/// A bootstrap over the network.
const LIMIT: Duration = Duration::from_mins(15);
/// What a copy depends on.
const INPUTS: [&str; 2] = ["e2e/cluster/source/edgewright.yaml", "e2e/cluster/source/images/base"];

/// The copy for the present version of the inputs. The server's jobs make it with the programs of our image.
pub(super) fn kept(world: &World) -> anyhow::Result<Kept> {
    Kept::new("e2e-cluster-base", &INPUTS, world.tools.file_name(), false)
}

/// What the kernel's copy depends on.
const KERNEL_INPUTS: [&str; 2] = ["e2e/cluster/source/edgewright.yaml", "e2e/cluster/machine/images/kernel"];

/// A site whose source has an image for virtual machines, on a base with a kernel that is kept. Its server
/// does not run yet.
pub(super) fn with_kernel<'s>(stage: &'s Stage<'s>) -> anyhow::Result<Site<'s>> {
    /// Scenarios share the base: the first one builds it.
    static BUILDING: Mutex<()> = Mutex::new(());
    let kept = Kept::new("e2e-cluster-kernel", &KERNEL_INPUTS, stage.world.tools.file_name(), false)?;
    let building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.exists() {
        let mut site = machines(stage, "kernel")?;
        site.remove("images/machine")?;
        site.start()?;
        let commit = site.commit("a kernel")?;
        site.passed(&commit, LIMIT)?;
        site.end_server(Signal::Term)?;
        kept.keep(&site.data())?;
    }
    drop(building);
    let site = machines(stage, stage.name)?;
    kept.restore(&site.data())?;
    Ok(site)
}

/// What the copy of the system of devices depends on.
const DEVICE_INPUTS: [&str; 2] = ["e2e/cluster/source/edgewright.yaml", "e2e/device/source/images/debian"];
/// Programs that the image parts bring into the image.
const PROGRAMS: [&str; 2] = ["edgewright-agent", "edgewright-setup-root"];

/// A site whose source has the images of devices, on a system that is kept. Its server does not run yet.
pub(super) fn with_device<'s>(stage: &'s Stage<'s>) -> anyhow::Result<Site<'s>> {
    /// Scenarios share the system: the first one builds it.
    static BUILDING: Mutex<()> = Mutex::new(());
    let kept = Kept::new("e2e-cluster-device", &DEVICE_INPUTS, stage.world.tools.file_name(), false)?;
    let building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.exists() {
        let mut site = devices(stage, "debian")?;
        for untested in ["images/base", "images/device"] {
            site.remove(untested)?;
        }
        site.start()?;
        let commit = site.commit("the system of devices")?;
        site.passed(&commit, LIMIT)?;
        site.end_server(Signal::Term)?;
        kept.keep(&site.data())?;
    }
    drop(building);
    let site = devices(stage, stage.name)?;
    kept.restore(&site.data())?;
    let parts = site.source().join("images/base/image-parts");
    copy(&workspace::root().join("packaging/image-parts"), &parts)?;
    std::fs::create_dir_all(parts.join("bin"))?;
    for name in PROGRAMS {
        let built = workspace::target().join("debug").join(name);
        // Most of a program is for debuggers.
        Run::new("strip").arg("-o").arg(parts.join("bin").join(name)).arg(built).run()?;
    }
    lay_version(&site, 1)?;
    Ok(site)
}

/// Lays the files of a version of the device into a site's source.
pub(super) fn lay_version(site: &Site<'_>, version: u32) -> anyhow::Result<()> {
    let files = workspace::root().join("e2e/device/versions").join(version.to_string());
    copy(&files, &site.source().join("images/device/files"))
}

/// A site with the images of devices only.
fn devices<'s>(stage: &'s Stage<'s>, name: &str) -> anyhow::Result<Site<'s>> {
    let site = Site::prepare(stage, name)?;
    site.remove("images")?;
    copy(&workspace::root().join("e2e/device/source/images"), &site.source().join("images"))?;
    Ok(site)
}

/// A site with the images of virtual machines only.
fn machines<'s>(stage: &'s Stage<'s>, name: &str) -> anyhow::Result<Site<'s>> {
    let site = Site::prepare(stage, name)?;
    site.remove("images")?;
    copy(&source_folder().with_file_name("machine"), &site.source())?;
    Ok(site)
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
