//! What the server's account may do, and what namespaces admit.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::release::RUN_LIMIT;
use super::view::ensure_contains;
use crate::demo::server::text;
use crate::e2e::cluster::site::{ACCOUNT, Site};
use crate::e2e::cluster::stage::Stage;

/// What the account of the how-to may do in its namespace.
const ALLOWED: [(&str, &str); 5] = [
    ("create", "taskruns.tekton.dev"),
    ("delete", "taskruns.tekton.dev"),
    ("watch", "pods"),
    ("get", "pods/log"),
    ("create", "secrets"),
];
/// What it may not do there.
const DENIED: [(&str, &str); 8] = [
    ("create", "pods/exec"),
    ("create", "pods/attach"),
    ("create", "pods/portforward"),
    ("list", "secrets"),
    ("delete", "secrets"),
    ("get", "configmaps"),
    ("create", "serviceaccounts/token"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
];
/// Levels of Pod Security, the strictest last.
const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// The server works with the rights of the how-to, and has no others; its Pods need the level of theirs.
pub(super) fn rights(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    for (verb, resource) in ALLOWED {
        ensure!(may(&site, (verb, resource), &site.namespace)?, "the account may not {verb} {resource}");
    }
    for (verb, resource) in DENIED {
        ensure!(!may(&site, (verb, resource), &site.namespace)?, "the account may {verb} {resource}");
    }
    for namespace in ["default", "kube-system", "tekton-pipelines"] {
        for right in [("get", "secrets"), ("create", "pods"), ("create", "taskruns.tekton.dev")] {
            ensure!(!may(&site, right, namespace)?, "the account may {right:?} in {namespace}");
        }
    }
    let commit = site.commit("a run with these rights")?;
    site.passed(&commit, RUN_LIMIT)?;
    let pods = site.names(["pods"])?;
    let pod = pods.first().context("the run left no Pod")?;
    let exec = format!("/api/v1/namespaces/{}/pods/{pod}/exec?command=true", site.namespace);
    let error = site.as_server(&["create", "--raw", &exec, "--filename", "/dev/null"]);
    let error = error.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure_contains("the response to exec", &error, "(Forbidden)")?;
    admission(&site)?;
    site.end()
}

fn may(site: &Site<'_>, right: (&str, &str), namespace: &str) -> anyhow::Result<bool> {
    site.world().api.may(&format!("{}:{ACCOUNT}", site.namespace), right, namespace)
}

/// The Pods of the run are created again, without being kept: which levels admit them?
fn admission(site: &Site<'_>) -> anyhow::Result<()> {
    let level = site.kubectl(&["get", "namespace", &site.namespace, "--output", "json"])?;
    let level: Value = serde_json::from_str(&level).context("kubectl printed no JSON")?;
    let level = &level["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    ensure!(level == "privileged", "the namespace of jobs is privileged: {level}");
    let pods = site.objects("pods")?;
    for ending in ["-job-1-pod", "-container-1"] {
        let pod = pods.iter().find(|pod| text(&pod["metadata"]["name"]).ends_with(ending));
        let pod = pod.with_context(|| format!("the run left no Pod {ending}"))?;
        ensure!(pod["spec"]["automountServiceAccountToken"] == false, "{ending} has a token of its account");
        for (level, is_admitted) in LEVELS.into_iter().zip([true, false, false]) {
            let answer = admitted(site, pod, level)?;
            ensure!(answer.is_ok() == is_admitted, "{ending} at the level {level}: {answer:?}");
            if let Err(why) = answer {
                ensure_contains("the reason", &why, "SYS_ADMIN")?;
            }
        }
    }
    Ok(())
}

/// Whether a namespace of this level admits a Pod.
fn admitted(site: &Site<'_>, pod: &Value, level: &str) -> anyhow::Result<Result<(), String>> {
    let namespace = format!("{}-{level}", site.namespace);
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": level } },
    });
    site.apply("level.json", &object.to_string())?;
    let mut spec = pod["spec"].clone();
    for field in ["nodeName", "serviceAccount", "serviceAccountName"] {
        spec.as_object_mut().context("a Pod has a specification")?.remove(field);
    }
    let copy = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "trial", "namespace": namespace },
        "spec": spec,
    });
    let file = site.folder.join(format!("trial-{level}.json"));
    std::fs::write(&file, copy.to_string())?;
    let create = site.cluster_command().args(["create", "--dry-run=server", "--filename"]).arg(&file);
    Ok(create.output().map(drop).map_err(|error| format!("{error:#}")))
}
