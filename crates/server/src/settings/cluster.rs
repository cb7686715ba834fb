//! `[cluster]`: a Kubernetes cluster that runs jobs and lanes.

use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};

use edgewright_model::spec::Lane;
use serde::Deserialize;

use super::SettingsError;
use super::described::{Kind, described};

/// What a server's name is by default.
const DEFAULT_NAME: &str = "edgewright";
/// How many jobs are in the cluster by default.
const DEFAULT_PARALLEL: u16 = 32;
/// The namespace of jobs by default.
const DEFAULT_NAMESPACE: &str = "edgewright-jobs";
/// The namespace of virtual machines by default.
const DEFAULT_MACHINE_NAMESPACE: &str = "edgewright-machines";
/// What a virtual machine reserves by default.
const MACHINE_CPU: &str = "1";
/// The longest name of a server, a namespace, or an account, in bytes (RFC 1123 label).
const LABEL_LIMIT: usize = 63;
/// The revision of a Pipeline that builds, by default.
const DEFAULT_REVISION: &str = "1";
/// What a job reserves by default.
const JOB: [&str; 2] = ["1", "2Gi"];
/// What an image under test reserves by default.
const TEST: [&str; 2] = ["250m", "512Mi"];

/// Work that can run in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterWork {
    /// Builds, locks, and lanes that start no machine.
    Jobs,
    /// The lane `container`.
    Container,
    /// The lane `vm`, by KubeVirt.
    Vm,
    /// Lanes that update a device, by KubeVirt.
    Devices,
}

impl ClusterWork {
    /// The lanes; none for jobs.
    pub const fn lanes(self) -> &'static [Lane] {
        match self {
            Self::Jobs => &[],
            Self::Container => &[Lane::Container],
            Self::Vm => &[Lane::Vm],
            Self::Devices => &[Lane::Upgrade, Lane::Rollback, Lane::Downgrade, Lane::Switch],
        }
    }

    /// Whether it needs KubeVirt.
    pub const fn needs_machines(self) -> bool {
        matches!(self, Self::Vm | Self::Devices)
    }
}

impl Kind for Vec<ClusterWork> {
    const NAME: &'static str = "list of `\"jobs\"`, `\"container\"`, `\"vm\"` and `\"devices\"`";
    const EXAMPLE: &'static str = "[\"jobs\", \"container\", \"vm\", \"devices\"]";
}

described! {
    /// `[cluster]`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct ClusterOptions: "cluster", layered {
        /// Our own image, in which jobs run, by digest: server and jobs must be the same build. Without it,
        /// no cluster is used.
        pub image: Option<String> { Restart, flag: "--cluster-image", default: "none", range: "HOST/NAME@DIGEST", example: "\"r.example/ew@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"" }
        /// What runs in the cluster. Everything else runs on this host. `vm` and `devices` (the
        /// lanes that update a device) need KubeVirt.
        pub runs: Option<Vec<ClusterWork>> { Restart, default: "`[\"jobs\", \"container\"]`" }
        /// How many jobs have objects in the cluster at the same time. Its scheduler and its quota decide how
        /// many of them run.
        pub parallel: Option<u16> { Restart, default: DEFAULT_PARALLEL.to_string(), range: "1 to 65535", example: "100" }
        /// Namespace of jobs and of images under test.
        pub namespace: Option<String> { Restart, default: DEFAULT_NAMESPACE, example: "\"plant-jobs\"" }
        /// Namespace of virtual machines. It may be that of jobs.
        pub machine_namespace: Option<String> { Restart, default: DEFAULT_MACHINE_NAMESPACE, example: "\"plant-machines\"" }
        /// Processors that a virtual machine reserves, as a Kubernetes quantity. Its memory is the image's
        /// choice.
        pub machine_cpu: Option<String> { Restart, default: MACHINE_CPU, example: "\"500m\"" }
        /// This server's name. Objects of servers with other names are left alone.
        pub name: Option<String> { Restart, default: DEFAULT_NAME, range: "label value of Kubernetes", example: "\"hub\"" }
        /// File with the address and credentials of the cluster.
        pub kubeconfig: Option<PathBuf> { Restart, default: "the service account of this server's Pod", example: "\"/etc/edgewright/kubeconfig\"" }
        /// The registry of this server as nodes reach it, `HOST[:PORT]`: they pull images under test from it.
        pub pull_from: Option<String> { Restart, default: "the host of `jobs.registry`, else of `server.address`", example: "\"images.example.org\"" }
        /// The service account of jobs and tests. It needs no rights: its token is not mounted.
        pub service_account: Option<String> { Restart, default: "`default` of the namespace", example: "\"edgewright-job\"" }
        /// Secrets of the namespace with which nodes pull our image, and images under test.
        pub pull_secrets: Option<Vec<String>> { Restart, default: "none", example: "[\"edgewright-pull\"]" }
        /// Folder of nodes (`hostPath`) in which base images stay from one job to the next, apart for each
        /// trust domain. Without it, each job pulls the base that it builds on.
        pub node_cache: Option<String> { Restart, default: "none", range: "absolute path", example: "\"/var/cache/edgewright\"" }
        /// The Pipeline, in the namespace of jobs, that builds `containerfile` steps in place of our own
        /// programs.
        pub build_pipeline: Option<String> { Restart, default: "none", example: "\"hardened-build\"" }
        /// The ClusterBuildStrategy of Shipwright that builds them instead; not with `build_pipeline`.
        pub build_strategy: Option<String> { Restart, default: "none", example: "\"hardened-build\"" }
        /// The revision of that Pipeline or strategy. What an earlier one has built is built again.
        pub build_revision: Option<String> { Restart, default: DEFAULT_REVISION, example: "\"2026-11\"" }
        /// The service account of its PipelineRuns or BuildRuns.
        pub build_account: Option<String> { Restart, default: "`default` of the namespace", example: "\"pipeline\"" }
        /// Processors that a job reserves, as a Kubernetes quantity.
        pub job_cpu: Option<String> { Restart, default: JOB[0], example: "\"500m\"" }
        /// Memory that a job reserves, as a Kubernetes quantity. `jobs.max_memory_mib` is its limit.
        pub job_memory: Option<String> { Restart, default: JOB[1], example: "\"4Gi\"" }
        /// Processors that an image under test reserves, as a Kubernetes quantity.
        pub test_cpu: Option<String> { Restart, default: TEST[0], example: "\"500m\"" }
        /// Memory that an image under test reserves, as a Kubernetes quantity.
        pub test_memory: Option<String> { Restart, default: TEST[1], example: "\"1Gi\"" }
        /// The most memory that an image under test may take, as a Kubernetes quantity.
        pub test_memory_limit: Option<String> { Restart, default: "that of its node", example: "\"2Gi\"" }
    }
}

