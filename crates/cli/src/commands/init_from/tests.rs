//! Minimal copies of the shapes of public repositories.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::repository::{Written, write};
use crate::commands::Folder;

/// Writes a repository, and the source around it; every source passes `check` and plans.
async fn source(files: &[(&str, &str)], listed: Option<&[&str]>) -> (tempfile::TempDir, Written) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join("old").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let listed: Option<BTreeSet<PathBuf>> = listed.map(|listed| listed.iter().map(PathBuf::from).collect());
    let new = folder.path().join("new");
    let written = write(&folder.path().join("old"), &new, listed.as_ref()).unwrap();
    let read = Folder::read(&new).await.unwrap();
    assert_eq!(read.diagnostics(), [], "{written:#?}");
    (folder, written)
}

fn images(written: &Written) -> Vec<(&str, &str)> {
    written.images.iter().map(|(name, from)| (name.as_str(), from.as_str())).collect()
}

fn left_out(written: &Written) -> Vec<String> {
    written.left_out.iter().map(ToString::to_string).collect()
}

fn read(folder: &tempfile::TempDir, path: &str) -> String {
    std::fs::read_to_string(folder.path().join("new").join(path)).unwrap()
}

const BUILD: &str = "RUN --mount=type=bind,from=ctx,source=/,target=/ctx \\\n    --mount=type=cache,dst=/var/cache \\\n    --mount=type=tmpfs,dst=/tmp \\\n    /ctx/build.sh\nRUN bootc container lint\n";

#[tokio::test]
async fn a_template_with_build_scripts() {
    let top =
        format!("FROM scratch AS ctx\nCOPY build_files /\n\nFROM ghcr.io/ublue-os/bazzite:stable\n{BUILD}");
    let nvidia = format!(
        "ARG BASE_IMAGE=\"${{BASE_IMAGE:-ghcr.io/ublue-os/bazzite:stable}}\"\nFROM scratch AS ctx\nCOPY build_files /\n\
         FROM ${{BASE_IMAGE}} AS base\n{BUILD}FROM base AS nvidia\nRUN --mount=type=secret,id=GITHUB_TOKEN true\n"
    );
    let files = [
        ("Containerfile", top.as_str()),
        ("Containerfile.nvidia", &nvidia),
        ("build_files/build.sh", "#!/bin/bash\n"),
        ("Justfile", "build:\n  podman build --build-arg X=1 .\n"),
        (".github/workflows/build.yml", "jobs:\n  x:\n    with:\n      build-args: |\n"),
        ("output/disk.raw", "not in git"),
    ];
    let listed = files[..5].iter().map(|(path, _)| *path).collect::<Vec<_>>();
    let (folder, written) = source(&files, Some(&listed)).await;
    assert_eq!(
        images(&written),
        [
            ("base", "ghcr.io/ublue-os/bazzite:stable"),
            ("system", "Containerfile"),
            ("nvidia", "Containerfile.nvidia")
        ]
    );
    assert_eq!(
        left_out(&written),
        [
            ".github/workflows/build.yml:4: build arguments: write them in `args` of the step, or as defaults",
            "Containerfile.nvidia:11: the secret `GITHUB_TOKEN`: declare it in `secrets` of the step, and name its file in the server's settings",
            "Justfile:2: build arguments: write them in `args` of the step, or as defaults",
        ]
    );
    assert!(!folder.path().join("new/context/output").exists());
    assert!(read(&folder, "context/Containerfile.nvidia").contains("ARG BASE\nFROM scratch AS ctx\n"));
    assert!(read(&folder, "context/Containerfile.nvidia").contains("FROM ${BASE} AS base\n"));
    assert_eq!(
        read(&folder, "images/nvidia/image.yaml"),
        "from: base\nsteps:\n  - containerfile:\n      file: \"context/Containerfile.nvidia\"\n      context: \"context\"\nchecks:\n  - {id: system-up, systemd: running, timeout: 120s}\n"
    );
}

