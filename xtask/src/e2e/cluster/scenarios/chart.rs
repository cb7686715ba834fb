//! The chart of `deploy/helm` has the objects of `deploy/kustomize`, as Helm and kustomize make them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::cluster;
use crate::command::Run;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;

/// Overlays, and the values with which the chart has the same.
const OVERLAYS: [(&str, &str); 3] = [
    ("base", ""),
    ("overlays/kubernetes", "ingress.enabled=true"),
    ("overlays/openshift", "openshift=true,route.enabled=true"),
];
/// The release's own namespace is made before the release.
const ONLY_KUSTOMIZE: &str = "Namespace//edgewright";
/// How long kinds may take until they can be used.
const READY: Duration = Duration::from_mins(1);

type Objects = BTreeMap<String, Value>;

/// Compares all overlays.
pub(super) fn chart(stage: &Stage<'_>) -> anyhow::Result<()> {
    let helm = cluster::helm()?;
    let definitions = cluster::crds()?;
    let definitions = definitions.to_str().context("paths of tests are text")?;
    let cluster = &stage.world.cluster;
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", definitions])?;
    until("the kinds are known", READY, || {
        let known = cluster.kubectl(&["api-resources", "--cached=false", "--output", "name"])?;
        Ok(["routes.route", "securitycontextconstraints."].iter().all(|kind| known.contains(kind)))
    })?;
    let compared = compare(stage, &helm);
    cluster.kubectl(&["delete", "--ignore-not-found", "--filename", definitions])?;
    compared
}

fn compare(stage: &Stage<'_>, helm: &Path) -> anyhow::Result<()> {
    let deploy = workspace::root().join("deploy");
    let chart = deploy.join("helm/edgewright");
    Run::new(helm).args(["lint", "--strict"]).arg(&chart).output()?;
    for (overlay, values) in OVERLAYS {
        let folder = deploy.join("kustomize").join(overlay);
        let wanted = stage.world.cluster.command().arg("kustomize").arg(&folder).output()?;
        let mut wanted = objects(stage, "kustomize.yaml", &wanted)?;
        ensure!(wanted.remove(ONLY_KUSTOMIZE).is_some(), "{overlay} has {ONLY_KUSTOMIZE}");
        let template = Run::new(helm).args(["template", "edgewright"]).arg(&chart);
        let found = template.args(["--namespace", "edgewright", "--set", values]).output()?;
        let found = objects(stage, "helm.yaml", &found)?;
        ensure!(wanted.len() > 10, "{overlay} has objects: {:?}", wanted.keys());
        for name in wanted.keys().chain(found.keys()) {
            let (one, other) = (wanted.get(name), found.get(name));
            ensure!(one == other, "{name} of {overlay}: kustomize has {one:?}, and the chart {other:?}");
        }
        stage.progress(&format!("{overlay}: {} objects are the same", wanted.len()));
    }
    Ok(())
}

/// Objects by kind, namespace and name.
fn objects(stage: &Stage<'_>, file: &str, yaml: &str) -> anyhow::Result<Objects> {
    let folder = stage.world.place.root.join(stage.name);
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(file);
    std::fs::write(&file, yaml)?;
    let convert = ["create", "--dry-run=client", "--validate=false", "--output", "json", "--filename"];
    let json = stage.world.cluster.command().args(convert).arg(&file).output()?;
    let mut all = Objects::new();
    for document in serde_json::Deserializer::from_str(&json).into_iter::<Value>() {
        let document = document.context("kubectl printed no JSON")?;
        let items = document["items"].as_array().cloned().unwrap_or_else(|| vec![document.clone()]);
        for item in items {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let meta = &item["metadata"];
            let name =
                format!("{}/{}/{}", text(&item["kind"]), text(&meta["namespace"]), text(&meta["name"]));
            all.insert(name, item);
        }
    }
    Ok(all)
}
