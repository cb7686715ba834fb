//! Certificates and access files of a cluster. They end with it, and are valid for a month.

use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::Addresses;
use crate::cluster::place::Place;
use crate::command::Run;

const DAYS: &str = "31";
/// The address of the API server for pods: the first one of its range of services.
const SERVICE: &str = "10.96.0.1";
/// Who has a certificate: its file, its subject.
const IDENTITIES: [(&str, &str); 8] = [
    ("apiserver", "/CN=kube-apiserver"),
    ("kubelet-server", "/O=system:nodes/CN=system:node:node"),
    ("kubelet", "/O=system:nodes/CN=system:node:node"),
    ("admin", "/O=system:masters/CN=admin"),
    ("controller-manager", "/CN=system:kube-controller-manager"),
    ("scheduler", "/CN=system:kube-scheduler"),
    ("proxy", "/CN=system:kube-proxy"),
    ("front-proxy", "/CN=front-proxy"),
];
/// Those that are clients of the API server.
const CLIENTS: [&str; 5] = ["kubelet", "admin", "controller-manager", "scheduler", "proxy"];
/// OpenSSL's own settings would add what these certificates must not have.
const SETTINGS: &str = "[req]\ndistinguished_name = name\n[name]\n";

/// Makes all of them in `/node/pki`, and the administrator's access for the host.
pub(super) fn make(place: &Place, addresses: &Addresses) -> anyhow::Result<()> {
    let folder = place.exchange("pki");
    std::fs::write(folder.join("openssl.cnf"), SETTINGS)?;
    request(&folder, "ca", "/CN=edgewright-cluster", &["basicConstraints=critical,CA:TRUE"], false)?;
    Run::new("openssl")
        .args(["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out"])
        .arg(folder.join("service-accounts.key"))
        .run()
        .context("cannot make a key")?;
    Run::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(folder.join("service-accounts.key"))
        .arg("-out")
        .arg(folder.join("service-accounts.pub"))
        .run()?;
    let names = format!(
        "subjectAltName=IP:{},IP:{SERVICE},IP:127.0.0.1,DNS:kubernetes,DNS:kubernetes.default,\
         DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:node",
        addresses.node
    );
    for (name, subject) in IDENTITIES {
        let mut extensions =
            vec!["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"];
        if matches!(name, "apiserver" | "kubelet-server") {
            extensions.push(&names);
        }
        request(&folder, name, subject, &extensions, true)?;
    }
    let server = format!("https://{}:6443", addresses.node);
    for client in CLIENTS {
        let access = access(&folder, &server, client)?;
        std::fs::write(folder.join(format!("{client}.conf")), access.to_string())?;
    }
    std::fs::copy(folder.join("admin.conf"), place.kubeconfig())?;
    Ok(())
}

/// A key, and a certificate signed by the authority, or by itself.
fn request(
    folder: &Path,
    name: &str,
    subject: &str,
    extensions: &[&str],
    by_authority: bool,
) -> anyhow::Result<()> {
    let file = |name: String| folder.join(name);
    let mut run = Run::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"])
        .args(["-days", DAYS, "-subj", subject, "-config"])
        .arg(file("openssl.cnf".to_owned()))
        .arg("-keyout")
        .arg(file(format!("{name}.key")))
        .arg("-out")
        .arg(file(format!("{name}.crt")));
    for extension in extensions {
        run = run.args(["-addext", extension]);
    }
    if by_authority {
        run = run.arg("-CA").arg(file("ca.crt".to_owned())).arg("-CAkey").arg(file("ca.key".to_owned()));
    }
    // It reports dots while it computes.
    run.output().with_context(|| format!("cannot make the certificate of {name}"))?;
    Ok(())
}

/// A kubeconfig, in JSON, which is YAML.
fn access(folder: &Path, server: &str, client: &str) -> anyhow::Result<serde_json::Value> {
    let data = |name: &str| Run::new("base64").arg("--wrap=0").arg(folder.join(name)).output();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "edgewright",
            "cluster": { "server": server, "certificate-authority-data": data("ca.crt")? },
        }],
        "users": [{
            "name": client,
            "user": {
                "client-certificate-data": data(&format!("{client}.crt"))?,
                "client-key-data": data(&format!("{client}.key"))?,
            },
        }],
        "contexts": [{ "name": "edgewright", "context": { "cluster": "edgewright", "user": client } }],
        "current-context": "edgewright",
    }))
}