#[tokio::test]
async fn examples_in_folders_with_their_own_and_the_common_context() {
    let digest = "sha256:52dd1a519a9b67ff141827375cd7cec6b51eff8725934ee19700a5725c2b2f9a";
    let top = format!("FROM quay.io/centos-boot/fedora-tier-1:eln@{digest}\nCOPY . /src\n");
    let files = [
        ("Containerfile", top.as_str()),
        (".containerignore", "*.md\n"),
        ("README.md", "x"),
        ("cloud/Dockerfile", "FROM quay.io/centos-bootc/fedora-bootc-dev:eln\nCOPY usr usr\n"),
        ("cloud/usr/lib/a", "a"),
        (
            "examples/nvidia/Containerfile",
            "FROM quay.io/centos-bootc/centos-bootc:stream9\nCOPY etc/ /etc/\nCOPY [\"no such\", \"/x\"]\n",
        ),
        ("examples/nvidia/etc/yum.repos.d/cuda.repo", "x"),
        ("examples/app.containerfile", "FROM localhost/nvidia:latest\nADD --chown=0:0 cuda.repo /etc/\n"),
        ("cuda.repo", "x"),
        ("builder/Containerfile", "FROM golang:1.22\n"),
        ("old/Containerfile.in", "FROM BASE\n"),
    ];
    let (folder, written) = source(&files, None).await;
    let names: Vec<&str> = images(&written).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "fedora-tier-1-eln",
            "centos-bootc-stream9",
            "fedora-bootc-dev-eln",
            "system",
            "cloud",
            "examples-app",
            "nvidia"
        ]
    );
    let of = |image: &str| {
        let text = read(&folder, &format!("images/{image}/image.yaml"));
        text.lines().take(5).map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("|")
    };
    assert_eq!(
        of("cloud"),
        "from: fedora-bootc-dev-eln|steps:|- containerfile:|file: \"context/cloud/Dockerfile\"|context: \"context/cloud\""
    );
    // Nothing of its own folder is copied, but a file of the top.
    assert!(of("examples-app").starts_with("from: nvidia|"), "{}", of("examples-app"));
    assert!(of("examples-app").ends_with("|context: \"context\""), "{}", of("examples-app"));
    let left = left_out(&written);
    assert!(left[0].starts_with("builder/Containerfile:1: `golang:1.22` is a short name"), "{left:#?}");
    assert!(
        left[1].starts_with("examples/nvidia/Containerfile:3: `no such` is not in the repository"),
        "{left:#?}"
    );
    assert!(left[2].starts_with("old/Containerfile.in:1: podman runs it through cpp"), "{left:#?}");
    assert_eq!(left.len(), 3, "{left:#?}");
}

#[tokio::test]
async fn nested_defaults_and_foreign_images() {
    let text = "ARG BASE_IMAGE_NAME=\"${BASE_IMAGE_NAME:-silverblue}\"\nARG IMAGE_FLAVOR=\"${IMAGE_FLAVOR:-main}\"\n\
        ARG SOURCE_IMAGE=\"${SOURCE_IMAGE:-$BASE_IMAGE_NAME-$IMAGE_FLAVOR}\"\nARG BASE_IMAGE=\"ghcr.io/ublue-os/${SOURCE_IMAGE}\"\n\
        ARG FEDORA_MAJOR_VERSION=\"${FEDORA_MAJOR_VERSION:-39}\"\n\
        FROM ${BASE_IMAGE}:${FEDORA_MAJOR_VERSION} AS bluefin\nCOPY usr /usr\n\
        COPY --from=ghcr.io/ublue-os/akmods:main-39 /rpms /tmp/rpms\nFROM bluefin AS bluefin-dx\nCOPY dx/usr /usr\n";
    let files = [
        ("Containerfile", text),
        ("usr/a", ""),
        ("dx/usr/b", ""),
        ("recipes/recipe.yml", "name: x\nbase-image: y\nmodules:\n"),
    ];
    let (_folder, written) = source(&files, None).await;
    assert_eq!(
        images(&written),
        [("base", "ghcr.io/ublue-os/silverblue-main:39"), ("system", "Containerfile")]
    );
    assert!(left_out(&written)[0].starts_with("recipes/recipe.yml:2: a recipe of BlueBuild"));
}
