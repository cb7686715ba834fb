//! The configuration by which the OCI runtime makes a sandbox (OCI runtime specification 1.0, `config.json`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::launch::Mount;

/// Capabilities of root in the sandbox. They count in its own namespaces only: buildah and podman mount,
/// change owners and make network namespaces with them.
const CAPABILITIES: [&str; 19] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
];

/// Folders that are empty and writable, in memory: mode by path.
const MEMORY: [(&str, &str); 8] = [
    ("/run", "755"),
    ("/tmp", "1777"),
    ("/var/tmp", "1777"),
    ("/var/cache", "755"),
    ("/var/lib/containers", "755"),
    ("/var/lib/apt", "755"),
    ("/var/log", "755"),
    ("/root", "700"),
];

/// The device of user-mode networks.
const TUN: &str = "/dev/net/tun";

/// The device of virtual machines that run on the processor.
pub(crate) const KVM: &str = "/dev/kvm";

/// What a sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The tool image's root folder.
    pub(crate) root: PathBuf,
    /// The command, by paths of the sandbox.
    pub(crate) command: Vec<String>,
    /// Its environment, `NAME=VALUE`.
    pub(crate) environment: Vec<String>,
    /// Files and folders of the host.
    pub(crate) mounts: Vec<Mount>,
    /// The first of the host IDs that the sandbox's IDs are mapped to.
    pub(crate) first_id: u32,
    /// How many IDs.
    pub(crate) ids: u32,
    /// Attaches the network once the namespace exists: a program and its arguments; none: only loopback.
    pub(crate) network: Option<Vec<String>>,
    /// The device node for virtual machines; none: they are emulated.
    pub(crate) kvm: Option<PathBuf>,
}

impl Config {
    /// The document.
    pub(crate) fn document(&self) -> Value {
        let map = json!([{"containerID": 0, "hostID": self.first_id, "size": self.ids}]);
        let namespaces = ["user", "mount", "pid", "ipc", "uts", "network", "cgroup"];
        let hooks = self.network.as_ref().map(
            |command| json!({"createRuntime": [{"path": command.first(), "args": command, "timeout": 30}]}),
        );
        json!({
            "ociVersion": "1.0.0",
            "hostname": "job",
            "root": {"path": self.root, "readonly": true},
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "cwd": "/",
                "args": self.command,
                "env": self.environment,
                "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                },
                "noNewPrivileges": false,
            },
            "mounts": self.mounts(),
            "hooks": hooks.unwrap_or_else(|| json!({})),
            "linux": {
                "uidMappings": map,
                "gidMappings": map,
                "namespaces": namespaces.map(|kind| json!({"type": kind})),
                // The kernel refuses to mount another /proc, as containers in the sandbox need it, where a
                // part of this one is covered. What is not the sandbox's own is read-only for its IDs anyway.
                "maskedPaths": [],
                "readonlyPaths": [],
            },
        })
    }

    fn mounts(&self) -> Vec<Value> {
        let quiet = ["nosuid", "noexec", "nodev"];
        // In a host that is itself a container, the kernel permits no writable one.
        let fixed = ["nosuid", "noexec", "nodev", "ro"];
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": fixed}),
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup2", "options": quiet}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                   "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                   "options": ["nosuid", "nodev", "mode=1777"]}),
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet}),
        ];
        if self.network.is_some() {
            mounts.push(bind(Path::new(TUN), TUN, &["bind"]));
        }
        if let Some(node) = &self.kvm {
            mounts.push(bind(node, KVM, &["bind"]));
        }
        for (path, mode) in MEMORY {
            let mode = format!("mode={mode}");
            mounts.push(json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": [mode]}));
        }
        for mount in &self.mounts {
            let options: &[&str] = if mount.writable {
                &["rbind", "nosuid", "nodev"]
            } else {
                &["rbind", "ro", "nosuid", "nodev"]
            };
            mounts.push(bind(&mount.from, &mount.to, options));
        }
        mounts
    }
}

fn bind(from: &Path, to: &str, options: &[&str]) -> Value {
    json!({"destination": to, "type": "bind", "source": from, "options": options})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            root: "/tools/root".into(),
            command: vec!["/opt/edgewright/edgewright".to_owned()],
            environment: vec!["PATH=/usr/bin".to_owned()],
            mounts: vec![Mount { from: "/data/work".into(), to: "/work".to_owned(), writable: true }],
            first_id: 100_000,
            ids: 65_536,
            network: None,
            kvm: None,
        }
    }

    #[test]
    fn every_namespace_is_the_sandboxs_own_and_only_named_folders_of_the_host_are_there() {
        let document = config().document();
        let namespaces = document["linux"]["namespaces"].as_array().unwrap();
        assert_eq!(namespaces.len(), 7);
        assert!(namespaces.iter().all(|namespace| namespace.get("path").is_none()));
        assert_eq!(document["root"]["readonly"], true);
        let mounts = document["mounts"].as_array().unwrap();
        let binds: Vec<&str> = mounts
            .iter()
            .filter(|mount| mount["type"] == "bind")
            .map(|mount| mount["source"].as_str().unwrap())
            .collect();
        assert_eq!(binds, ["/data/work"]);
    }

    #[test]
    fn root_is_an_unprivileged_id_and_the_network_is_loopback_by_default() {
        let document = config().document();
        assert_eq!(document["linux"]["uidMappings"][0]["hostID"], 100_000);
        assert_eq!(document["hooks"], json!({}));
        let network = Some(vec!["/bin/sh".to_owned(), "attach".to_owned()]);
        let document = Config { network, kvm: Some("/dev/shm/2".into()), ..config() }.document();
        let mounts = document["mounts"].as_array().unwrap();
        assert!(
            mounts.iter().any(|mount| mount["destination"] == "/dev/kvm" && mount["source"] == "/dev/shm/2")
        );
        assert_eq!(document["hooks"]["createRuntime"][0]["path"], "/bin/sh");
    }
}
