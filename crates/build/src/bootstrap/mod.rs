//! `bootstrap` steps: an operating system of exactly the locked packages.
//!
//! ```text
//!  lock:  private apt ── update ── resolve ──▶ name=version, …
//!  build: mmdebstrap ── tar on a pipe ──▶ layer        (no file in between; packages kept in the cache)
//!         installed set == lock, or the build fails
//!  keep:  the installed packages as blobs ──▶ rebuilt without the mirror
//! ```

mod apt;
mod archives;
mod fault;
mod host;
mod kept;
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edgewright_model::lock::{LockedArchive, LockedPackage};
use edgewright_model::names::Platform;
use edgewright_model::order::ImageTask;
use edgewright_model::outcome::{JobEvent, JobFailure, KeptPackages, Phase};
use edgewright_model::spec::BootstrapStep;
use edgewright_oci::image::Image;
use edgewright_oci::layer::{Layer, write_tar};
use edgewright_process::Command;
use edgewright_process::quote::quote;
use serde_json::json;

pub(crate) use apt::Apt;
pub(crate) use fault::of_command as failure_of;
pub use fault::{Cause, explain};
pub use host::{Host, HostEntry};
pub(crate) use kept::{Leftovers, keep};
pub use repository::Repository;

use crate::context::{BuildContext, Events};
use crate::image_state::blocking;
use crate::{failure, privileges};

/// The number of differences between lock and installation that a message names.
const SHOWN_DIFFERENCES: usize = 5;

/// A hook that lets each machine generate its own SSH host keys at the first start of sshd: they are secret,
/// so no image may have them. Debian's unit for that waits for a "first boot", which an empty
/// `/etc/machine-id` is not (and must not be: systemd would reset all enabled units to their presets); before
/// Debian 13 there is no such unit.
const SSH_HOST_KEYS: &str = "umask 022; units=\"$1/usr/lib/systemd/system\"; \
     if [ -e \"$units/sshd-keygen.service\" ]; then mkdir -p \"$units/sshd-keygen.service.d\"; \
     printf '[Unit]\\nConditionFirstBoot=\\nConditionPathIsReadWrite=/etc/ssh\\n' \
     > \"$units/sshd-keygen.service.d/10-every-boot.conf\"; \
     elif [ -e \"$1/usr/sbin/sshd\" ]; then mkdir -p \"$units/ssh.service.d\"; \
     printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/ssh-keygen -A\\nExecStartPre=/usr/sbin/sshd -t\\n' \
     > \"$units/ssh.service.d/10-host-keys.conf\"; fi";

/// Debian's name of an OCI architecture.
pub fn debian_architecture(platform: &Platform) -> Option<&'static str> {
    Some(match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("amd64", _) => "amd64",
        ("arm64", _) => "arm64",
        ("arm", Some("v5" | "v6")) => "armel",
        ("arm", _) => "armhf",
        ("386", _) => "i386",
        ("ppc64le", _) => "ppc64el",
        ("s390x", _) => "s390x",
        ("riscv64", _) => "riscv64",
        _ => return None,
    })
}

pub(crate) fn architecture(platform: &Platform, phase: Phase) -> Result<&'static str, JobFailure> {
    debian_architecture(platform).ok_or_else(|| {
        let hint = "use linux/amd64, linux/arm64 or another platform of Debian";
        failure::image(phase, format!("Debian has no architecture for {platform}"), hint)
    })
}

/// Sets the init of a bootstrapped system as the command of its containers.
pub(crate) fn set_runtime(image: &mut Image) {
    image.set_runtime_field("Cmd", json!(["/sbin/init"]));
    image.set_runtime_field(
        "Env",
        json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
    );
    // The signal that asks systemd to shut down; SIGTERM would only make it re-execute itself.
    image.set_runtime_field("StopSignal", json!("SIGRTMIN+3"));
}

