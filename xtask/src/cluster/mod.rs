//! `cluster`: a real Kubernetes with Tekton, and KubeVirt if asked for, on this machine: one node in
//! namespaces and a cgroup of its own.
//!
//! No container image is pulled. Programs are built from the public Go module proxy, root file systems from
//! Debian packages, once for each version: they are kept in `~/.cache/edgewright/cluster`.
//!
//! ```text
//!  build:  cache/{node,kubernetes,kubevirt}-HASH
//!  up:     root file system ─▶ certificates ─▶ node ─▶ Kubernetes ─▶ Tekton ─▶ KubeVirt
//!  down:   the cgroup's processes are killed: the kernel removes mounts and interfaces with them
//! ```

mod api;
mod build;
mod cgroup;
mod install;
mod node;
mod part;
mod place;
mod requirements;
mod trial;
mod usage;
mod version;

use anyhow::bail;

pub(crate) use api::{Cluster, Options};
use build::Parts;
use build::others::Caches;
pub(crate) use node::{HOST_NAME, Lifetime};
pub(crate) use place::Place;

/// A file that is there once the scenarios in virtual machines have passed, with this KubeVirt and on this
/// machine.
pub(crate) fn kubevirt_passed() -> anyhow::Result<std::path::PathBuf> {
    Ok(Parts::new()?.kubevirt.file("passed"))
}

/// The folder with definitions of objects that other products bring.
pub(crate) fn crds() -> anyhow::Result<std::path::PathBuf> {
    build::others::crds(Caches::Removed)
}

/// The program `helm`.
pub(crate) fn helm() -> anyhow::Result<std::path::PathBuf> {
    build::others::helm(Caches::Removed)
}

/// The folder with the programs of Argo CD.
pub(crate) fn argo_cd() -> anyhow::Result<std::path::PathBuf> {
    build::others::argo_cd(Caches::Removed)
}

/// The folder with the controller of Shipwright, and the definitions of its objects.
pub(crate) fn shipwright() -> anyhow::Result<std::path::PathBuf> {
    build::others::shipwright(Caches::Removed)
}

const USAGE: &str = "\
A real Kubernetes with Tekton, and KubeVirt if asked for, as one node on this machine. Needs root or sudo.

Usage: cargo xtask cluster [--state FOLDER] COMMAND

Commands:
  build [--kubevirt | --all] [--keep]
                make what clusters are made of, once for each version: about 8 minutes, with KubeVirt 14;
                --all adds KubeVirt, and what `e2e cluster --all` needs: Helm, Argo CD and Shipwright;
                --keep keeps Go's caches (10 GB), so that the next build compiles only what changed
  up [--kubevirt]
                start a cluster; ends an earlier one of the same folder first
  down          end the cluster, and remove everything of it; does nothing if there is none
  status        show its addresses and components
  kubectl ARGUMENT…
                kubectl as administrator
  load ARCHIVE  load the images of an archive into the node
  registry NAME URL
                pull images with the registry's name NAME from URL by HTTP, from now on
  shell [COMMAND…]
                run a command inside of the node; default: bash
  try [--kubevirt]
                start a cluster, use all of it, and end it: about 1 minute, with KubeVirt 3

Options:
  --state FOLDER  where the cluster's files are; each folder has its own cluster [default: target/cluster]
  --kubevirt      with KubeVirt; its virtual machines are emulated";

/// Runs a command.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let (state, words) = match arguments {
        ["--state", folder, words @ ..] => (Some(*folder), words),
        words => (None, words),
    };
    let place = Place::new(state)?;
    match words {
        ["build", options @ ..] => {
            let [has_kubevirt, has_all, keeps_caches] = flags(options, ["--kubevirt", "--all", "--keep"])?;
            crate::setup::run()?;
            requirements::check_space()?;
            let parts = Parts::new()?;
            if has_all {
                parts.ensure_all()?;
            } else {
                parts.ensure(has_kubevirt, keeps_caches)?;
            }
            if !keeps_caches {
                build::go::remove_caches()?;
            }
            println!("cluster: all parts are made");
            Ok(())
        }
        ["up", options @ ..] => {
            let [has_kubevirt] = flags(options, ["--kubevirt"])?;
            let cluster = Cluster::start(&Options { place, has_kubevirt, lifetime: Lifetime::Kept })?;
            show(&cluster);
            Ok(())
        }
        ["down"] => api::down(&place),
        ["status"] => status(&place),
        ["kubectl", arguments @ ..] => Cluster::attach(&place)?.command().args(arguments).inherit().run(),
        ["load", archive] => Cluster::attach(&place)?.load_image(archive.as_ref()),
        ["registry", name, url] => Cluster::attach(&place)?.pull_from(name, url),
        ["shell"] => inside(&place, &["bash"]),
        ["shell", command @ ..] => inside(&place, command),
        ["try", options @ ..] => {
            let [has_kubevirt] = flags(options, ["--kubevirt"])?;
            trial::run(has_kubevirt)
        }
        [] | ["help" | "--help" | "-h", ..] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown command: cluster {}\n\n{USAGE}", words.join(" ")),
    }
}

/// Which of these flags are given.
fn flags<const N: usize>(given: &[&str], known: [&str; N]) -> anyhow::Result<[bool; N]> {
    if let Some(unknown) = given.iter().find(|flag| !known.contains(flag)) {
        bail!("unknown option `{unknown}`: write {}\n\n{USAGE}", known.join(" or "));
    }
    Ok(known.map(|flag| given.contains(&flag)))
}

fn inside(place: &Place, command: &[&str]) -> anyhow::Result<()> {
    Cluster::attach(place)?.node().run()?.args(command).inherit().run()
}

fn show(cluster: &Cluster) {
    println!("kubeconfig:        {}", cluster.kubeconfig().display());
    println!("API server:        https://{}:6443", cluster.node_address());
    println!("this host, for pods: {} ({HOST_NAME})", cluster.host_address());
}

fn status(place: &Place) -> anyhow::Result<()> {
    let cluster = Cluster::attach(place)?;
    show(&cluster);
    for (component, ended) in cluster.node().components()? {
        match ended {
            None => println!("{component}: running"),
            Some(status) => println!("{component}: ended with exit status {status}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_any_order() {
        let known = ["--kubevirt", "--keep"];
        assert_eq!(flags(&[], known).unwrap(), [false, false]);
        assert_eq!(flags(&["--keep", "--kubevirt"], known).unwrap(), [true, true]);
        let error = flags(&["--with"], known).unwrap_err().to_string();
        assert!(error.starts_with("unknown option `--with`: write --kubevirt or --keep"), "{error}");
    }
}
