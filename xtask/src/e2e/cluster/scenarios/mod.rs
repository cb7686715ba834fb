//! The table of scenarios.

mod argocd;
mod chart;
mod conformance;
mod devices;
mod ended;
mod install;
mod killed;
mod limits;
mod lint;
mod machines;
mod memory;
mod pipelines;
mod release;
mod rights;
mod shipwright;
mod view;

use anyhow::bail;

use super::options::Options;
use super::stage::Stage;
use pipelines::platform;

/// What must be there for a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Kubernetes with Tekton.
    Tekton,
    /// KubeVirt as well: with `--kubevirt`.
    KubeVirt,
    /// Programs that are built on request only, or more than is known to work: with `--all`, or by name.
    Request,
}

/// A scenario.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Also the name of its site, so a label of RFC 1123.
    pub(super) name: &'static str,
    about: &'static str,
    needs: Needs,
    /// It disturbs the whole cluster.
    pub(super) is_alone: bool,
    pub(super) run: fn(&Stage<'_>) -> anyhow::Result<()>,
}

impl Scenario {
    const fn new(name: &'static str, about: &'static str, run: fn(&Stage<'_>) -> anyhow::Result<()>) -> Self {
        Self { name, about, needs: Needs::Tekton, is_alone: false, run }
    }

    const fn on_request(self) -> Self {
        Self { needs: Needs::Request, ..self }
    }

    const fn with_kubevirt(self) -> Self {
        Self { needs: Needs::KubeVirt, ..self }
    }

    const fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }
}

/// All scenarios in the order in which they begin: the longest first, but for one that is alone, and short,
/// and waits for a minute at its end.
static SCENARIOS: &[Scenario] = &[
    Scenario::new("api-server", "the API server is killed while a step runs", killed::api_server).alone(),
    Scenario::new(
        "install",
        "the installation of deploy/: settings, upgrade, restoration, end",
        install::install,
    ),
    Scenario::new("no-image", "our own image cannot be pulled: the operator sees why", limits::no_image),
    Scenario::new("token", "the server's token ends while a job runs", limits::token),
    Scenario::new("killed", "the server is killed during a build, and during a test", killed::killed),
    Scenario::new("stopped", "the server is stopped and started again, as for an upgrade", killed::stopped),
    Scenario::new("product", "Pipelines of another project that check, run and promote", pipelines::product),
    Scenario::new("platform-build", "a Pipeline of the platform builds a step", platform::platform_build),
    Scenario::new(
        "platform-killed",
        "the server is killed while a Pipeline of the platform builds",
        platform::platform_killed,
    )
    // A push in the seconds between the server's start and the adoption of the build is rejected: its token is
    // not known yet.
    .on_request(),
    Scenario::new("export", "the objects of a variant, created by hand", pipelines::export),
    Scenario {
        needs: Needs::Request,
        ..Scenario::new("trigger", "an event starts another project's Pipeline", pipelines::trigger)
    },
    Scenario {
        needs: Needs::Request,
        ..Scenario::new("shipwright", "a strategy of Shipwright builds a step", shipwright::shipwright)
    },
    Scenario::new("external", "the verdict of another project's Pipeline", pipelines::external),
    Scenario::new("conformance", "the conformance suite of executors", conformance::conformance),
    Scenario::new("node-memory", "a test for which the node has no memory", memory::node_memory),
    Scenario::new("late-image", "an image that nodes cannot pull at first", limits::late_image),
    Scenario::new("release", "commits become releases, and nothing runs twice", release::release),
    Scenario::new("evicted", "a job whose Pod is evicted is tried again", ended::evicted),
    Scenario::new(
        "rights",
        "the rights of the how-to are enough, and no more; levels of Pod Security",
        rights::rights,
    ),
    Scenario::new("cancelled", "a run is cancelled while a step runs", ended::cancelled),
    Scenario::new("memory", "a step takes more memory than a job may", memory::memory),
    Scenario::new("test-memory", "an image takes more memory than its test may", memory::test_memory),
    Scenario::new("quota", "a full namespace: the job waits until there is room", limits::quota),
    Scenario::new("bootc-lint", "the image's own bootc checks it in the Pod of a job", lint::lint)
        .on_request(),
    Scenario::new("failing-check", "a check that fails: no release", release::failing_check),
    Scenario::new("crashing-init", "an image whose init ends at once", release::crashing_init),
    Scenario::new("device", "devices update themselves in virtual machines, and come back", devices::device)
        .with_kubevirt()
        .on_request(),
    Scenario::new("device-broken", "a version that a device does not keep", devices::broken)
        .with_kubevirt()
        .on_request(),
    Scenario::new("machine-uefi", "a virtual machine that firmware starts", devices::firmware)
        .with_kubevirt(),
    Scenario::new("machine-hung", "a virtual machine that hangs", machines::hung).with_kubevirt(),
    Scenario::new("machine-killed", "the server is killed while a virtual machine runs", machines::killed)
        .with_kubevirt(),
    Scenario::new("machine", "an image passes in a virtual machine of KubeVirt", machines::machine)
        .with_kubevirt(),
    Scenario::new("machine-check", "a check that fails in a virtual machine", machines::failing)
        .with_kubevirt(),
    Scenario::new("machine-panic", "an image whose kernel panics", machines::panicking).with_kubevirt(),
    Scenario::new("chart", "the chart has the objects of the overlays", chart::chart).alone().on_request(),
    Scenario::new("argocd", "Argo CD installs deploy/ by commits, and ends it", argocd::argocd)
        .alone()
        .on_request(),
];

/// Prints all.
pub(super) fn list() {
    for Scenario { name, about, needs, .. } in SCENARIOS {
        let needs = match needs {
            Needs::Tekton => "",
            Needs::KubeVirt => " (--kubevirt)",
            Needs::Request => " (--all)",
        };
        println!("{name:20} {about}{needs}");
    }
}

/// Those to run.
pub(super) fn choose(options: &Options) -> anyhow::Result<Vec<&'static Scenario>> {
    let is_there = |needs| match needs {
        Needs::Tekton => true,
        Needs::KubeVirt => options.has_kubevirt,
        Needs::Request => options.is_all,
    };
    if options.names.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| is_there(scenario.needs)).collect());
    }
    let mut chosen = Vec::new();
    for name in &options.names {
        let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == *name) else {
            bail!("unknown scenario `{name}`: `cargo xtask e2e cluster --list` lists all");
        };
        if scenario.needs == Needs::KubeVirt && !options.has_kubevirt {
            bail!("the scenario `{name}` needs KubeVirt: add --kubevirt");
        }
        chosen.push(scenario);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_each_is_found() {
        for Scenario { name, .. } in SCENARIOS {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            let options =
                Options { names: vec![(*name).to_owned()], has_kubevirt: true, ..Options::default() };
            assert_eq!(choose(&options).unwrap()[0].name, *name);
        }
        let options = Options { names: vec!["nothing".to_owned()], ..Options::default() };
        assert!(choose(&options).unwrap_err().to_string().contains("--list"));
    }
}
