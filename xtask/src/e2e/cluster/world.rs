//! One cluster for all scenarios, and what they share on this host.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::api::Api;
use super::options::Options;
use crate::cluster::{self, Cluster, HOST_NAME, Lifetime};
use crate::command::Run;
use crate::demo::place::Place;
use crate::demo::story::Story;
use crate::{image, setup, workspace};

/// The name of the registry with our own image, as nodes pull from it.
const TOOLS_REGISTRY: &str = "tools.edgewright.internal";
/// Where our own image is in it.
const REPOSITORY: &str = "edgewright";
/// How long a program may take to answer.
const START_LIMIT: Duration = Duration::from_mins(1);

/// A cluster, a registry with our own image, programs.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) story: Story,
    pub(crate) place: Place,
    pub(crate) cluster: Cluster,
    pub(crate) api: Api,
    /// Our own image, by digest, as nodes pull it.
    pub(crate) image: String,
    /// The tool image of the host; no job of a scenario runs there.
    pub(crate) tools: PathBuf,
    /// The certificate authority of the API server.
    pub(super) authority: PathBuf,
    registry: Registry,
}

impl World {
    /// Compiles, makes our image, and starts the cluster.
    pub(super) fn prepare(options: &Options) -> anyhow::Result<Self> {
        Self::start("e2e-cluster", "cluster-e2e", options)
    }

    /// The same for another use: `name` and `state` are folders below `target`, for files and for the
    /// cluster.
    pub(crate) fn start(name: &str, state: &str, options: &Options) -> anyhow::Result<Self> {
        Self::start_with(name, state, options, || {
            // What `cargo xtask test` compiles, with the same features: nothing is compiled again after it.
            let build = ["build", "--workspace", "--locked", "--bins", "--examples"];
            Run::new("cargo").args(build).cwd(workspace::root()).run()?;
            Ok(workspace::target().join("debug/edgewright"))
        })
    }

    /// The same with a program of another making, for the server and in our image.
    pub(crate) fn start_with(
        name: &str,
        state: &str,
        options: &Options,
        compile: impl FnOnce() -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut story = Story::new();
        story.step("Programs, the edgewright command");
        setup::run()?;
        let place = Place::prepare(name)?;
        // A copy, so that a build beside the test does not take the program away.
        std::fs::copy(compile()?, &place.program)?;
        let tools = setup::tool_image(&place.program)?;
        story.step("The cluster");
        let cluster = start_or_attach(state, options)?;
        story.step("Our own image, in a registry of this host");
        let registry = Registry::start(&cluster, &place)?;
        cluster.pull_from(TOOLS_REGISTRY, &format!("http://{HOST_NAME}:{}", registry.port))?;
        let digest = image::publish(&place.program, &format!("{}/{REPOSITORY}:e2e", registry.address))?;
        let image = format!("{TOOLS_REGISTRY}/{REPOSITORY}@{digest}");
        let authority = place.root.join("ca.crt");
        std::fs::write(&authority, certificate_authority(&cluster)?)?;
        let api = Api::start(&cluster, &place.root.join("api.log"))?;
        story.step("Scenarios");
        Ok(Self { story, place, cluster, api, image, tools, authority, registry })
    }

    /// The registry with our own image, as this host and as Pods reach it.
    pub(crate) fn registry(&self) -> &str {
        &self.registry.address
    }

    /// Another image of our own, by digest: its program has one more section.
    pub(crate) fn other_image(&self) -> anyhow::Result<String> {
        let (note, program) = (self.place.root.join("note"), self.place.root.join("edgewright-other"));
        std::fs::write(&note, "another version")?;
        let section = format!("edgewright.e2e={}", note.display());
        let objcopy = Run::new("objcopy").args(["--add-section", &section]);
        objcopy.arg(&self.place.program).arg(&program).run()?;
        let digest = image::publish(&program, &format!("{}/{REPOSITORY}:other", self.registry.address))?;
        Ok(format!("{TOOLS_REGISTRY}/{REPOSITORY}@{digest}"))
    }
}

/// The test's own cluster, or the one of `cluster up`.
fn start_or_attach(state: &str, options: &Options) -> anyhow::Result<Cluster> {
    if options.is_kept {
        let place = cluster::Place::new(None)?;
        if let Ok(cluster) = Cluster::attach(&place) {
            return Ok(cluster);
        }
        return start(place, options, Lifetime::Kept);
    }
    let folder = workspace::target().join(state);
    start(cluster::Place::new(folder.to_str())?, options, Lifetime::Process)
}

fn start(place: cluster::Place, options: &Options, lifetime: Lifetime) -> anyhow::Result<Cluster> {
    Cluster::start(&cluster::Options { place, has_kubevirt: options.has_kubevirt, lifetime })
}

fn certificate_authority(cluster: &Cluster) -> anyhow::Result<String> {
    let path = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let encoded = cluster.kubectl(&["config", "view", "--raw", "--output", path])?;
    let decode = r#"printf %s "$0" | base64 --decode"#;
    Run::new("sh").args(["-c", decode, encoded.trim()]).output()
}

/// A registry that is not ours, on the host's address of the cluster's network.
#[derive(Debug)]
struct Registry {
    child: Child,
    port: u16,
    address: String,
}

impl Registry {
    fn start(cluster: &Cluster, place: &Place) -> anyhow::Result<Self> {
        let port = free_port(cluster.host_address())?;
        let address = format!("{}:{port}", cluster.host_address());
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            place.root.join("registry").display()
        );
        let file = place.root.join("registry.yml");
        std::fs::write(&file, settings)?;
        let run =
            Run::new("setpriv").args(["--pdeathsig", "KILL", "--", "docker-registry", "serve"]).arg(&file);
        let mut registry = Self { child: run.start_logged(&place.root.join("registry.log"))?, port, address };
        let url = format!("http://{}/v2/", registry.address);
        let ask = || Run::new("curl").args(["--silent", "--fail", "--noproxy", "*", &url]);
        until("the registry answers", START_LIMIT, || {
            if let Some(status) = registry.child.try_wait()? {
                bail!("the registry ended with {status}: see {}", place.root.join("registry.log").display());
            }
            Ok(ask().succeeds())
        })?;
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port of this address that no program uses.
pub(super) fn free_port(address: &str) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((address, 0)).with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener.local_addr()?.port())
}

/// Waits for a condition.
pub(crate) fn until(
    what: &str,
    limit: Duration,
    mut is_true: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    /// How often a condition is looked at: each look may start a program.
    const PAUSE: Duration = Duration::from_millis(400);
    let deadline = std::time::Instant::now() + limit;
    while !is_true()? {
        if std::time::Instant::now() > deadline {
            bail!("not seen after {} s: {what}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The folder of the source that scenarios start with.
pub(super) fn source_folder() -> PathBuf {
    workspace::root().join("e2e/cluster/source")
}

/// Copies the contents of a folder.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    Run::new("cp").args(["-a", "--no-target-directory"]).arg(from).arg(to).run()
}
