//! What the server's account may do in the namespace of jobs, and whether it may.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cluster::within;
use crate::fault::Fault;
use crate::settings::Builder;
use crate::task_run::API_VERSION;
use crate::{build_run, vmi};

/// A kind of objects, and what the server does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with a subresource after `/`.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Why, as a sentence.
    pub reason: &'static str,
}

/// All rights. The Role in `deploy/kustomize/base/rights.yaml` has these, as do the tables of the documents.
pub const RIGHTS: [Right; 4] = [
    Right {
        group: "tekton.dev",
        resource: "taskruns",
        verbs: &["create", "get", "list", "watch", "delete"],
        reason: "Builds and locks; deleted when done.",
    },
    Right {
        group: "",
        resource: "pods",
        verbs: &["create", "get", "list", "watch", "delete"],
        reason: "Images under test; Pods of TaskRuns.",
    },
    Right { group: "", resource: "pods/log", verbs: &["get"], reason: "The stream of a job's events." },
    Right { group: "", resource: "secrets", verbs: &["create", "get"], reason: "The order of each job." },
];

/// All rights in the namespace of virtual machines, if the lane `vm` runs there. The Role in
/// `deploy/kustomize/components/machines` has these.
pub const MACHINE_RIGHTS: [Right; 4] = [
    Right {
        group: "kubevirt.io",
        resource: "virtualmachineinstances",
        verbs: &["create", "get", "list", "watch", "delete"],
        reason: "Images under test.",
    },
    Right { group: "", resource: "pods", verbs: &["get", "list", "watch"], reason: "Launchers of machines." },
    Right {
        group: "",
        resource: "pods/log",
        verbs: &["get"],
        reason: "The serial console: results of checks, and what the machine prints.",
    },
    Right {
        group: "",
        resource: "secrets",
        verbs: &["create", "get"],
        reason: "The order of the checks, which the machine reads as a disk.",
    },
];

/// The right in the namespace of jobs, if a Pipeline of the platform builds. The Role in
/// `docs/how-to/use-in-tekton-pipelines.md` has it.
pub const PIPELINE_RIGHTS: [Right; 1] = [Right {
    group: "tekton.dev",
    resource: "pipelineruns",
    verbs: &["create", "get", "list", "watch", "delete"],
    reason: "One for each step that the Pipeline builds.",
}];

/// The rights in the namespace of jobs, if a strategy of Shipwright builds. The Role in
/// `docs/how-to/use-in-tekton-pipelines.md` has these.
pub const STRATEGY_RIGHTS: [Right; 2] = [
    Right {
        group: "shipwright.io",
        resource: "builds",
        verbs: &["create", "get", "list", "watch", "delete"],
        reason: "One for each step that the strategy builds; it owns the others.",
    },
    Right {
        group: "shipwright.io",
        resource: "buildruns",
        verbs: &["create", "get", "list", "watch"],
        reason: "The run of a Build.",
    },
];

/// What a cluster offers to this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// All that it needs.
    Ready,
    /// An API is missing, by its group and version.
    NoApi(&'static str),
    /// The account may not do this: verbs with resources.
    Missing(Vec<String>),
    /// The API server does not answer, or rejects the credentials.
    Away(String),
}

/// Asks the API server: is there Tekton, and may we do what jobs need? Nothing is changed.
pub async fn examine(client: &Client, namespace: &str) -> Offer {
    examine_rights(client, namespace, API_VERSION, &RIGHTS).await
}

/// Asks the API server: is there KubeVirt, and may we do what virtual machines need? Nothing is changed.
pub async fn examine_machines(client: &Client, namespace: &str) -> Offer {
    examine_rights(client, namespace, vmi::API_VERSION, &MACHINE_RIGHTS).await
}

/// Asks the API server: is there what the platform builds with, and may we do what that needs? Nothing is
/// changed.
pub async fn examine_builder(client: &Client, namespace: &str, by: Builder) -> Offer {
    match by {
        Builder::Pipeline => examine_rights(client, namespace, API_VERSION, &PIPELINE_RIGHTS).await,
        Builder::Strategy => {
            examine_rights(client, namespace, build_run::API_VERSION, &STRATEGY_RIGHTS).await
        }
    }
}

async fn examine_rights(client: &Client, namespace: &str, api: &'static str, rights: &[Right]) -> Offer {
    match offer(client, namespace, api, rights).await {
        Ok(offer) => offer,
        Err(Fault::Away(why) | Fault::Credentials(why) | Fault::Refused { message: why, .. }) => {
            Offer::Away(why)
        }
        Err(other) => Offer::Away(format!("unexpected response: {other:?}")),
    }
}

