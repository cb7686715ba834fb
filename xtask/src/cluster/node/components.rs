//! The programs of the node with their settings, as files in `/node/components` that process 1 starts.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::Addresses;
use super::network::NAME_SERVER;
use crate::cluster::place::Place;

/// All of a control plane and of a machine, in the order of their start.
pub(in crate::cluster) const ETCD: &str = "etcd";
pub(in crate::cluster) const API_SERVER: &str = "kube-apiserver";
pub(in crate::cluster) const CONTAINERD: &str = "containerd";
/// What starts once the API server answers.
pub(in crate::cluster) const OTHERS: [&str; 5] =
    ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"];
pub(in crate::cluster) const TEKTON: [&str; 2] = ["tekton-controller", "tekton-webhook"];
/// The node's only containerd.
pub(in crate::cluster) const SOCKET: &str = "/run/containerd/containerd.sock";

const SERVICES: &str = "10.96.0.0/16";
const PODS: &str = "10.244.0.0/16";

const ETCD_FLAGS: &str = "
--unsafe-no-fsync
--data-dir=/var/lib/etcd
--listen-client-urls=http://127.0.0.1:2379
--advertise-client-urls=http://127.0.0.1:2379
--listen-peer-urls=http://127.0.0.1:2380
--log-level=warn";

/// `--enable-aggregator-routing`: webhooks on the node are reached without a network of services.
const API_SERVER_FLAGS: &str = "
--etcd-servers=http://127.0.0.1:2379
--advertise-address=NODE
--bind-address=0.0.0.0
--secure-port=6443
--tls-cert-file=/node/pki/apiserver.crt
--tls-private-key-file=/node/pki/apiserver.key
--client-ca-file=/node/pki/ca.crt
--kubelet-client-certificate=/node/pki/admin.crt
--kubelet-client-key=/node/pki/admin.key
--kubelet-preferred-address-types=InternalIP
--service-account-issuer=https://kubernetes.default.svc
--service-account-signing-key-file=/node/pki/service-accounts.key
--service-account-key-file=/node/pki/service-accounts.pub
--service-cluster-ip-range=SERVICES
--authorization-mode=Node,RBAC
--allow-privileged=true
--enable-aggregator-routing=true
--audit-policy-file=/node/audit.json
--audit-log-path=/node/log/audit.log
--profiling=false
--requestheader-client-ca-file=/node/pki/ca.crt
--requestheader-allowed-names=front-proxy
--requestheader-extra-headers-prefix=X-Remote-Extra-
--requestheader-group-headers=X-Remote-Group
--requestheader-username-headers=X-Remote-User
--proxy-client-cert-file=/node/pki/front-proxy.crt
--proxy-client-key-file=/node/pki/front-proxy.key";

const CONTROLLER_MANAGER_FLAGS: &str = "
--kubeconfig=/node/pki/controller-manager.conf
--authentication-kubeconfig=/node/pki/controller-manager.conf
--authorization-kubeconfig=/node/pki/controller-manager.conf
--service-account-private-key-file=/node/pki/service-accounts.key
--root-ca-file=/node/pki/ca.crt
--cluster-signing-cert-file=/node/pki/ca.crt
--cluster-signing-key-file=/node/pki/ca.key
--use-service-account-credentials
--leader-elect=false";

const SCHEDULER_FLAGS: &str = "
--kubeconfig=/node/pki/scheduler.conf
--authentication-kubeconfig=/node/pki/scheduler.conf
--authorization-kubeconfig=/node/pki/scheduler.conf
--leader-elect=false";

const KUBELET_FLAGS: &str = "
--config=/node/kubelet.json
--kubeconfig=/node/pki/kubelet.conf
--hostname-override=node
--node-ip=NODE
--root-dir=/var/lib/kubelet
--cert-dir=/var/lib/kubelet-pki";

/// The settings of connection tracking are the whole machine's: none is changed.
const PROXY_FLAGS: &str = "
--kubeconfig=/node/pki/proxy.conf
--hostname-override=node
--proxy-mode=iptables
--cluster-cidr=PODS
--conntrack-max-per-core=0
--conntrack-tcp-timeout-established=0s
--conntrack-tcp-timeout-close-wait=0s";

const TEKTON_CONTROLLER_FLAGS: &str = "
-kubeconfig=/node/pki/admin.conf
-disable-ha
-entrypoint-image=localhost/tekton-entrypoint:1
-nop-image=localhost/tekton-nop:1
-sidecarlogresults-image=localhost/tekton-sidecarlogresults:1
-workingdirinit-image=localhost/tekton-workingdirinit:1
-shell-image=localhost/shell:1
-shell-image-win=localhost/none:1";

const TEKTON_VARIABLES: &str = "SYSTEM_NAMESPACE=tekton-pipelines KUBERNETES_MIN_VERSION=v1.28.0 \
    CONFIG_DEFAULTS_NAME=config-defaults CONFIG_LOGGING_NAME=config-logging \
    CONFIG_OBSERVABILITY_NAME=config-observability CONFIG_FEATURE_FLAGS_NAME=feature-flags \
    CONFIG_SPIRE=config-spire METRICS_DOMAIN=tekton.dev/pipeline";
