//! The executors of `serve`: this host, and a cluster if the settings name one.

use std::num::NonZeroUsize;
use std::sync::Arc;

use edgewright_cluster::{
    Builder, ClusterExecutor, ClusterSettings, JobTools, Machines, PlatformBuild, Resources, kubernetes_lanes,
};
use edgewright_job::{BuildSecrets, Executor, JobRegistry, LocalExecutor, LocalSettings, MixedExecutor};
use edgewright_model::Digest;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::spec::Lane;
use edgewright_process::Tasks;
use edgewright_server::settings::cluster::{ClusterBuilder, ClusterTable, ClusterWork};
use edgewright_server::{FolderLock, Settings};

use super::job::{RUNNER, local_jobs};
use crate::exit::Failure;

/// The program in our image.
const PROGRAM: &str = "/usr/bin/edgewright";

/// What is needed to make the executors.
pub(crate) struct Executors {
    local: LocalSettings,
    cluster: Option<(edgewright_cluster::Client, ClusterTable)>,
    untrusted_slots: NonZeroUsize,
    memory_bytes: u64,
}

impl Executors {
    /// Prepares them: leftovers of earlier jobs on this host are removed.
    pub(crate) async fn prepare(settings: &Settings, lock: &FolderLock) -> Result<Self, Failure> {
        let cluster = match settings.cluster.clone() {
            None => None,
            Some(table) => {
                let client = edgewright_cluster::connect(table.kubeconfig.as_deref()).await;
                let client = client.map_err(|error| {
                    Failure::new(ErrorClass::UserFault, Chain(&error).to_string()).hint(error.hint())
                })?;
                Some((client, table))
            }
        };
        let local = local_jobs(settings, lock).await?;
        let (untrusted_slots, memory_bytes) = (settings.untrusted_slots, settings.job_memory);
        Ok(Self { local, cluster, untrusted_slots, memory_bytes })
    }

    /// The files with build secrets, which a reload replaces.
    pub(crate) fn secrets(&self) -> BuildSecrets {
        self.local.secrets.clone()
    }

    /// Makes the executor once it is known how jobs reach the registry.
    pub(crate) fn executor(self, registry: JobRegistry, tasks: Tasks) -> Arc<dyn Executor> {
        let cluster = self.cluster.map(|(client, table)| {
            let bounds = (self.untrusted_slots, self.memory_bytes);
            let settings = cluster_settings(&table, &self.local, bounds, tasks.clone());
            let executor: Arc<dyn Executor> =
                Arc::new(ClusterExecutor::new(client, settings, registry.clone()));
            (executor, table.runs)
        });
        let local = LocalExecutor::new(LocalSettings { tasks, ..self.local }, registry);
        match cluster {
            None => Arc::new(local),
            Some((cluster, runs)) => mixed(Arc::new(local), cluster, &runs),
        }
    }
}

/// What `runs` names is the cluster's, the rest this host's.
fn mixed(local: Arc<dyn Executor>, cluster: Arc<dyn Executor>, runs: &[ClusterWork]) -> Arc<dyn Executor> {
    let of_cluster: Vec<Lane> = runs.iter().flat_map(|work| work.lanes().iter().copied()).collect();
    if runs.contains(&ClusterWork::Jobs) {
        // A lane that starts no machine stays with its job.
        let stays = |lane: &Lane| *lane == Lane::Static || of_cluster.contains(lane);
        let of_host = Lane::ALL.into_iter().filter(|lane| !stays(lane));
        Arc::new(MixedExecutor::new(cluster).with(of_host, local))
    } else {
        Arc::new(MixedExecutor::new(local).with(of_cluster, cluster))
    }
}

fn cluster_settings(
    table: &ClusterTable,
    local: &LocalSettings,
    (untrusted_slots, memory_bytes): (NonZeroUsize, u64),
    tasks: Tasks,
) -> ClusterSettings {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let resources = |[cpu, memory]: &[String; 2], memory_limit| Resources {
        cpu: cpu.clone(),
        memory: memory.clone(),
        memory_limit,
    };
    ClusterSettings {
        server: table.name.clone(),
        namespace: table.namespace.clone(),
        slots: table.parallel,
        untrusted_slots,
        image: table.image.clone(),
        command: words(&[PROGRAM, "job", "pod"]),
        install_runner: words(&[PROGRAM, "job", "install-runner"]),
        runner: Digest::of(RUNNER),
        service_account: table.service_account.clone(),
        pull_secrets: table.pull_secrets.clone(),
        node_cache: table.node_cache.clone(),
        pull_from: table.pull_from.clone(),
        job: resources(&table.job, Some(format!("{}Mi", memory_bytes >> 20))),
        test: resources(&table.test, table.test_memory_limit.clone()),
        build: table.build.clone().map(|(builder, revision, service_account)| {
            let (by, name) = match builder {
                ClusterBuilder::Pipeline(name) => (Builder::Pipeline, name),
                ClusterBuilder::Strategy(name) => (Builder::Strategy, name),
            };
            PlatformBuild { by, name, revision, service_account }
        }),
        machines: Machines { namespace: table.machine_namespace.clone(), cpu: table.machine_cpu.clone() },
        tools: JobTools::Printed(words(&[PROGRAM, "job", "tools"])),
        secrets: local.secrets.clone(),
        native: local.native.clone(),
        lanes: kubernetes_lanes(table.runs.iter().flat_map(|work| work.lanes().iter().copied())),
        log: Arc::clone(&local.log),
        tasks,
    }
}

#[cfg(test)]
mod tests {
    use edgewright_job::SimulatedExecutor;

    use super::*;

    #[test]
    fn what_the_settings_do_not_name_stays_on_this_host() {
        let [local, cluster] = [1, 2].map(|semantics| {
            let executor = SimulatedExecutor::new();
            executor.upgrade(semantics);
            executor
        });
        let placed = |runs: &[ClusterWork], lane| {
            let executor = mixed(Arc::new(local.clone()), Arc::new(cluster.clone()), runs);
            executor.lane_profile(lane).unwrap().semantics
        };
        let all = [ClusterWork::Jobs, ClusterWork::Container];
        assert_eq!([Lane::Static, Lane::Container, Lane::Vm].map(|lane| placed(&all, lane)), [2, 2, 1]);
        let machines = [ClusterWork::Jobs, ClusterWork::Vm];
        assert_eq!([Lane::Container, Lane::Vm].map(|lane| placed(&machines, lane)), [1, 2]);
        let devices = [ClusterWork::Jobs, ClusterWork::Devices];
        assert_eq!([Lane::Vm, Lane::Upgrade, Lane::Switch].map(|lane| placed(&devices, lane)), [1, 2, 2]);
        let jobs = [ClusterWork::Jobs];
        assert_eq!([Lane::Static, Lane::Container].map(|lane| placed(&jobs, lane)), [2, 1]);
        let tests = [ClusterWork::Container];
        assert_eq!([Lane::Static, Lane::Container].map(|lane| placed(&tests, lane)), [1, 2]);
    }
}