async fn offer(
    client: &Client,
    namespace: &str,
    api: &'static str,
    rights: &[Right],
) -> Result<Offer, Fault> {
    match within(client.list_api_group_resources(api), false).await {
        Err(Fault::Missing) => return Ok(Offer::NoApi(api)),
        found => drop(found?),
    }
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut missing = Vec::new();
    for right in rights {
        for verb in right.verbs {
            let review = review(right, verb, namespace);
            let answer = within(reviews.create(&PostParams::default(), &review), true).await?;
            if !answer.status.is_some_and(|status| status.allowed) {
                missing.push(format!("{verb} {}", right.resource));
            }
        }
    }
    Ok(if missing.is_empty() { Offer::Ready } else { Offer::Missing(missing) })
}

fn review(right: &Right, verb: &str, namespace: &str) -> SelfSubjectAccessReview {
    let (resource, subresource) =
        right.resource.split_once('/').map_or((right.resource, None), |(name, sub)| (name, Some(sub)));
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(verb.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn rule(right: &Right) -> String {
        let group = if right.group.is_empty() { "\"\"" } else { right.group };
        let verbs = right.verbs.join(", ");
        format!("- {{apiGroups: [{group}], resources: [{}], verbs: [{verbs}]}}", right.resource)
    }

    #[test]
    fn the_roles_that_we_ship_have_these_rights_and_no_others() {
        let role = read("deploy/kustomize/base/rights.yaml");
        let machines = read("deploy/kustomize/components/machines/machines.yaml");
        let page = read("docs/how-to/run-jobs-on-kubernetes.md");
        let (page, _) = page.split_once("\n## Virtual machines\n").unwrap();
        let texts = [(role.as_str(), RIGHTS, true), (&machines, MACHINE_RIGHTS, true), (page, RIGHTS, false)];
        for (text, rights, has_reasons) in texts {
            assert_eq!(text.matches("apiGroups: [").count(), rights.len());
            for right in rights {
                let reason = if has_reasons { format!("# {}\n  ", right.reason) } else { String::new() };
                let wanted = format!("{reason}{}\n", rule(&right));
                assert!(text.contains(&wanted), "no rule\n{wanted}in\n{text}");
            }
        }
    }

    #[test]
    fn the_roles_of_builders_have_these_rights_and_no_others() {
        let page = read("docs/how-to/use-in-tekton-pipelines.md");
        let titles = ["Build with a Pipeline of your own", "Build with a strategy of Shipwright"];
        for (title, rights) in titles.into_iter().zip([&PIPELINE_RIGHTS[..], &STRATEGY_RIGHTS]) {
            let (_, section) = page.split_once(&format!("\n## {title}\n")).unwrap();
            let section = section.split("\n## ").next().unwrap();
            assert_eq!(section.matches("apiGroups: [").count(), rights.len(), "{title}");
            for right in rights {
                assert!(section.contains(&rule(right)), "no rule {} in {title}", rule(right));
            }
        }
    }

    #[test]
    fn the_how_to_has_a_row_for_each_right() {
        let page = read("docs/how-to/install-on-kubernetes.md");
        for (title, rights) in [("Rights", RIGHTS), ("Virtual machines", MACHINE_RIGHTS)] {
            let (_, section) = page.split_once(&format!("\n## {title}\n")).unwrap();
            let section = section.split("\n## ").next().unwrap();
            let rows: Vec<&str> =
                section.lines().filter(|line| line.starts_with('|') && line.contains('`')).collect();
            let wanted = rights.map(|right| {
                let group = if right.group.is_empty() { "" } else { "." };
                let (verbs, reason) = (right.verbs.join(", "), right.reason);
                format!("| `{}{group}{}` | {verbs} | {reason} |", right.resource, right.group)
            });
            assert_eq!(rows, wanted);
        }
    }

    /// What our constraint allows beyond `restricted-v2`: every line that differs from a denial.
    #[test]
    fn the_how_to_for_openshift_has_a_row_for_each_right_of_pods() {
        let object = read("deploy/kustomize/overlays/openshift/security-context.yaml");
        let page = read("docs/how-to/install-on-openshift.md");
        let (constraint, _) = object.split_once("\n---\n").unwrap();
        let given = constraint.lines().filter(|line| !line.starts_with(['#', ' ']));
        let given = given.filter(|line| line.ends_with(": true") || line.contains("RunAsAny"));
        let capabilities = constraint.lines().find_map(|line| line.strip_prefix("allowedCapabilities: ["));
        let capabilities = capabilities.unwrap().trim_end_matches(']').split(", ");
        let mut wanted: Vec<&str> = given.map(|line| line.split(':').next().unwrap()).collect();
        wanted.extend(capabilities);
        assert!(wanted.len() > 8, "{wanted:?}");
        let (_, section) = page.split_once("\n## Rights of Pods\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let mut rows: Vec<&str> = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(", ")).collect();
        for name in &mut rows {
            *name = name.trim().trim_matches('`');
        }
        rows.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(rows, wanted);
    }
}
