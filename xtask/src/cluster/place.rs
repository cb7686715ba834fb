//! Where a cluster is: a folder for its state, and names on this machine that follow from the folder. So
//! whatever a killed command left is found again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::Run;
use crate::workspace;

/// The folder and its names.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    hash: u32,
}

impl Place {
    /// The place of a folder; the default is `target/cluster`.
    pub(crate) fn new(folder: Option<&str>) -> anyhow::Result<Self> {
        let folder = folder.map_or_else(|| workspace::target().join("cluster"), PathBuf::from);
        let folder =
            std::path::absolute(&folder).with_context(|| format!("no path: {}", folder.display()))?;
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        let hash = u32::try_from(hasher.finish() >> 32)?;
        Ok(Self { folder, hash })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file or folder of the state.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the node and the host exchange: `/node` of the node.
    pub(super) fn exchange(&self, name: &str) -> PathBuf {
        self.folder.join("root/node").join(name)
    }

    /// A program of the node. It runs on the host as well.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("root/usr/local/bin").join(name)
    }

    /// The administrator's access, with all certificates in it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The name of its cgroup in every hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("edgewright-cluster-{:08x}", self.hash)
    }

    /// The name of the host's end of its network.
    pub(super) fn interface(&self) -> String {
        format!("ew{:08x}", self.hash)
    }

    /// The first number to try for its network.
    pub(super) const fn network(&self) -> u32 {
        self.hash
    }

    /// A command in the node's namespaces.
    pub(super) fn inside(process: u32) -> anyhow::Result<Run> {
        Ok(Run::as_root("nsenter")?
            .arg(format!("--target={process}"))
            .args(["--mount", "--net", "--pid", "--cgroup", "--uts", "--ipc", "--"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_folder_and_are_short() {
        let a = Place::new(Some("/a")).unwrap();
        let again = Place::new(Some("/a")).unwrap();
        let b = Place::new(Some("/b")).unwrap();
        assert_eq!(a.cgroup(), again.cgroup());
        assert_ne!(a.cgroup(), b.cgroup());
        assert_ne!(a.interface(), b.interface());
        // The kernel's limit for names of interfaces.
        assert!(a.interface().len() < 16, "{}", a.interface());
    }
}
