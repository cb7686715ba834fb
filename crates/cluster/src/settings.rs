//! Settings of the executor.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use edgewright_job::local::LogSink;
use edgewright_job::{BuildSecrets, JobWorker};
use edgewright_model::Digest;
use edgewright_model::spec::{Lane, VmSpec};
use edgewright_model::tools::{PIPELINE, ToolVersions};
use edgewright_model::verdict::LaneProfile;
use edgewright_process::Tasks;

/// The executor's view of the cluster. Clones share the secrets.
#[derive(Clone)]
pub struct ClusterSettings {
    /// The server's name, a label value: objects of another server in the same namespace are left alone.
    pub server: String,
    /// The namespace of the jobs.
    pub namespace: String,
    /// How many trusted jobs have objects in the cluster at the same time.
    pub slots: NonZeroUsize,
    /// How many untrusted jobs beside them.
    pub untrusted_slots: NonZeroUsize,
    /// Our own image, which jobs run in; by digest, so that job and server are the same build.
    pub image: String,
    /// The command of a job in it; the path of the order, and of the report, are added.
    pub command: Vec<String>,
    /// The command that installs the check runner in a Pod under test; the path is added.
    pub install_runner: Vec<String>,
    /// The digest of that check runner, which verdicts record.
    pub runner: Digest,
    /// The service account of jobs and tests. It needs no right: its token is not mounted.
    pub service_account: Option<String>,
    /// Names of secrets with which nodes pull our image, and images under test.
    pub pull_secrets: Vec<String>,
    /// The folder of nodes that keeps base images from one job to the next; none: each job pulls its base.
    pub node_cache: Option<String>,
    /// The registry of images under test as nodes reach it, `HOST[:PORT]`.
    pub pull_from: String,
    /// What a job asks for and may take.
    pub job: Resources,
    /// What an image under test asks for and may take.
    pub test: Resources,
    /// What of the platform builds `containerfile` steps; none: our own programs do.
    pub build: Option<PlatformBuild>,
    /// Where and with what virtual machines run.
    pub machines: Machines,
    /// The programs in our image that decide about the bytes of images.
    pub tools: JobTools,
    /// Files with build secrets.
    pub secrets: BuildSecrets,
    /// Runs jobs that start no program in the server's process; none: all jobs are TaskRuns.
    pub native: Option<JobWorker>,
    /// Where lanes run.
    pub lanes: Lanes,
    /// Receives the jobs' logs.
    pub log: LogSink,
    /// Watches and clean-up.
    pub tasks: Tasks,
}

impl fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSettings")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

/// How the versions of the programs in our image are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobTools {
    /// These.
    Known(ToolVersions),
    /// A Pod with our image prints them as JSON with this command, once for each process of the server.
    Printed(Vec<String>),
}

/// What of the platform builds `containerfile` steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformBuild {
    /// The kind of builder.
    pub by: Builder,
    /// Its name.
    pub name: String,
    /// Its revision, which its owner counts up: images that an earlier one built are built again.
    pub revision: String,
    /// The service account of its runs; none: the default one.
    pub service_account: Option<String>,
}

/// A kind of builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// A Pipeline of Tekton, in the namespace of jobs.
    Pipeline,
    /// A ClusterBuildStrategy of Shipwright.
    Strategy,
}

impl PlatformBuild {
    /// The versions that decide about bytes, with this builder of `containerfile` steps.
    pub(crate) fn in_place_of_buildah(&self, mut versions: ToolVersions) -> ToolVersions {
        let Self { name, revision, .. } = self;
        // No Pipeline has a name with a slash.
        let builder = match self.by {
            Builder::Pipeline => format!("{name}@{revision}"),
            Builder::Strategy => format!("shipwright/{name}@{revision}"),
        };
        versions.0.remove("buildah");
        versions.0.insert(PIPELINE.to_owned(), builder);
        versions
    }
}

/// Virtual machines of KubeVirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machines {
    /// Their namespace; Pod Security `baseline` is enough for them.
    pub namespace: String,
    /// Processors that one reserves, as a Kubernetes quantity. Its memory is the image's choice.
    pub cpu: String,
}

/// Requests and limits of a container, as Kubernetes quantities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Processors that are reserved, such as `500m`.
    pub cpu: String,
    /// Memory that is reserved, such as `512Mi`.
    pub memory: String,
    /// The memory limit; none: the node's memory is the limit.
    pub memory_limit: Option<String>,
}