/// What runs in a cluster, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTable {
    /// Our own image.
    pub image: String,
    /// What runs there.
    pub runs: Vec<ClusterWork>,
    /// How many jobs are there at the same time.
    pub parallel: NonZeroUsize,
    /// The namespace of jobs.
    pub namespace: String,
    /// The namespace of virtual machines.
    pub machine_namespace: String,
    /// Processors of a virtual machine.
    pub machine_cpu: String,
    /// This server's name.
    pub name: String,
    /// The file that describes the cluster; the Pod's service account if none.
    pub kubeconfig: Option<PathBuf>,
    /// The registry as nodes reach it.
    pub pull_from: String,
    /// The service account of jobs.
    pub service_account: Option<String>,
    /// Secrets to pull with.
    pub pull_secrets: Vec<String>,
    /// The folder of nodes that keeps base images.
    pub node_cache: Option<String>,
    /// What of the platform builds `containerfile` steps, with its revision and its service account.
    pub build: Option<(ClusterBuilder, String, Option<String>)>,
    /// Processors and memory of a job.
    pub job: [String; 2],
    /// Processors and memory of an image under test.
    pub test: [String; 2],
    /// The memory limit of an image under test.
    pub test_memory_limit: Option<String>,
}

/// What of the platform builds `containerfile` steps, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterBuilder {
    /// A Pipeline of Tekton.
    Pipeline(String),
    /// A ClusterBuildStrategy of Shipwright.
    Strategy(String),
}

impl ClusterOptions {
    /// The table; none without an image. `registry` is where nodes pull from by default.
    pub(super) fn resolve(self, registry: Option<&str>) -> Result<Option<ClusterTable>, SettingsError> {
        let fault = |reason: String| Err(SettingsError::Cluster { reason });
        let Some(image) = self.image.clone() else {
            return if self == Self::default() {
                Ok(None)
            } else {
                fault("all other keys need `image`".to_owned())
            };
        };
        if image
            .rsplit_once('@')
            .is_none_or(|(_, digest)| digest.parse::<edgewright_model::Digest>().is_err())
        {
            return fault(format!("`image` needs a digest, and is `{image}`"));
        }
        let Some(pull_from) = self.pull_from.or_else(|| registry.map(str::to_owned)) else {
            return fault(
                "set `pull_from`, or `address` of `[server]`: nodes cannot pull from this server's loopback"
                    .to_owned(),
            );
        };
        let Some(parallel) = NonZeroUsize::new(self.parallel.unwrap_or(DEFAULT_PARALLEL).into()) else {
            return fault("`parallel` is 0: use 1 or more".to_owned());
        };
        let or = |given: Option<String>, default: &str| given.unwrap_or_else(|| default.to_owned());
        let namespace = or(self.namespace, DEFAULT_NAMESPACE);
        let machine_namespace = or(self.machine_namespace, DEFAULT_MACHINE_NAMESPACE);
        let name = or(self.name, DEFAULT_NAME);
        let labels = [("namespace", &namespace), ("machine_namespace", &machine_namespace), ("name", &name)];
        for (key, label) in labels {
            if !is_label(label) {
                return fault(format!(
                    "`{key}` is `{label}`: use a-z, 0-9 and `-`, at most {LABEL_LIMIT} of them"
                ));
            }
        }
        let revision = or(self.build_revision, DEFAULT_REVISION);
        let build = builder(self.build_pipeline, self.build_strategy)?
            .map(|builder| (builder, revision, self.build_account));
        let mut runs = self.runs.unwrap_or_else(|| vec![ClusterWork::Jobs, ClusterWork::Container]);
        runs.sort_unstable();
        runs.dedup();
        Ok(Some(ClusterTable {
            image,
            runs,
            parallel,
            namespace,
            machine_namespace,
            machine_cpu: or(self.machine_cpu, MACHINE_CPU),
            name,
            kubeconfig: self.kubeconfig,
            pull_from,
            service_account: self.service_account,
            pull_secrets: self.pull_secrets.unwrap_or_default(),
            node_cache: self.node_cache.map(cache).transpose()?,
            build,
            job: [or(self.job_cpu, JOB[0]), or(self.job_memory, JOB[1])],
            test: [or(self.test_cpu, TEST[0]), or(self.test_memory, TEST[1])],
            test_memory_limit: self.test_memory_limit,
        }))
    }
}

