//! Programs and their versions: those of the tool image, and those of the host.

use std::time::Duration;

use edgewright_api::documents::{DoctorCheck, DoctorState};
use edgewright_process::Command;
use edgewright_sandbox::ToolImage;

use super::{gap, good};

/// How long a program may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);
/// The first buildah without known ways from a build to the files of its host (CVE-2024-1753, CVE-2024-9407,
/// CVE-2024-9675) and with here-documents.
const SAFE_BUILDAH: (u32, u32) = (1, 38);

/// The programs of a tool image.
pub(super) fn of_image(tools: &ToolImage) -> DoctorCheck {
    good("tools", tools.versions())
}

/// The programs of the host: git and mmdebstrap for every server, the others only for jobs without sandboxes.
pub(super) async fn of_host(for_jobs: bool) -> Vec<DoctorCheck> {
    let mut checks = vec![
        git().await,
        needed("mmdebstrap", "mmdebstrap", "the tool image cannot be made: install the package mmdebstrap")
            .await,
    ];
    if for_jobs {
        checks.push(host_buildah().await);
        checks.push(
            needed("podman", "podman", "the container lane cannot run: install the package podman").await,
        );
    }
    checks
}

/// What every server needs.
pub(super) async fn git() -> DoctorCheck {
    needed("git", "git", "sources cannot be read: install the package git").await
}

async fn needed(id: &str, program: &str, hint: &str) -> DoctorCheck {
    match version(program).await {
        Some(version) => good(id, version),
        None => gap(id, DoctorState::Missing, "not installed", hint),
    }
}

async fn host_buildah() -> DoctorCheck {
    let Some(version) = version("buildah").await else {
        return gap("buildah", DoctorState::Missing, "not installed", "install the package buildah");
    };
    if numbers(&version).is_some_and(|found| found < SAFE_BUILDAH) {
        let hint = "a Containerfile can write to files of this host: run jobs in sandboxes";
        return gap("buildah", DoctorState::Warning, version, hint);
    }
    good("buildah", version)
}

/// What a program prints about its version: the first line.
async fn version(program: &str) -> Option<String> {
    let ended = Command::new(program).arg("--version").deadline(VERSION_TIMEOUT).run().await.ok()?;
    Some(ended.text().lines().next()?.trim().to_owned())
}

/// The first two numbers of a version in a text.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let version = text.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("buildah version 1.28.2 (image-spec 1.0.2-dev)"), Some((1, 28)));
        assert_eq!(numbers("podman"), None);
        assert!(numbers("buildah version 1.28.2") < Some(SAFE_BUILDAH));
        assert!(numbers("buildah version 1.39.3") > Some(SAFE_BUILDAH));
    }
}
