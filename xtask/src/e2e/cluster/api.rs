//! The API server by plain HTTP, through one `kubectl proxy`, as administrator: a `kubectl` for each question
//! takes a tenth of a second of a processor, and scenarios ask some thousand times.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::world::until;
use crate::cluster::Cluster;
use crate::demo::server::text;
use crate::http::Peer;

/// How long the proxy may take to listen, and a response to come.
const LIMIT: Duration = Duration::from_mins(1);
/// What the proxy prints before its address.
const LISTENS: &str = "Starting to serve on ";

/// A running proxy; it ends with this value.
#[derive(Debug)]
pub(crate) struct Api {
    child: Child,
    address: String,
}

impl Api {
    /// Starts it; its output is in a file.
    pub(super) fn start(cluster: &Cluster, log: &Path) -> anyhow::Result<Self> {
        let run = cluster.command().args(["proxy", "--port=0"]);
        let mut api = Self { child: run.start_logged(log)?, address: String::new() };
        until("the proxy of the API server listens", LIMIT, || {
            let output = std::fs::read_to_string(log)?;
            if let Some(status) = api.child.try_wait()? {
                bail!("the proxy ended with {status}: {output}");
            }
            let line = output.lines().find_map(|line| line.strip_prefix(LISTENS));
            line.unwrap_or_default().trim().clone_into(&mut api.address);
            Ok(!api.address.is_empty())
        })?;
        Ok(api)
    }

    /// What the API server has at a path.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        // The proxy adds the administrator's certificate.
        Peer { address: &self.address, token: Path::new("") }.ask("GET", path, LIMIT)
    }

    /// An object of a namespace, such as `("pods", "trial")`.
    pub(crate) fn object(&self, namespace: &str, (kind, name): (&str, &str)) -> anyhow::Result<Value> {
        let document = self.get(&format!("{}/{name}", path_of(namespace, kind)))?;
        serde_json::from_str(&document).with_context(|| format!("{kind}/{name} is no JSON"))
    }

    /// The objects of a kind that have a label, or all of them.
    pub(crate) fn list(&self, namespace: &str, kind: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.get(&format!("{}?labelSelector={selector}", path_of(namespace, kind)))?;
        let list: Value = serde_json::from_str(&list).with_context(|| format!("{kind} are no JSON"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The names of these objects.
    pub(crate) fn names(&self, namespace: &str, kind: &str, selector: &str) -> anyhow::Result<Vec<String>> {
        let objects = self.list(namespace, kind, selector)?;
        Ok(objects.iter().map(|object| text(&object["metadata"]["name"]).to_owned()).collect())
    }

    /// Whether a service account, such as `edgewright-jobs:edgewright`, may do this: it is impersonated, and
    /// asks for itself.
    pub(crate) fn may(
        &self,
        account: &str,
        (verb, resource): (&str, &str),
        namespace: &str,
    ) -> anyhow::Result<bool> {
        let review = review(verb, resource, namespace).to_string();
        let user = format!("Impersonate-User: system:serviceaccount:{account}\r\n");
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let peer = Peer { address: &self.address, token: Path::new("") };
        let response = peer.post_json(path, (&user, &review), LIMIT)?;
        let response: Value = serde_json::from_str(&response).context("a review is JSON")?;
        response["status"]["allowed"].as_bool().with_context(|| format!("no answer: {response}"))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A question of an account for itself. A resource is `pods`, `pods/log` or `taskruns.tekton.dev`.
fn review(verb: &str, resource: &str, namespace: &str) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
        } },
    })
}

/// Where the objects of a kind are.
fn path_of(namespace: &str, kind: &str) -> String {
    let group = match kind {
        "taskruns" | "pipelineruns" => "apis/tekton.dev/v1",
        "virtualmachineinstances" => "apis/kubevirt.io/v1",
        _ => "api/v1",
    };
    format!("/{group}/namespaces/{namespace}/{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_groups_and_resources_have_parts() {
        assert_eq!(path_of("ew-a", "pods"), "/api/v1/namespaces/ew-a/pods");
        assert_eq!(path_of("ew-a", "taskruns"), "/apis/tekton.dev/v1/namespaces/ew-a/taskruns");
        let parts = |resource| {
            let asked = review("get", resource, "ew-a")["spec"]["resourceAttributes"].clone();
            ["group", "resource", "subresource"].map(|key| text(&asked[key]).to_owned())
        };
        assert_eq!(parts("pods"), ["", "pods", ""]);
        assert_eq!(parts("pods/log"), ["", "pods", "log"]);
        assert_eq!(parts("taskruns.tekton.dev"), ["tekton.dev", "taskruns", ""]);
        assert_eq!(parts("roles.rbac.authorization.k8s.io"), ["rbac.authorization.k8s.io", "roles", ""]);
    }
}