/// The packages to install.
#[derive(Debug)]
pub(crate) struct Order<'o> {
    pub(crate) step: &'o BootstrapStep,
    pub(crate) packages: &'o [LockedPackage],
    /// Their archive as it was locked; without it, this host's.
    pub(crate) archive: Option<&'o LockedArchive>,
    pub(crate) keys: &'o BTreeMap<String, String>,
    /// Their source instead of the mirror.
    pub(crate) kept: Option<&'o KeptPackages>,
}

/// mmdebstrap. In a sandbox, scripts of packages get no capability by which they could change its network or
/// other processes of the job.
fn mmdebstrap(ctx: &BuildContext) -> Command {
    if ctx.in_sandbox {
        return Command::new("setpriv").args([
            "--bounding-set",
            "-net_admin,-sys_ptrace",
            "--",
            "mmdebstrap",
        ]);
    }
    Command::new("mmdebstrap")
}

/// Installs the locked packages; gives the layer, and the files to keep.
pub(crate) async fn build(
    task: &ImageTask,
    ctx: &BuildContext,
    order: &Order<'_>,
    events: Events<'_>,
) -> Result<(Layer, Option<Leftovers>), JobFailure> {
    let Order { step, packages, keys, kept, archive: _ } = *order;
    privileges::check()?;
    let architecture = architecture(&task.platform, Phase::Build)?;
    let repository = chosen(order, &ctx.host_etc, events)?;
    let apt = Apt::prepare(ctx, &repository, keys, architecture, Phase::Build)?;
    let local = |error: std::io::Error| failure::local(Phase::Build, &error);
    let (cached, locked) = (apt.clone(), packages.to_vec());
    let packages_folder = blocking(move || cached.take_archives(&locked)).await?.map_err(local)?;
    let installed = ctx.scratch.join("installed");
    let sources = ctx.scratch.join("sources.list");
    let mut lines = repository.lines().to_vec();
    if let Some(kept) = kept {
        lines = vec![kept::repository_of(kept, &step.suite, ctx, &ctx.scratch.join("kept")).await?];
        tokio::fs::write(&sources, &kept.sources).await.map_err(local)?;
    }
    let temporary = ctx.folder("tmp").map_err(local)?;
    let layer_path = ctx.folder("bootstrap").map_err(local)?.join("layer");

    events(JobEvent::Log {
        line: format!("mmdebstrap installs {} packages of {}", packages.len(), step.suite),
    });
    let include: Vec<String> = packages.iter().map(|p| format!("{}={}", p.name, p.version)).collect();
    let mut command = mmdebstrap(ctx)
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--architectures={architecture}"))
        .arg(format!("--include={}", include.join(",")))
        // The runtime makes devices; the downloaded packages stay until the hook has saved them.
        .arg("--skip=output/dev,essential/unlink,check/signed-by,check/empty")
        // Other users cannot write to the folder of a job, so apt must download as root.
        .arg("--aptopt=APT::Sandbox::User \"root\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=Acquire::Retries \"2\"")
        // The tree is discarded after an error, so files need not be synced.
        .arg("--dpkgopt=force-unsafe-io")
        .arg(format!("--setup-hook={}", setup_hook(&apt, &packages_folder)))
        .arg(format!("--customize-hook={}", customize_hook(&apt, &packages_folder, &installed)))
        .arg(format!("--customize-hook={}", sources_hook(&sources, kept.is_some())));
    if let Some(folder) = apt.trusted() {
        command = command.arg(format!("--keyring={}", folder.display()));
    }
    command = command.arg(&step.suite).arg("-").args(lines);
    let epoch = task.epoch;
    let seconds = epoch.as_second().max(0).to_string();
    let (layer, _) = command
        .context(&ctx.process)
        .env("SOURCE_DATE_EPOCH", seconds)
        .env("TMPDIR", &temporary)
        .deadline(ctx.step_limit)
        .run_reader(move |tar| write_tar(tar, &layer_path, epoch))
        .await
        .map_err(|error| fault::of_command(&error, step, &repository, Phase::Build))?;
    let layer = layer.map_err(|error| failure::local(Phase::Build, &error))?;
    verify(&installed, packages, &task.node)?;
    let (downloaded, locked) = (packages_folder.clone(), packages.to_vec());
    let wrong = blocking(move || apt.save_archives(&downloaded, &locked)).await?;
    if !wrong.is_empty() && kept.is_none() {
        return Err(other_archives(&wrong, &task.node));
    }
    Ok((layer, Some(Leftovers { archives: packages_folder, sources })))
}

