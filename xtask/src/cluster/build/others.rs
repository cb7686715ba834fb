//! What scenarios need besides a cluster: kinds of objects that it has not, Helm, Argo CD, and Shipwright.

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
/// The module of Shipwright, its controller, and the folder with definitions of its objects.
const SHIPWRIGHT: [&str; 3] =
    ["github.com/shipwright-io/build", "cmd/shipwright-build-controller", "deploy/crds"];
/// The packages of Argo CD and of the program by which it renders, and how the programs are called.
const ARGO_CD: [(&str, &str); 2] =
    [("github.com/argoproj/argo-cd/v3/cmd", "argocd"), ("sigs.k8s.io/kustomize/kustomize/v5", "kustomize")];

/// What becomes of Go's caches after a build.
#[derive(Debug, Clone, Copy)]
pub(in crate::cluster) enum Caches {
    Kept,
    Removed,
}

/// Makes all that are missing, with the same caches of Go: they have most modules in common.
pub(super) fn ensure() -> anyhow::Result<()> {
    for make in [crds, helm, argo_cd, shipwright] {
        make(Caches::Kept)?;
    }
    Ok(())
}

/// The folder with definitions of OpenShift, of volume snapshots, of the Prometheus operator, and of Argo CD.
pub(in crate::cluster) fn crds(caches: Caches) -> anyhow::Result<PathBuf> {
    let words: Vec<&str> = CRDS.iter().map(|(_, file)| *file).collect();
    let hash = version::hash(&words, &[&programs("crds")])?;
    let title = "definitions of other products' objects".to_owned();
    let part = Part::new("crds", title, hash, Duration::from_mins(2))?;
    make(&part, caches, |go, folder| {
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
pub(in crate::cluster) fn helm(caches: Caches) -> anyhow::Result<PathBuf> {
    let module = programs("helm");
    let hash = version::hash(&[GO, HELM], &[&module])?;
    let part = Part::new("helm", "Helm".to_owned(), hash, Duration::from_mins(6))?;
    make(&part, caches, |go, folder| {
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

/// The folder with the programs `argocd` and `kustomize`.
pub(in crate::cluster) fn argo_cd(caches: Caches) -> anyhow::Result<PathBuf> {
    let module = programs("argo-cd");
    let words: Vec<&str> = ARGO_CD.iter().flat_map(|(package, name)| [*package, *name]).collect();
    let hash = version::hash(&[&[GO], words.as_slice()].concat(), &[&module])?;
    let part = Part::new("argo-cd", "Argo CD".to_owned(), hash, Duration::from_mins(9))?;
    make(&part, caches, |go, folder| {
        for (package, name) in ARGO_CD {
            go.build(&Build {
                what: name,
                module: &module,
                packages: &[package],
                output: folder.join(name).display().to_string(),
                flags: &[],
                link: String::new(),
                has_c: false,
            })?;
        }
        Ok(())
    })?;
    Ok(part.file(""))
}

/// The folder with the program `shipwright-build-controller`, and the definitions of its objects.
pub(in crate::cluster) fn shipwright(caches: Caches) -> anyhow::Result<PathBuf> {
    let module = programs("shipwright");
    let hash = version::hash(&[&[GO], &SHIPWRIGHT[..]].concat(), &[&module])?;
    let part = Part::new("shipwright", "Shipwright".to_owned(), hash, Duration::from_mins(5))?;
    let [name, program, definitions] = SHIPWRIGHT;
    make(&part, caches, |go, folder| {
        go.build(&Build {
            what: "Shipwright",
            module: &module,
            packages: &[&format!("{name}/{program}")],
            output: folder.join("shipwright-build-controller").display().to_string(),
            flags: &[],
            link: String::new(),
            has_c: false,
        })?;
        for entry in std::fs::read_dir(go.download(&module, name)?.join(definitions))? {
            let entry = entry?;
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        Ok(())
    })?;
    Ok(part.file(""))
}

fn make(
    part: &Part,
    caches: Caches,
    fill: impl FnOnce(&Go, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if part.is_made() {
        return Ok(());
    }
    let go = Go::prepare()?;
    part.ensure(|folder| fill(&go, folder))?;
    match caches {
        Caches::Kept => Ok(()),
        Caches::Removed => go::remove_caches(),
    }
}