const TEKTON_CONTROLLER_VARIABLES: &str = "POD_NAME=controller-0 \
    CONFIG_LEADERELECTION_NAME=config-leader-election-controller PROBES_PORT=18081 METRICS_PROMETHEUS_PORT=19091";
const TEKTON_WEBHOOK_VARIABLES: &str = "POD_NAME=webhook-0 \
    CONFIG_LEADERELECTION_NAME=config-leader-election-webhook PROBES_PORT=18080 METRICS_PROMETHEUS_PORT=19090 \
    WEBHOOK_PORT=8443 WEBHOOK_ADMISSION_CONTROLLER_NAME=webhook.pipeline.tekton.dev \
    WEBHOOK_SERVICE_NAME=tekton-pipelines-webhook WEBHOOK_SECRET_NAME=webhook-certs";

const COREDNS: &str = "\
cluster.local in-addr.arpa {
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {
        kubeconfig /node/pki/admin.conf edgewright
    }
    cache 5
}
edgewright.internal {
    errors
    hosts /node/hosts
}
. {
    errors
    forward . NAME_SERVER
    cache 30
}
";

/// A registry is looked up in `/node/registries` at each pull.
const CONTAINERD_SETTINGS: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/node/registries"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/node/cni"
"#;

/// Writes components and their settings.
pub(super) fn write(place: &Place, addresses: &Addresses) -> anyhow::Result<()> {
    let flags = |flags: &str| {
        flags.trim().replace("NODE", &addresses.node).replace("SERVICES", SERVICES).replace("PODS", PODS)
    };
    let component = |name: &str, variables: &str, arguments: &str| -> anyhow::Result<()> {
        let words = format!("{variables} {name} {}", flags(arguments));
        let words: Vec<&str> = words.split_whitespace().collect();
        let file = place.exchange("components").join(name);
        std::fs::write(&file, format!("#!/bin/sh\nexec env {}\n", words.join(" \\\n    ")))?;
        Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?)
    };
    component(ETCD, "", ETCD_FLAGS)?;
    component(API_SERVER, "", API_SERVER_FLAGS)?;
    component(CONTAINERD, "", "--config=/node/containerd.toml")?;
    let [controllers, scheduler, kubelet, proxy, coredns] = OTHERS;
    component(controllers, "", CONTROLLER_MANAGER_FLAGS)?;
    component(scheduler, "", SCHEDULER_FLAGS)?;
    component(kubelet, "", KUBELET_FLAGS)?;
    component(proxy, "", PROXY_FLAGS)?;
    component(coredns, "", "-conf=/node/Corefile")?;
    let [controller, webhook] = TEKTON;
    component(
        controller,
        &format!("{TEKTON_VARIABLES} {TEKTON_CONTROLLER_VARIABLES}"),
        TEKTON_CONTROLLER_FLAGS,
    )?;
    component(
        webhook,
        &format!("{TEKTON_VARIABLES} {TEKTON_WEBHOOK_VARIABLES}"),
        "-kubeconfig=/node/pki/admin.conf",
    )?;
    std::fs::write(place.exchange("Corefile"), COREDNS.replace("NAME_SERVER", NAME_SERVER))?;
    std::fs::write(place.exchange("containerd.toml"), CONTAINERD_SETTINGS)?;
    std::fs::write(place.exchange("audit.json"), audited().to_string())?;
    std::fs::create_dir_all(place.exchange("cni"))?;
    std::fs::write(place.exchange("cni/10-node.conflist"), pod_network().to_string())?;
    Ok(std::fs::write(place.exchange("kubelet.json"), kubelet_settings(addresses).to_string())?)
}

/// What resolves names on the node: the cluster's name server comes later than the first pull.
pub(super) fn resolv_conf() -> String {
    format!("nameserver {NAME_SERVER}\n")
}

/// Requests of service accounts, without their bodies, are logged: tests count them.
fn audited() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "Metadata", "userGroups": ["system:serviceaccounts"] },
            { "level": "None" },
        ],
    })
}

fn pod_network() -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "node",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.244.0.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// Nothing of the whole machine is changed or required; images that were loaded are never removed.
fn kubelet_settings(addresses: &Addresses) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": "/node/pki/ca.crt" },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [addresses.node],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "evictionHard": {
            "imagefs.available": "1%",
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "failCgroupV1": false,
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Any pod may use what the node has. Otherwise a loaded image is pulled, in vain, once a registry has had
        // the same one.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "makeIPTablesUtilChains": false,
        "maxOpenFiles": 20000,
        "oomScoreAdj": 0,
        "protectKernelDefaults": false,
        "tlsCertFile": "/node/pki/kubelet-server.crt",
        "tlsPrivateKeyFile": "/node/pki/kubelet-server.key",
    })
}
