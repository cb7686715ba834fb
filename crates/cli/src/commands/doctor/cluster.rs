//! A server whose jobs run in a cluster: it needs git, a disk, and the cluster. Programs, sandboxes and
//! virtual machines are the jobs' own.

use edgewright_api::documents::{DoctorCheck, DoctorReport, DoctorState};
use edgewright_cluster::Builder;
use edgewright_cluster::rights::{self, Offer};
use edgewright_model::error::Chain;
use edgewright_server::Settings;
use edgewright_server::settings::cluster::{ClusterBuilder, ClusterTable, ClusterWork};

use super::{disk, gap, good, programs};
use crate::args::{Global, ServeArgs};
use crate::settings::Environment;

/// The cluster that runs all jobs of the server; none if this machine runs some, or if the server's settings
/// cannot be read: then this machine is looked at.
pub(super) fn of_jobs(environment: &Environment, args: &ServeArgs, global: &Global) -> Option<ClusterTable> {
    let settings = environment.serve(args, global.data.clone()).ok()?;
    settings.cluster.filter(|table| table.runs.contains(&ClusterWork::Jobs))
}

pub(super) async fn examine(table: &ClusterTable, settings: &Settings) -> DoctorReport {
    let mut checks = cluster(table).await;
    checks.extend([programs::git().await, disk(&settings.data)]);
    let ready = checks.iter().all(|check| check.state != DoctorState::Missing);
    DoctorReport { ready, sandbox_ms: None, checks }
}

async fn cluster(table: &ClusterTable) -> Vec<DoctorCheck> {
    let client = match edgewright_cluster::connect(table.kubeconfig.as_deref()).await {
        Ok(client) => client,
        Err(error) => {
            return vec![gap("cluster", DoctorState::Missing, Chain(&error).to_string(), error.hint())];
        }
    };
    let jobs = rights::examine(&client, &table.namespace).await;
    let mut checks = vec![check("cluster", &jobs, ("Tekton", &table.namespace))];
    if let Some((builder, ..)) = &table.build {
        let (by, service) = match builder {
            ClusterBuilder::Pipeline(_) => (Builder::Pipeline, "Pipelines"),
            ClusterBuilder::Strategy(_) => (Builder::Strategy, "Shipwright"),
        };
        let builds = rights::examine_builder(&client, &table.namespace, by).await;
        checks.push(check("builds", &builds, (service, &table.namespace)));
    }
    if table.runs.iter().any(|work| work.needs_machines()) {
        let machines = rights::examine_machines(&client, &table.machine_namespace).await;
        checks.push(check("machines", &machines, ("KubeVirt", &table.machine_namespace)));
    }
    checks
}

fn check(id: &str, offer: &Offer, (service, namespace): (&str, &str)) -> DoctorCheck {
    let missing = |found: String, hint: &str| gap(id, DoctorState::Missing, found, hint);
    match offer {
        Offer::Ready => good(id, format!("{service}, and all rights in the namespace {namespace}")),
        Offer::NoApi(api) => missing(format!("no {service} ({api})"), "install it in the cluster"),
        Offer::Missing(rights) => missing(
            format!("the account may not {} in the namespace {namespace}", rights.join(", ")),
            "grant the Role of docs/how-to/run-jobs-on-kubernetes.md",
        ),
        Offer::Away(why) => missing(
            format!("the API server is not usable: {why}"),
            "check address, credentials and network policies",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cluster_with_all_that_jobs_need_is_good() {
        let offers = [
            (Offer::Ready, DoctorState::Ok, "all rights in the namespace jobs"),
            (Offer::NoApi("tekton.dev/v1"), DoctorState::Missing, "no Tekton (tekton.dev/v1)"),
            (
                Offer::Missing(vec!["create pods".into(), "get pods/log".into()]),
                DoctorState::Missing,
                "may not create pods, get pods/log in",
            ),
            (Offer::Away("refused".into()), DoctorState::Missing, "not usable: refused"),
        ];
        for (offer, state, found) in offers {
            let check = check("cluster", &offer, ("Tekton", "jobs"));
            assert_eq!((check.state, check.hint.is_some()), (state, state != DoctorState::Ok));
            assert!(check.found.contains(found), "{}", check.found);
        }
    }
}
