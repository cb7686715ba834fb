//! KubeVirt by its own operator, with emulated processors.

use serde_json::json;

use crate::cluster::api::{Cluster, wait};
use crate::cluster::build::Parts;
use crate::cluster::version::KUBEVIRT;
use crate::demo::story::Story;

const NAMESPACE: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: kubevirt
  labels: {pod-security.kubernetes.io/enforce: privileged, kubevirt.io: ""}
"#;

const OPERATOR: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: virt-operator, namespace: kubevirt, labels: {kubevirt.io: virt-operator}}
spec:
  replicas: 1
  selector: {matchLabels: {kubevirt.io: virt-operator}}
  template:
    metadata:
      name: virt-operator
      labels:
        kubevirt.io: virt-operator
        name: virt-operator
        prometheus.kubevirt.io: "true"
        np.kubevirt.io/allow-access-cluster-services: "true"
    spec:
      priorityClassName: kubevirt-cluster-critical
      serviceAccountName: kubevirt-operator
      securityContext: {runAsNonRoot: true, runAsUser: 1001, seccompProfile: {type: RuntimeDefault}}
      volumes:
      - {name: kubevirt-operator-certs, secret: {secretName: kubevirt-operator-certs, optional: true}}
      - {name: profile-data, emptyDir: {}}
      containers:
      - name: virt-operator
        image: localhost/kubevirt/virt-operator:VERSION
        imagePullPolicy: IfNotPresent
        command: [virt-operator]
        args: [--port, "8443", -v, "2"]
        ports: [{containerPort: 8443, name: metrics}, {containerPort: 8444, name: webhooks}]
        readinessProbe:
          httpGet: {scheme: HTTPS, port: 8443, path: /metrics}
          initialDelaySeconds: 1
          periodSeconds: 2
          timeoutSeconds: 10
        env:
        - {name: VIRT_OPERATOR_IMAGE, value: "localhost/kubevirt/virt-operator:VERSION"}
        - {name: WATCH_NAMESPACE, value: ""}
        - {name: KUBEVIRT_VERSION, value: VERSION}
        - {name: VIRT_API_IMAGE, value: "localhost/kubevirt/virt-api:VERSION"}
        - {name: VIRT_CONTROLLER_IMAGE, value: "localhost/kubevirt/virt-controller:VERSION"}
        - {name: VIRT_HANDLER_IMAGE, value: "localhost/kubevirt/virt-handler:VERSION"}
        - {name: VIRT_LAUNCHER_IMAGE, value: "localhost/kubevirt/virt-launcher:VERSION"}
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {drop: [ALL]}
          seccompProfile: {type: RuntimeDefault}
        volumeMounts:
        - {name: kubevirt-operator-certs, mountPath: /etc/virt-operator/certificates, readOnly: true}
        - {name: profile-data, mountPath: /profile-data}
"#;

/// Workloads whose readiness is asked for early and often: it is half a minute of a start.
const IMPATIENT: [(&str, &str); 3] =
    [("Deployment", "virt-api"), ("Deployment", "virt-controller"), ("DaemonSet", "virt-handler")];

/// Installs it, and waits until it is deployed.
pub(in crate::cluster) fn install(cluster: &Cluster, parts: &Parts, story: &Story) -> anyhow::Result<()> {
    cluster.apply(NAMESPACE)?;
    // Its operator runs on nodes of the control plane.
    cluster.kubectl(&["label", "node", "node", "node-role.kubernetes.io/control-plane=", "--overwrite"])?;
    cluster.apply_file(&parts.kubevirt.file("kubevirt.yaml"))?;
    cluster.apply(&OPERATOR.replace("VERSION", &format!("v{KUBEVIRT}")))?;
    wait("KubeVirt's own kind of object", || {
        cluster.shows(
            &["crd", "kubevirts.kubevirt.io"],
            r#"{.status.conditions[?(@.type=="Established")].status}"#,
            "True",
        )
    })?;
    cluster.apply(&settings().to_string())?;
    story.progress("its operator is applied");
    let object = ["kubevirt", "kubevirt", "--namespace", "kubevirt"];
    wait("KubeVirt deployed", || cluster.shows(&object, "{.status.phase}", "Deployed"))?;
    story.progress("its operator has deployed it");
    Ok(())
}

fn settings() -> serde_json::Value {
    let probe = "/spec/template/spec/containers/0/readinessProbe";
    let patch = json!([
        { "op": "replace", "path": format!("{probe}/initialDelaySeconds"), "value": 1 },
        { "op": "replace", "path": format!("{probe}/periodSeconds"), "value": 2 },
    ]);
    let patches = IMPATIENT.map(|(kind, name)| {
        json!({ "resourceType": kind, "resourceName": name, "type": "json", "patch": patch.to_string() })
    });
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": { "name": "kubevirt", "namespace": "kubevirt" },
        "spec": {
            "imagePullPolicy": "IfNotPresent",
            "infra": { "replicas": 1 },
            "customizeComponents": { "patches": patches },
            "configuration": {
                "imagePullPolicy": "IfNotPresent",
                "developerConfiguration": { "useEmulation": true },
                // Hundreds of objects that no test uses.
                "commonInstancetypesDeployment": { "enabled": false },
            },
        },
    })
}