/// What of the platform builds steps, if something does.
fn builder(
    pipeline: Option<String>,
    strategy: Option<String>,
) -> Result<Option<ClusterBuilder>, SettingsError> {
    match (pipeline, strategy) {
        (Some(_), Some(_)) => {
            let reason = "`build_pipeline` and `build_strategy` are both set: remove one".to_owned();
            Err(SettingsError::Cluster { reason })
        }
        (Some(name), None) => Ok(Some(ClusterBuilder::Pipeline(name))),
        (None, name) => Ok(name.map(ClusterBuilder::Strategy)),
    }
}

/// A folder that nodes may keep files in.
fn cache(folder: String) -> Result<String, SettingsError> {
    let mut parts = Path::new(&folder).components();
    let is_absolute = parts.next() == Some(Component::RootDir);
    if is_absolute && parts.clone().next().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    {
        return Ok(folder);
    }
    let reason = format!("`node_cache` is `{folder}`: use an absolute path below `/`, without `..`");
    Err(SettingsError::Cluster { reason })
}

/// Whether a text is a label of RFC 1123, as names of namespaces are.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=LABEL_LIMIT).contains(&text.len())
        && text.as_bytes().iter().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, registry: Option<&str>) -> Result<Option<ClusterTable>, String> {
        let options: ClusterOptions = toml::from_str(text).map_err(|error| error.to_string())?;
        options.resolve(registry).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_needs_an_image_by_digest_and_an_address_to_pull_from() {
        assert_eq!(table("", None), Ok(None));
        let image = format!("image = \"r.example.org/edgewright@sha256:{}\"\n", "0".repeat(64));
        let with = |rest: &str| format!("{image}{rest}");
        let found = table(&image, Some("hub.example.org")).unwrap().unwrap();
        assert_eq!(
            (found.pull_from.as_str(), found.namespace.as_str()),
            ("hub.example.org", DEFAULT_NAMESPACE)
        );
        assert_eq!(found.runs, [ClusterWork::Jobs, ClusterWork::Container]);
        let found = table(&with("pull_from = \"r:5000\"\nruns = [\"container\", \"container\"]"), None)
            .unwrap()
            .unwrap();
        assert_eq!((found.pull_from.as_str(), found.runs), ("r:5000", vec![ClusterWork::Container]));
        let found = table(&with("pull_from = \"r\"\nbuild_strategy = \"b\""), None).unwrap().unwrap();
        let builder = ClusterBuilder::Strategy("b".to_owned());
        assert_eq!(found.build, Some((builder, DEFAULT_REVISION.to_owned(), None)));
        for (text, part) in [
            ("namespace = \"x\"".to_owned(), "need `image`"),
            ("image = \"r/edgewright:1\"".to_owned(), "needs a digest"),
            (image.clone(), "set `pull_from`"),
            (with("pull_from = \"r\"\nnamespace = \"Jobs\""), "`namespace` is `Jobs`"),
            (with("pull_from = \"r\"\nmachine_namespace = \"a/b\""), "`machine_namespace` is `a/b`"),
            (with("pull_from = \"r\"\nname = \"-\""), "`name` is `-`"),
            (with("pull_from = \"r\"\nnode_cache = \"cache\""), "`node_cache` is `cache`"),
            (with("pull_from = \"r\"\nnode_cache = \"/\""), "`node_cache` is `/`"),
            (with("pull_from = \"r\"\nnode_cache = \"/var/../etc\""), "without `..`"),
            (with("runs = [\"external\"]"), "unknown variant"),
            (with("pull_from = \"r\"\nbuild_pipeline = \"a\"\nbuild_strategy = \"b\""), "are both set"),
        ] {
            let error = table(&text, None).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
