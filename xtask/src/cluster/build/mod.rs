//! What clusters are made of: programs, root file systems, container images, manifests. Each part is made
//! once for its version.

mod debian;
pub(super) mod go;
mod image;
mod kubernetes;
mod kubevirt;
pub(super) mod others;

use std::path::Path;
use std::time::Duration;

use super::part::Part;
use super::version::{self, KUBERNETES, KUBEVIRT, SUITE, TEKTON};
use go::{GO, Go};

/// All parts.
#[derive(Debug)]
pub(super) struct Parts {
    /// The node's root file system, and the image of busybox.
    pub(super) node: Part,
    /// Programs, images and manifests of Kubernetes and Tekton.
    pub(super) kubernetes: Part,
    pub(super) kubevirt: Part,
}

impl Parts {
    /// The parts of the versions of this checkout.
    pub(super) fn new() -> anyhow::Result<Self> {
        let minutes = Duration::from_mins;
        let node = version::hash(&[SUITE, debian::NODE, include_str!("debian.rs")], &[])?;
        let recipe = [KUBERNETES, TEKTON, GO, include_str!("kubernetes.rs"), include_str!("image.rs")];
        let kubernetes = version::hash(&recipe, &[&version::programs("kubernetes")])?;
        let recipe = [KUBEVIRT, SUITE, GO, include_str!("kubevirt.rs"), include_str!("image.rs")];
        let kubevirt = version::hash(&recipe, &[&version::programs("kubevirt")])?;
        let debian = format!("the node's Debian {SUITE}");
        let programs = format!("Kubernetes {KUBERNETES} with Tekton {TEKTON}");
        Ok(Self {
            node: Part::new("node", debian, node, minutes(3))?,
            kubernetes: Part::new("kubernetes", programs, kubernetes, minutes(10))?,
            kubevirt: Part::new("kubevirt", format!("KubeVirt {KUBEVIRT}"), kubevirt, minutes(8))?,
        })
    }

    /// Makes all that is missing, also what scenarios on request need, and keeps Go's caches.
    pub(super) fn ensure_all(&self) -> anyhow::Result<()> {
        self.ensure(true, true)?;
        others::ensure()
    }

    /// Makes what is missing. `keeps_caches`: so that the next build compiles only what changed.
    pub(super) fn ensure(&self, has_kubevirt: bool, keeps_caches: bool) -> anyhow::Result<()> {
        self.node.ensure(debian::make_node)?;
        if self.kubernetes.is_made() && (!has_kubevirt || self.kubevirt.is_made()) {
            return Ok(());
        }
        let go = Go::prepare()?;
        self.kubernetes.ensure(|folder| kubernetes::make(&go, folder))?;
        if has_kubevirt {
            self.kubevirt.ensure(|folder| kubevirt::make(&go, folder))?;
        }
        if keeps_caches { Ok(()) } else { go::remove_caches() }
    }
}

/// Writes a file below a folder, and the folders above it.
fn write(root: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let file = root.join(name);
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(std::fs::write(file, text)?)
}
