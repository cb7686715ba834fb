//! The baseline's side: `baseline.sh` unchanged, container storage of its own, a distribution registry on
//! loopback.

use std::path::{Path, PathBuf};

use super::clear;
use crate::bench::distribution::{self, Distribution};
use crate::bench::measure::{Cost, cost};
use crate::command::is_installed;
use crate::{setup, workspace};

/// Installs what the baseline needs besides what tests need: a registry, and `bc` for the script's `phase`.
pub(super) fn setup() -> anyhow::Result<()> {
    if !is_installed("bc") {
        setup::install(&["bc"])?;
    }
    distribution::setup()
}

/// The baseline, ready for a first build.
pub(super) struct Rival {
    root: PathBuf,
    registry: Distribution,
}

impl Rival {
    /// Empties its storage and starts its registry.
    pub(super) fn start(root: &Path) -> anyhow::Result<Self> {
        clear(root)?;
        std::fs::create_dir_all(root)?;
        // As on the hosts where crun fails (hybrid cgroups); harmless elsewhere.
        std::fs::write(
            root.join("containers.conf"),
            "[engine]\nruntime = \"runc\"\n[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=1000:1000\"]\n",
        )?;
        std::fs::write(
            root.join("storage.conf"),
            format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
                root.display()
            ),
        )?;
        Ok(Self { root: root.to_owned(), registry: Distribution::start(&root.join("registry"))? })
    }

    /// A first build with tests, then a site's change without.
    pub(super) fn round(&self, log: &Path) -> anyhow::Result<(Cost, Cost)> {
        let (conf, storage) = (self.root.join("containers.conf"), self.root.join("storage.conf"));
        let script = workspace::root().join("bench/pipeline/baseline.sh");
        let run = |words: &str, tests: &str| {
            let environment = [
                ("CONTAINERS_CONF", conf.to_str().unwrap_or_default()),
                ("CONTAINERS_STORAGE_CONF", storage.to_str().unwrap_or_default()),
                ("TESTS", tests),
            ];
            cost(&format!("bash '{}' {words} {}", script.display(), self.registry.address), &environment, log)
        };
        let first = run("all", "1")?;
        // The script lays the site's files over the role again: the same work, whatever changed in them.
        let site = run("site plant-a", "0")?;
        Ok((first, site))
    }
}
