//! The baseline's side: `baseline.sh` unchanged, container storage of its own, a distribution registry on
//! loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::bail;

use super::clear;
use crate::bench::measure::{Cost, cost};
use crate::command::{Run, is_installed};
use crate::workspace;

/// CNCF distribution.
const REGISTRY: &str = "github.com/distribution/distribution/v3/cmd/registry";
/// Its newest release.
const RELEASE: &str = "v3.1.2";

/// Debian's package of an earlier release, and its program.
const DEBIANS: &str = "docker-registry";

/// Installs what the baseline needs besides what tests need: a registry, and `bc` for the script's `phase`.
pub(super) fn setup() -> anyhow::Result<()> {
    if !is_installed("bc") {
        install("bc")?;
    }
    let programs = compiled()?;
    if is_installed("go") && !programs.join("registry").exists() {
        println!("bench pipeline: compiling {REGISTRY} {RELEASE}, once");
        Run::new("go").args(["install", &format!("{REGISTRY}@{RELEASE}")]).env("GOBIN", programs).run()?;
    }
    if registry()? == Path::new(DEBIANS) && !is_installed(DEBIANS) {
        println!("bench pipeline: without Go the baseline pushes to Debian's build of an earlier release");
        install(DEBIANS)?;
    }
    Ok(())
}

/// What we compiled, else Debian's.
fn registry() -> anyhow::Result<PathBuf> {
    let compiled = compiled()?.join("registry");
    Ok(if compiled.exists() { compiled } else { DEBIANS.into() })
}

/// Where the compiled registry is kept.
fn compiled() -> anyhow::Result<PathBuf> {
    Ok(workspace::cache()?.join("distribution").join(RELEASE))
}

fn install(package: &str) -> anyhow::Result<()> {
    let install = [
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-qq",
        "-o",
        "DPkg::Lock::Timeout=300",
    ];
    Run::as_root("env")?.args(install).arg(package).run()
}

/// The baseline, ready for a first build.
pub(super) struct Rival {
    root: PathBuf,
    registry: Child,
    port: u16,
}

impl Rival {
    /// Empties its storage and starts its registry.
    pub(super) fn start(root: &Path) -> anyhow::Result<Self> {
        clear(root)?;
        std::fs::create_dir_all(root.join("registry"))?;
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
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        std::fs::write(
            root.join("registry.yml"),
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {0}/registry}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
                root.display()
            ),
        )?;
        let registry = Run::new(registry()?)
            .arg("serve")
            .arg(root.join("registry.yml"))
            .start_logged(&root.join("registry.log"))?;
        let rival = Self { root: root.to_owned(), registry, port };
        for _ in 0..100 {
            if Run::new("curl").args(["-sf", &format!("http://{}/v2/", rival.address())]).succeeds() {
                return Ok(rival);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        bail!("the registry does not answer; see {}", root.join("registry.log").display())
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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
            cost(&format!("bash '{}' {words} {}", script.display(), self.address()), &environment, log)
        };
        let first = run("all", "1")?;
        // The script lays the site's files over the role again: the same work, whatever changed in them.
        let site = run("site plant-a", "0")?;
        Ok((first, site))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}
