//! What tests of an installation need besides a cluster: kinds of objects that it has not, and Helm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::go::{self, Build, GO, Go};
use crate::cluster::part::Part;
use crate::cluster::version::{self, programs};

/// Modules with kinds of objects, and the files with them.
const CRDS: [(&str, &str); 6] = [
    ("github.com/openshift/api", "route/v1/zz_generated.crd-manifests/routes.crd.yaml"),
    (
        "github.com/openshift/api",
        "security/v1/zz_generated.crd-manifests/0000_03_config-operator_01_securitycontextconstraints.crd.yaml",
    ),
    (
        "github.com/kubernetes-csi/external-snapshotter/client/v8",
        "config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    ("github.com/argoproj/argo-cd/v3", "manifests/crds/application-crd.yaml"),
    ("github.com/argoproj/argo-cd/v3", "manifests/crds/appproject-crd.yaml"),
];
/// The package of Helm.
const HELM: &str = "helm.sh/helm/v3/cmd/helm";

/// The folder with definitions of OpenShift, of volume snapshots, of the Prometheus operator, and of Argo CD.
pub(in crate::cluster) fn crds() -> anyhow::Result<PathBuf> {
    let words: Vec<&str> = CRDS.iter().map(|(_, file)| *file).collect();
    let hash = version::hash(&words, &[&programs("crds")])?;
    let title = "definitions of other products' objects".to_owned();
    let part = Part::new("crds", title, hash, Duration::from_mins(2))?;
    make(&part, |go, folder| {
        for (module, file) in CRDS {
            let from = go.download(&programs("crds"), module)?.join(file);
            let name = file.rsplit('/').next().unwrap_or(file);
            std::fs::copy(from, folder.join(name))?;
        }
        Ok(())
    })?;
    Ok(part.file(""))
}

/// The program `helm`.
pub(in crate::cluster) fn helm() -> anyhow::Result<PathBuf> {
    let module = programs("helm");
    let hash = version::hash(&[GO, HELM], &[&module])?;
    let part = Part::new("helm", "Helm".to_owned(), hash, Duration::from_mins(6))?;
    make(&part, |go, folder| {
        go.build(&Build {
            what: "Helm",
            module: &module,
            packages: &[HELM],
            output: folder.join("helm").display().to_string(),
            flags: &[],
            link: String::new(),
            has_c: false,
        })
    })?;
    Ok(part.file("helm"))
}

fn make(part: &Part, fill: impl FnOnce(&Go, &Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if part.is_made() {
        return Ok(());
    }
    let go = Go::prepare()?;
    part.ensure(|folder| fill(&go, folder))?;
    go::remove_caches()
}
