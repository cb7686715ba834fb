//! Kubernetes as one program, CoreDNS, and Tekton: programs of the node, images, manifests.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::go::{Build, Go};
use super::image::{Archive, Image};
use crate::cluster::part;
use crate::cluster::version::{KUBERNETES, TEKTON, programs};
use crate::command::Run;

/// The names by which the one program is started.
const NAMES: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"];
/// Tekton's programs that run on the node.
const TEKTON_SERVERS: [&str; 2] = ["controller", "webhook"];
/// Tekton's programs that run in pods.
const TEKTON_IMAGES: [&str; 4] = ["entrypoint", "nop", "sidecarlogresults", "workingdirinit"];
/// Tekton's manifests, in the order in which they are applied. Its servers are not among them: they run on
/// the node.
const TEKTON_MANIFESTS: [&str; 5] = ["200-", "201-", "clusterrole-", "config-", "500-webhooks"];

/// Fills the folder: `programs.tar.zst`, `images.tar`, `tekton-namespace.yaml`, `tekton.yaml`.
pub(super) fn make(go: &Go, folder: &Path) -> anyhow::Result<()> {
    let module = programs("kubernetes");
    let root = folder.join("programs");
    let bin = root.join("usr/local/bin");
    std::fs::create_dir_all(&bin)?;
    go.build(&Build {
        what: "Kubernetes",
        module: &module,
        packages: &["."],
        output: bin.join("kubernetes").display().to_string(),
        flags: &[],
        link: version_flags(),
        has_c: false,
    })?;
    for name in NAMES {
        std::os::unix::fs::symlink("kubernetes", bin.join(name))?;
    }
    let built = folder.join("built");
    build_others(go, &module, &built)?;
    std::fs::rename(built.join("coredns"), bin.join("coredns"))?;
    for name in TEKTON_SERVERS {
        std::fs::rename(built.join(name), bin.join(format!("tekton-{name}")))?;
    }
    make_images(go, &built, folder)?;
    write_manifests(go, folder)?;
    Run::new("tar")
        .args(["--create", "--use-compress-program=zstd -3 -T0", "--sort=name", "--numeric-owner"])
        .args(["--owner=0", "--group=0", "--file"])
        .arg(folder.join("programs.tar.zst"))
        .arg(format!("--directory={}", root.display()))
        .arg(".")
        .run()?;
    part::remove(&root)?;
    part::remove(&built)
}

/// The version that its programs report.
fn version_flags() -> String {
    let mut numbers = KUBERNETES.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let of = |package: &str| {
        format!(
            "-X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
             -X {package}.gitTreeState=clean"
        )
    };
    ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(of).join(" ")
}

fn build_others(go: &Go, module: &Path, built: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(built)?;
    let tekton = TEKTON_SERVERS.iter().chain(&TEKTON_IMAGES);
    let tekton: Vec<String> = tekton.map(|name| format!("github.com/tektoncd/pipeline/cmd/{name}")).collect();
    let mut packages = vec!["./coredns"];
    packages.extend(tekton.iter().map(String::as_str));
    go.build(&Build {
        what: "CoreDNS and Tekton",
        module,
        packages: &packages,
        output: format!("{}/", built.display()),
        flags: &[],
        link: String::new(),
        has_c: false,
    })
}

fn make_images(go: &Go, built: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut archive = Archive::begin(&folder.join("image"))?;
    let layout = folder.join("layout");
    std::fs::create_dir_all(&layout)?;
    Run::new("gcc")
        .args(["-Os", "-static", "-s", "-DVERSION=3.10", "-o"])
        .arg(layout.join("pause"))
        .arg(go.module(&format!("k8s.io/kubernetes@v{KUBERNETES}")).join("build/pause/linux/pause.c"))
        .run()
        .context("cannot compile the first program of pods")?;
    let pause =
        Image { name: "localhost/pause:1".to_owned(), entrypoint: Some("/pause"), user: "65535:65535" };
    let layer = archive.layer(&layout)?;
    archive.add(&pause, &[layer])?;
    part::remove(&layout)?;
    for name in TEKTON_IMAGES {
        std::fs::create_dir_all(layout.join("ko-app"))?;
        std::fs::create_dir_all(layout.join("tmp"))?;
        std::fs::rename(built.join(name), layout.join("ko-app").join(name))?;
        let layer = archive.layer(&layout)?;
        let program = format!("/ko-app/{name}");
        // Not root: Tekton asks for containers whose image names a user.
        let name = format!("localhost/tekton-{name}:1");
        archive.add(&Image { name, entrypoint: Some(&program), user: "65532:65532" }, &[layer])?;
        part::remove(&layout)?;
    }
    archive.finish(&folder.join("images.tar"))
}

fn write_manifests(go: &Go, folder: &Path) -> anyhow::Result<()> {
    let config = go.module(&format!("github.com/tektoncd/pipeline@v{TEKTON}")).join("config");
    let namespace = std::fs::read_to_string(config.join("100-namespace/100-namespace.yaml"))?;
    std::fs::write(folder.join("tekton-namespace.yaml"), namespace)?;
    let mut all = String::new();
    for file in sorted(&config.join("300-crds"))? {
        write!(all, "---\n{}\n", std::fs::read_to_string(file)?)?;
    }
    let files = sorted(&config)?;
    for start in TEKTON_MANIFESTS {
        let chosen = |file: &&std::path::PathBuf| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
        };
        let before = all.len();
        for file in files.iter().filter(chosen) {
            write!(all, "---\n{}\n", std::fs::read_to_string(file)?)?;
        }
        anyhow::ensure!(all.len() > before, "Tekton {TEKTON} has no manifests {start}*.yaml");
    }
    Ok(std::fs::write(folder.join("tekton.yaml"), all)?)
}

/// The YAML files of a folder, in order.
fn sorted(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}