/// Where a lane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the job's own TaskRun: it starts no machine.
    Job,
    /// In a Pod of its own, whose container is the image under test.
    Pod,
    /// In a virtual machine of KubeVirt.
    Machine,
}

impl Place {
    /// Whether a machine is started for it, apart from the job.
    pub(crate) const fn is_apart(self) -> bool {
        matches!(self, Self::Pod | Self::Machine)
    }
}

/// The profile of a lane in a place; none: the lane is not run.
pub type Lanes = Arc<dyn Fn(Lane) -> Option<(Place, LaneProfile)> + Send + Sync>;

/// The lanes of a cluster: `static` in the job, `container` in a Pod, and with KubeVirt those of `machines`
/// in virtual machines.
pub fn kubernetes_lanes(machines: impl IntoIterator<Item = Lane>) -> Lanes {
    let machines: BTreeSet<Lane> = machines.into_iter().filter(|lane| lane.has_kernel()).collect();
    Arc::new(move |lane| match lane {
        Lane::Static => Some((Place::Job, edgewright_lab::lane_profile(lane)?)),
        Lane::Container => Some((Place::Pod, crate::lane::pod_profile())),
        lane if machines.contains(&lane) => {
            Some((Place::Machine, crate::lane::machine_profile(lane, VmSpec::default())))
        }
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings as an installation has them.
    pub(crate) fn sample() -> ClusterSettings {
        let resources = |memory: &str, limit: &str| Resources {
            cpu: "500m".to_owned(),
            memory: memory.to_owned(),
            memory_limit: Some(limit.to_owned()),
        };
        ClusterSettings {
            server: "plant".to_owned(),
            namespace: "edgewright-jobs".to_owned(),
            slots: NonZeroUsize::MIN,
            untrusted_slots: NonZeroUsize::MIN,
            image: "registry.example/edgewright@sha256:1".to_owned(),
            command: ["/usr/bin/edgewright", "job", "pod"].map(str::to_owned).into(),
            install_runner: ["/usr/bin/edgewright", "job", "install-runner"].map(str::to_owned).into(),
            runner: Digest::of("runner"),
            service_account: Some("edgewright-job".to_owned()),
            pull_secrets: vec!["pull".to_owned()],
            node_cache: Some("/var/cache/edgewright".to_owned()),
            pull_from: "registry.example".to_owned(),
            job: resources("1Gi", "4Gi"),
            test: resources("256Mi", "1Gi"),
            build: None,
            machines: Machines { namespace: "edgewright-machines".to_owned(), cpu: "1".to_owned() },
            tools: JobTools::Known(ToolVersions::default()),
            secrets: BuildSecrets::default(),
            native: None,
            lanes: kubernetes_lanes(Lane::ALL),
            log: Arc::new(|_, _| {}),
            tasks: Tasks::new(),
        }
    }

    #[test]
    fn a_pipeline_and_a_strategy_of_one_name_are_two_builders() {
        let of = |by| {
            let (name, revision) = ("hardened".to_owned(), "3".to_owned());
            let build = PlatformBuild { by, name, revision, service_account: None };
            let versions = ToolVersions::from_iter([("apt", "3.0.3"), ("buildah", "1.39.3")]);
            build.in_place_of_buildah(versions).to_string()
        };
        assert_eq!(of(Builder::Pipeline), "apt 3.0.3, pipeline hardened@3");
        assert_eq!(of(Builder::Strategy), "apt 3.0.3, pipeline shipwright/hardened@3");
    }

    #[test]
    fn lanes_in_machines_are_those_of_the_settings() {
        let place = |lane| {
            (kubernetes_lanes([Lane::Vm, Lane::Upgrade]))(lane).map(|(place, profile)| (place, profile.name))
        };
        assert_eq!(place(Lane::Static), Some((Place::Job, "none".to_owned())));
        assert_eq!(place(Lane::Container), Some((Place::Pod, "pod".to_owned())));
        assert_eq!(place(Lane::Vm), Some((Place::Machine, "kubevirt".to_owned())));
        assert_eq!(place(Lane::Upgrade), Some((Place::Machine, "kubevirt-device".to_owned())));
        assert_eq!(place(Lane::Rollback), None);
        assert!((kubernetes_lanes([]))(Lane::Vm).is_none());
    }
}
