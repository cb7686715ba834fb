//! What this machine must have for a cluster: checked by trying, before anything is started.

use anyhow::{Context as _, bail};

use super::part;
use crate::command::Run;
use crate::setup;

/// The free memory that a cluster wants, in MiB; more with KubeVirt and a small machine.
const MEMORY_MIB: u64 = 2048;
const MEMORY_WITH_KUBEVIRT_MIB: u64 = 5120;
/// The free space for a build, which holds Go's caches, in MiB.
const BUILD_SPACE_MIB: u64 = 16 * 1024;

/// A try in namespaces of its own, so that it leaves nothing.
struct Trial {
    what: &'static str,
    script: &'static str,
    advice: &'static str,
}

const TRIALS: [Trial; 5] = [
    Trial {
        what: "namespaces for mounts, networks, processes and cgroups",
        script: "true",
        advice: "run as root (or with sudo) on the machine itself, not in a container",
    },
    Trial {
        what: "overlay mounts",
        script: "mount -t tmpfs t /run && cd /run && mkdir l u w m && \
                 mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m",
        advice: "load the kernel module `overlay`",
    },
    Trial {
        what: "network interfaces of the kinds veth and bridge",
        script: "ip link add ew0 type veth peer name ew1 && ip link add ew2 type bridge",
        advice: "load the kernel modules `veth` and `bridge`",
    },
    Trial {
        what: "address translation by iptables",
        script: "iptables -t nat -A POSTROUTING -s 10.99.0.0/24 -m comment --comment trial -j MASQUERADE",
        advice: "load the kernel modules `nf_tables`, `nft_compat`, `xt_MASQUERADE` and `xt_comment`",
    },
    Trial {
        what: "/dev/net/tun",
        script: "test -c /dev/net/tun && ip tuntap add dev ew3 mode tap",
        advice: "load the kernel module `tun`",
    },
];

/// Installs missing programs, and checks the kernel and the memory.
pub(super) fn check(has_kubevirt: bool) -> anyhow::Result<()> {
    setup::run()?;
    if has_kubevirt && std::env::consts::ARCH != "x86_64" {
        bail!("cannot run KubeVirt: its images here are for x86-64; start the cluster without it");
    }
    for trial in TRIALS {
        let namespaces = ["--mount", "--net", "--pid", "--cgroup", "--fork", "--propagation", "private"];
        let run = Run::as_root("unshare")?.args(namespaces).args(["sh", "-c", trial.script]);
        if let Err(error) = run.output() {
            bail!("cannot run a cluster: this machine has no {}: {error:#}; {}", trial.what, trial.advice);
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if !mounts.lines().any(|line| line.contains(" /sys/fs/cgroup") && line.contains(" cgroup")) {
        bail!("cannot run a cluster: no cgroups are mounted below /sys/fs/cgroup");
    }
    let (free, wanted) = (
        available_mib(&std::fs::read_to_string("/proc/meminfo")?)?,
        if has_kubevirt { MEMORY_WITH_KUBEVIRT_MIB } else { MEMORY_MIB },
    );
    if free < wanted {
        bail!(
            "cannot run a cluster: {free} MiB of memory are available, and it wants {wanted} MiB: end other programs"
        );
    }
    Ok(())
}

/// Checks that a build does not fill the disk.
pub(super) fn check_space() -> anyhow::Result<()> {
    let folder = part::folder()?;
    std::fs::create_dir_all(&folder)?;
    let output = Run::new("df").args(["--block-size=1M", "--output=avail"]).arg(&folder).output()?;
    let free: u64 =
        output.lines().last().unwrap_or_default().trim().parse().context("malformed output of df")?;
    if free < BUILD_SPACE_MIB {
        bail!(
            "cannot build a cluster: {free} MiB are free in {}, and the build wants {BUILD_SPACE_MIB} MiB: remove what \
             you do not need",
            folder.display()
        );
    }
    Ok(())
}

fn available_mib(meminfo: &str) -> anyhow::Result<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("malformed /proc/meminfo")? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        let text = "MemTotal:       24683652 kB\nMemFree:  1 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(available_mib(text).unwrap(), 2048);
        assert!(available_mib("MemTotal: 1 kB\n").is_err());
    }
}