/// The locked archive, else the host's; what is worth knowing about it goes to the log.
fn chosen(order: &Order<'_>, etc: &Path, events: Events<'_>) -> Result<Repository, JobFailure> {
    let repository = match order.archive {
        Some(archive) => Repository::locked(order.step, archive, Phase::Build)?,
        None => Repository::of(order.step, &Host::read(etc), Phase::Build)?,
    };
    for line in warnings(order.packages, order.archive, &repository) {
        events(JobEvent::Log { line });
    }
    Ok(repository)
}

/// What is worth knowing about the lock before packages are installed by it.
fn warnings(
    packages: &[LockedPackage],
    archive: Option<&LockedArchive>,
    repository: &Repository,
) -> Vec<String> {
    let mut lines = Vec::new();
    let unknown = packages.iter().filter(|package| package.sha256.is_none()).count();
    if unknown > 0 {
        lines.push(format!(
            "warning: the lock has no hashes of {unknown} packages, so they are downloaded each time; `edgewright update` records them"
        ));
    }
    lines.extend(
        archive.and_then(|archive| repository.difference(archive)).map(|it| format!("warning: {it}")),
    );
    lines
}

/// The failure of an installation from archives that are not the locked ones.
fn other_archives(wrong: &[String], node: &str) -> JobFailure {
    let image = image_of(node);
    let shown = wrong[..wrong.len().min(SHOWN_DIFFERENCES)].join(", ");
    let more = wrong.len().saturating_sub(SHOWN_DIFFERENCES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let hint = format!("resolve a new lock: `edgewright update {image}`");
    let message = format!("the archives of these packages are not the locked ones: {shown}{more}");
    failure::infrastructure(Phase::Build, message, Some(&hint))
}

fn image_of(node: &str) -> &str {
    node.split(['/', '~']).next().unwrap_or(node)
}

/// Copies cached lists and packages into the new system: no links, because its scripts may write to them.
fn setup_hook(apt: &Apt, packages: &Path) -> String {
    let (lists, packages) = (quote(apt.lists().as_os_str()), quote(packages.as_os_str()));
    let pins = quote(apt.pins().as_os_str());
    format!(
        "set -e; mkdir -p \"$1/var/lib/apt/lists/partial\" \"$1/var/cache/apt/archives/partial\" \
         \"$1/etc/apt/preferences.d\"; \
         cp -a --reflink=auto {lists}/. \"$1/var/lib/apt/lists/\"; \
         cp -a --reflink=auto {packages}/. \"$1/var/cache/apt/archives/\"; \
         cp {pins} \"$1/etc/apt/preferences.d/edgewright\""
    )
}

/// Saves packages and lists, and removes files that depend on the host, the time or random numbers.
fn customize_hook(apt: &Apt, packages: &Path, installed: &Path) -> String {
    let packages = quote(packages.as_os_str());
    let keys = apt.trusted_for_image().map_or_else(String::new, |folder| {
        format!("cp -n {}/. -r \"$1/etc/apt/trusted.gpg.d/\"; ", quote(folder.as_os_str()))
    });
    let installed = quote(installed.as_os_str());
    format!(
        "set -e; cp -n \"$1\"/var/cache/apt/archives/*.deb {packages}/ 2>/dev/null || true; {keys}\
         dpkg-query --admindir=\"$1/var/lib/dpkg\" -W \
         -f '${{Package}}\\t${{Version}}\\t${{Architecture}}\\n' > {installed}; \
         rm -f \"$1/etc/apt/preferences.d/edgewright\" \"$1/etc/apt/apt.conf.d/99mmdebstrap\" \
         \"$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap\" \"$1/etc/resolv.conf\" \"$1/etc/hostname\" \
         \"$1\"/var/lib/dpkg/*-old \"$1\"/var/cache/debconf/*-old \"$1\"/etc/passwd- \"$1\"/etc/shadow- \
         \"$1\"/etc/group- \"$1\"/etc/gshadow- \"$1\"/etc/subuid- \"$1\"/etc/subgid- \
         \"$1\"/etc/ssh/ssh_host_*_key \"$1\"/etc/ssh/ssh_host_*_key.pub \
         \"$1/var/lib/systemd/random-seed\" \"$1/var/lib/systemd/credential.secret\" \
         \"$1/var/lib/apt/extended_states\"; \
         find \"$1/var/log\" -type f -delete; {SSH_HOST_KEYS}"
    )
}

/// Saves the image's `sources.list`; in a rebuild from kept packages, restores the original one.
fn sources_hook(sources: &Path, restore: bool) -> String {
    let saved = quote(sources.as_os_str());
    if restore {
        format!("cat {saved} > \"$1/etc/apt/sources.list\"")
    } else {
        format!("cat \"$1/etc/apt/sources.list\" > {saved} 2>/dev/null || true")
    }
}

/// Checks that the installed packages are the locked ones: otherwise the same key could give other bytes
/// later.
fn verify(installed: &Path, locked: &[LockedPackage], node: &str) -> Result<(), JobFailure> {
    let text = std::fs::read_to_string(installed).map_err(|error| failure::local(Phase::Build, &error))?;
    let differences = differences(locked, &parse_installed(&text));
    if differences.is_empty() {
        return Ok(());
    }
    let image = image_of(node);
    let more = differences.len().saturating_sub(SHOWN_DIFFERENCES);
    let shown = differences.into_iter().take(SHOWN_DIFFERENCES).collect::<Vec<_>>().join("; ");
    let message = if more > 0 { format!("{shown}; and {more} more") } else { shown };
    let hint = format!("resolve a new lock: `edgewright update {image}`");
    Err(failure::infrastructure(
        Phase::Build,
        format!("the installed packages differ from the lock: {message}"),
        Some(&hint),
    ))
}

fn parse_installed(text: &str) -> BTreeSet<LockedPackage> {
    let package = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(LockedPackage::new(fields.next()?, fields.next()?, fields.next()?))
    };
    text.lines().filter_map(package).collect()
}

