//! The node's two ways out: a pair of interfaces to the host, and a user-mode network to everything else.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Node;
use crate::cluster::place::Place;
use crate::command::Run;

/// How long slirp4netns may take to make its interface.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// The networks that clusters choose from are `10.99.N.0/24`.
const NETWORKS: u32 = 256;
/// Where the node reaches the host's loopback interface, by slirp4netns.
const LOOPBACK: &str = "10.0.2.2";
/// The name server of slirp4netns, which asks the host's.
pub(super) const NAME_SERVER: &str = "10.0.2.3";
/// Names by which node and pods reach the host.
pub(crate) const HOST_NAME: &str = "host.edgewright.internal";
const LOOPBACK_NAME: &str = "loopback.edgewright.internal";

/// The two ends of the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) node: String,
    pub(crate) host: String,
}

impl Addresses {
    fn of(number: u32) -> Self {
        Self { node: format!("10.99.{number}.1"), host: format!("10.99.{number}.254") }
    }

    /// Addresses that this machine does not use: the same ones for the same place, as a rule.
    pub(super) fn choose(place: &Place) -> anyhow::Result<Self> {
        let used = Run::new("ip").args(["-4", "-oneline", "address"]).output()?;
        let start = place.network();
        let free = (0..NETWORKS)
            .map(|step| start.wrapping_add(step) % NETWORKS)
            .find(|number| is_free(&used, *number));
        free.map(Self::of).context("all networks 10.99.N.0/24 are in use on this machine: end other clusters")
    }

    /// The lines of `/etc/hosts` on the node, and what the cluster's name server knows of the host.
    pub(super) fn hosts(&self) -> String {
        format!(
            "127.0.0.1 localhost\n{} node\n{} {HOST_NAME}\n{LOOPBACK} {LOOPBACK_NAME}\n",
            self.node, self.host
        )
    }
}

fn is_free(used: &str, number: u32) -> bool {
    !used.contains(&format!("inet 10.99.{number}."))
}

impl Node {
    /// Attaches both.
    pub(super) fn attach_network(&self, process: u32) -> anyhow::Result<()> {
        let (interface, addresses) = (self.place.interface(), &self.addresses);
        let ip = |arguments: &[&str]| Run::as_root("ip")?.args(arguments).run();
        let peer = process.to_string();
        ip(&["link", "add", &interface, "type", "veth", "peer", "name", "eth0", "netns", &peer])
            .context("cannot make a pair of network interfaces: does this kernel have `veth`")?;
        ip(&["address", "add", &format!("{}/24", addresses.host), "dev", &interface])?;
        ip(&["link", "set", &interface, "up"])?;
        let inside = |arguments: &[&str]| Place::inside(process)?.arg("ip").args(arguments).run();
        inside(&["address", "add", &format!("{}/24", addresses.node), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        let log = self.place.file("slirp4netns.log");
        let mut child = self.script("attach", &[&self.place.cgroup(), &peer])?.start_logged(&log)?;
        let deadline = Instant::now() + ATTACH_LIMIT;
        while !Place::inside(process)?.args(["ip", "route", "show", "default"]).output()?.contains("tap0") {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("slirp4netns does not attach a network: {}", std::fs::read_to_string(&log)?.trim());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Removes the host's end, if the kernel has not done so yet.
pub(super) fn remove(place: &Place) -> anyhow::Result<()> {
    let interface = place.interface();
    Run::as_root("ip")?.args(["link", "delete", &interface]).succeeds();
    if Run::new("ip").args(["link", "show", &interface]).succeeds() {
        bail!("cannot remove the network interface {interface}: run `ip link delete {interface}` as root");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_in_use_are_recognised() {
        let used =
            "1: lo    inet 127.0.0.1/8 scope host lo\n7: ew1    inet 10.99.7.254/24 scope global ew1\n";
        assert!(!is_free(used, 7));
        assert!(is_free(used, 70) && is_free(used, 0));
    }
}
