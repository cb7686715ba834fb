//! The registry of rivals: CNCF distribution on loopback, with its cache, without logs and traces.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::bail;

use crate::command::{Run, is_installed};
use crate::workspace;

/// CNCF distribution.
const REGISTRY: &str = "github.com/distribution/distribution/v3/cmd/registry";
/// Its newest release.
const RELEASE: &str = "v3.1.2";

/// Debian's build of an earlier release; `setup` installs it.
const DEBIANS: &str = "docker-registry";

/// Compiles it, if there is Go.
pub(super) fn setup() -> anyhow::Result<()> {
    let programs = compiled()?;
    if is_installed("go") && !programs.join("registry").exists() {
        println!("bench: compiling {REGISTRY} {RELEASE}, once");
        Run::new("go").args(["install", &format!("{REGISTRY}@{RELEASE}")]).env("GOBIN", programs).run()?;
    }
    if registry()? == Path::new(DEBIANS) {
        println!("bench: without Go the rival is Debian's build of an earlier release");
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

/// A running registry; it ends with this value.
pub(super) struct Distribution {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(super) address: String,
}

impl Distribution {
    /// Starts it with a storage below `root`.
    pub(super) fn start(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (address, settings, log) =
            (format!("127.0.0.1:{port}"), root.join("registry.yml"), root.join("registry.log"));
        std::fs::write(
            &settings,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}/storage}}, cache: {{blobdescriptor: inmemory}}}}\nhttp: {{addr: \"{address}\"}}\n",
                root.display()
            ),
        )?;
        // It would send traces to a collector that is not there.
        let serve = Run::new(registry()?).arg("serve").arg(settings).env("OTEL_TRACES_EXPORTER", "none");
        let child = serve.start_logged(&log)?;
        let registry = Self { child, address };
        for _ in 0..100 {
            if Run::new("curl").args(["-sf", &format!("http://{}/v2/", registry.address)]).succeeds() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the registry does not answer; see {}", log.display())
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