/// The differences between installed and locked packages, as text.
fn differences(locked: &[LockedPackage], installed: &BTreeSet<LockedPackage>) -> Vec<String> {
    let there: BTreeSet<_> = installed.iter().map(LockedPackage::identity).collect();
    let by_name = |name: &str| installed.iter().find(|package| package.name == name);
    let mut found: Vec<String> = locked
        .iter()
        .filter(|package| !there.contains(&package.identity()))
        .map(|package| match by_name(&package.name) {
            Some(other) => {
                format!("{} {} is locked, but {} was installed", package.name, package.version, other.version)
            }
            None => format!("{} {} is locked, but was not installed", package.name, package.version),
        })
        .collect();
    let names: BTreeSet<&str> = locked.iter().map(|package| package.name.as_str()).collect();
    let surplus = installed.iter().filter(|package| !names.contains(package.name.as_str()));
    found.extend(surplus.map(|package| format!("{} was installed, but is not locked", package.name)));
    found
}

#[cfg(test)]
mod tests {
    use edgewright_model::Digest;

    use super::*;

    #[test]
    fn differences_from_the_lock_are_named() {
        let package = |name: &str, version: &str| LockedPackage {
            sha256: Some(Digest::of(name)),
            ..LockedPackage::new(name, version, "amd64")
        };
        let installed = parse_installed("a\t1\tamd64\nb\t2\tamd64\nx\t1\tall\n");
        let locked = [package("a", "1"), package("b", "1"), package("c", "1")];
        assert_eq!(
            differences(&locked, &installed),
            [
                "b 1 is locked, but 2 was installed",
                "c 1 is locked, but was not installed",
                "x was installed, but is not locked"
            ]
        );
    }
}
