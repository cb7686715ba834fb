//! Objects of products that the cluster has not: their definitions are there, and nothing that acts on them.
//! So names, types and required fields are checked, and no more.

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::place::Place;
use crate::cluster;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// Kinds whose definitions must be in use before their objects are sent.
const KINDS: [&str; 5] =
    ["routes", "securitycontextconstraints", "volumesnapshots", "servicemonitors", "applications"];
/// How long that may take.
const READY: std::time::Duration = std::time::Duration::from_mins(1);

/// The overlay for OpenShift with metrics, the snapshot, and the Application.
pub(super) fn check(place: &Place<'_>, stage: &Stage<'_>) -> anyhow::Result<()> {
    let definitions = cluster::crds()?;
    // Too long for the annotation of a client's `apply`.
    place.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", path(&definitions)?])?;
    let checked = until("the kinds are known", READY, || {
        let known = place.kubectl(&["api-resources", "--cached=false", "--output", "name"])?;
        Ok(KINDS.iter().all(|kind| known.lines().any(|line| line.starts_with(&format!("{kind}.")))))
    })
    .and_then(|()| objects(place, stage));
    let removed = place.kubectl(&["delete", "--ignore-not-found", "--filename", path(&definitions)?]);
    checked.and(removed.map(drop))
}

fn objects(place: &Place<'_>, stage: &Stage<'_>) -> anyhow::Result<()> {
    let deploy = place.folder.join("deploy");
    let folder = deploy.join("with-metrics");
    std::fs::create_dir_all(&folder)?;
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
                resources: [../kustomize/overlays/openshift]\ncomponents: [../kustomize/components/monitor]\n";
    std::fs::write(folder.join("kustomization.yaml"), text)?;
    // Another manager of fields: what the test added to the objects stays.
    let trial = [
        "apply",
        "--server-side",
        "--field-manager=trial",
        "--force-conflicts",
        "--dry-run=server",
        "--output",
        "name",
    ];
    let kustomize = [&trial[..], &["--kustomize", path(&folder)?]].concat();
    let sent = place.kubectl(&kustomize)?;
    for object in [
        "route.route.openshift.io/edgewright",
        "securitycontextconstraints.security.openshift.io/edgewright-jobs",
        "servicemonitor.monitoring.coreos.com/edgewright",
    ] {
        ensure!(sent.lines().any(|line| line == object), "no {object} in\n{sent}");
    }
    place.kubectl(&["create", "namespace", "argocd"])?;
    let others = ["snapshot.yaml", "argo-cd.yaml"].map(|file| {
        let file = deploy.join("examples").join(file);
        place.kubectl(&[&trial[..], &["--filename", path(&file)?]].concat())
    });
    place.kubectl(&["delete", "namespace", "argocd"])?;
    for sent in others {
        stage.progress(&format!("accepted: {}", sent?.trim()));
    }
    // The definitions are strict: what is wrong is rejected.
    let route = deploy.join("kustomize/overlays/openshift/route.yaml");
    let wrong = std::fs::read_to_string(&route)?.replace("termination: passthrough", "termination: nonsense");
    let file = deploy.join("wrong.yaml");
    std::fs::write(&file, wrong)?;
    let rejected = place.kubectl(&[&trial[..], &["--filename", path(&file)?]].concat());
    ensure!(rejected.is_err(), "a Route with a termination that does not exist is accepted");
    Ok(())
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("paths of tests are text")
}
