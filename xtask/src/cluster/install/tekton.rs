//! Tekton: its manifests, and its two servers on the node.

use crate::cluster::api::{Cluster, READY_LIMIT};
use crate::cluster::build::Parts;
use crate::cluster::node::components::TEKTON;
use crate::demo::story::Story;

/// The webhook is on the node, so its service has no pods.
const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: tekton-pipelines-webhook, namespace: tekton-pipelines}
spec: {ports: [{name: https-webhook, port: 443, targetPort: 8443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: tekton-pipelines-webhook
  namespace: tekton-pipelines
  labels: {kubernetes.io/service-name: tekton-pipelines-webhook}
addressType: IPv4
ports: [{name: https-webhook, port: 8443, protocol: TCP}]
endpoints: [{addresses: ["NODE"], conditions: {ready: true}}]
"#;

/// What the webhook completes once it serves: before that, no object of Tekton can be created.
const COMPLETED: [(&str, &str); 2] = [
    ("validatingwebhookconfiguration", "validation.webhook.pipeline.tekton.dev"),
    ("mutatingwebhookconfiguration", "webhook.pipeline.tekton.dev"),
];

/// Installs it, and waits until it takes objects.
pub(in crate::cluster) fn install(cluster: &Cluster, parts: &Parts, story: &Story) -> anyhow::Result<()> {
    cluster.apply_file(&parts.kubernetes.file("tekton-namespace.yaml"))?;
    cluster.apply_file(&parts.kubernetes.file("tekton.yaml"))?;
    cluster.apply(&SERVICE.replace("NODE", cluster.node_address()))?;
    story.progress("its objects are applied");
    for component in TEKTON {
        cluster.node().start_component(component)?;
    }
    let [_, webhook] = TEKTON;
    for (kind, name) in COMPLETED {
        cluster.node().wait_for(webhook, READY_LIMIT, || {
            Ok(!cluster.value(&[kind, name], "{.webhooks[0].clientConfig.caBundle}")?.is_empty())
        })?;
    }
    story.progress("its webhook serves");
    Ok(())
}
