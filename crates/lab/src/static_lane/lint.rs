//! `bootc container lint`, run with the image's own bootc, which knows the requirements of its version.

use std::time::Duration;

use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::FailureKind;
use edgewright_process::{CommandError, Finished, Stream};

use super::rootfs::RootFs;
use super::{Finding, LINES};
use crate::JOB_LABEL;
use crate::LabError;
use crate::container::life;
use crate::lane::LabContext;
use crate::machine::LaneFault;

const BOOTC: &str = "usr/bin/bootc";
/// Its limit of processes.
const PROCESSES: &str = "1024";
/// podman's own exit code, and those of a program that cannot run.
const PODMAN: i32 = 125;
const NOT_INVOKED: i32 = 126;
const NOT_THERE: i32 = 127;

/// What the kernel reports of this process.
const STATUS: &str = "/proc/self/status";
/// The bit of the right to configure networks, `CAP_NET_ADMIN`.
const NET_ADMIN: u64 = 1 << 12;

/// Runs it in a container of the image, read-only and without network; in a Pod, with the Pod's, as `RUN`
/// lines. `(limit, left)`: the time limits of the program and of the pull.
pub(super) async fn run(
    rootfs: &RootFs,
    manifest: &ManifestRef,
    context: &LabContext,
    (limit, left): (Duration, Duration),
) -> Result<Finding, LaneFault> {
    if rootfs.resolve(BOOTC).is_none() {
        return Ok(Finding::Skipped(format!("there is no /{BOOTC} in the image")));
    }
    let engine = match context.podman.engine(&context.processes).await {
        Ok(engine) => engine,
        Err(error) if matches!(error, LabError::NoPodman) => {
            return Ok(Finding::Skipped(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let image = life::pull(context, engine, manifest, left).await?;
    let status = tokio::fs::read_to_string(STATUS).await.unwrap_or_default();
    let network = if may_make_networks(&status) { "none" } else { "host" };
    let name = format!("edgewright-{}-lint", context.job);
    let label = format!("{JOB_LABEL}={}", context.job);
    let command = engine.podman(&context.processes).args(["run", "--rm", "--replace", "--pull=never"]);
    let command =
        command.args(["--name", &name, "--label", &label, "--network", network, "--http-proxy=false"]);
    let command = command.args(["--read-only", "--systemd=false", "--log-driver", "none"]);
    let command = command.args(["--pids-limit", PROCESSES, "--security-opt", "label=disable"]);
    let command = command.args(["--entrypoint", "/usr/bin/bootc", &image, "container", "lint"]);
    let mut lines = Vec::new();
    let on_line = |_: Stream, line: &str| {
        if lines.len() < LINES {
            lines.push(line.to_owned());
        }
    };
    let ended = command.deadline(limit).run_lines_status(on_line).await;
    if ended.is_err() {
        life::discard(context, engine, &name).await;
    }
    match ended {
        Ok(finished) => judge(&finished, &lines),
        Err(CommandError::Deadline { .. }) => {
            let message = format!("`bootc container lint` did not end within {} s", limit.as_secs());
            Ok(Finding::Failed(message, lines))
        }
        Err(error) => Err(LaneFault::infrastructure("cannot run `bootc container lint`", &error)),
    }
}

/// Whether podman can make a network of its own, whose loopback it has to start. Root needs the right to
/// configure networks for that; podman of another user has it in its user namespace.
fn may_make_networks(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let is_root = field("Uid:").split_whitespace().nth(1) == Some("0");
    // What cannot be read is no reason to share a network.
    let rights = u64::from_str_radix(field("CapEff:").trim(), 16).unwrap_or(u64::MAX);
    !is_root || rights & NET_ADMIN != 0
}

fn judge(finished: &Finished, lines: &[String]) -> Result<Finding, LaneFault> {
    let prints = |what: &str| lines.iter().any(|line| line.contains(what));
    let last = || lines.iter().rev().find(|line| !line.trim().is_empty()).map_or("", |line| line.trim());
    let first_error = lines.iter().find(|line| line.trim_start().to_lowercase().starts_with("error"));
    Ok(match finished.code() {
        Some(0) => {
            let warnings = lines.iter().filter(|line| line.to_lowercase().contains("warning"));
            Finding::Passed(warnings.cloned().collect())
        }
        Some(PODMAN) => {
            let message = format!("cannot start the container for `bootc container lint`: {}", last());
            return Err(LaneFault { kind: FailureKind::Infrastructure, message });
        }
        _ if prints("xec format error") => {
            Finding::Skipped("this host cannot run programs of the image's architecture".to_owned())
        }
        _ if prints("unrecognized subcommand") => {
            Finding::Skipped("the image's bootc does not support `container lint`".to_owned())
        }
        Some(NOT_INVOKED | NOT_THERE) => {
            Finding::Failed(format!("cannot start the image's bootc: {}", last()), lines.to_vec())
        }
        _ => {
            let what = first_error.map_or_else(last, |line| line.trim());
            let colon = if what.is_empty() { "" } else { ": " };
            Finding::Failed(
                format!("`bootc container lint` ended with {}{colon}{what}", finished.ended),
                lines.to_vec(),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edgewright_model::Digest;
    use edgewright_model::order::{JobId, RegistryAccess};
    use edgewright_oci::Client;
    use edgewright_process::ProcessContext;

    use super::super::rootfs::testing::rootfs;
    use super::*;
    use crate::PodmanHost;

    #[test]
    fn only_root_without_the_right_shares_a_network() {
        let status = |user: u32, rights: &str| {
            format!("Name:\tx\nUid:\t1000\t{user}\t0\t0\nCapPrm:\t00\nCapEff:\t{rights}\n")
        };
        // The rights of a Pod with SYS_ADMIN, with NET_ADMIN as well, and of a user.
        for (status, may) in [
            (status(0, "00000000a82425fb"), false),
            (status(0, "00000000a82435fb"), true),
            (status(1000, "0000000000000000"), true),
            (String::new(), true),
        ] {
            assert_eq!(may_make_networks(&status), may, "{status}");
        }
    }

    #[tokio::test]
    async fn a_host_without_podman_skips_it_with_the_reason() {
        let access = RegistryAccess { url: "http://127.0.0.1:1".to_owned(), token: None };
        let context = LabContext {
            podman: Arc::new(PodmanHost::without_podman()),
            vm: crate::VmHost::new(
                std::path::Path::new("/nonexistent"),
                edgewright_vm::Tools::here(),
                edgewright_vm::Programs { guest: b"", checks: b"" },
            ),
            client: Client::new(&access).unwrap(),
            job: JobId(uuid::Uuid::nil()),
            scratch: std::env::temp_dir(),
            processes: ProcessContext::default(),
        };
        let manifest =
            ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of("manifest") };
        let limits = (Duration::from_secs(1), Duration::from_secs(1));
        let with_bootc = rootfs(&[&[(BOOTC, "a program")]]);
        let found = run(&with_bootc, &manifest, &context, limits).await;
        let Ok(Finding::Skipped(reason)) = found else { panic!("{found:?}") };
        assert!(reason.contains("podman is not installed"), "{reason}");
    }
}
