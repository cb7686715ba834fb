//! From a program and its needs to the command that starts it in a sandbox.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use edgewright_process::Command;
use rustix::fs::{FileType, Mode};

use crate::cgroup::Cgroups;
use crate::config::{Config, KVM};
use crate::kept;
use crate::{SandboxError, ToolImage};

/// The first host ID of a sandbox: `/etc/subuid` of Debian begins there, too.
pub const FIRST_ID: u32 = 100_000;
/// How many IDs a sandbox has: those that images use.
pub const IDS: u32 = 65_536;
/// Where the program is in the sandbox.
pub(crate) const PROGRAM: &str = "/opt/edgewright/edgewright";

/// Where programs are, in the sandbox and on the host.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The init process of a sandbox.
const INIT: &str = "/usr/bin/catatonit";

/// Enters the cgroups, makes the mounts, and starts the runtime. `$1`: the table of mounts; `$2`: how many
/// files of cgroups follow, and those; then the runtime's command line. Each program that it starts takes
/// milliseconds, so there is only one for all mounts.
const ENTER: &str = r#"
table=$1; count=$2; shift 2
while [ "$count" -gt 0 ]; do echo 0 > "$1" || exit 70; shift; count=$((count - 1)); done
mount --all --fstab "$table" || exit 70
exec "$@"
"#;

/// The numbers of `/dev/kvm`, the same on all kernels.
const KVM_DEVICE: (u32, u32) = (10, 232);

/// Where the files and folders of the host get places that unprivileged IDs can reach, whatever the modes of
/// the folders above them.
const PLACES: &str = "/dev/shm";

/// Attaches a user-mode network to the sandbox's namespace, for as long as the sandbox's first process lives:
/// the runtime adopts what its hooks leave behind, and waits for it. Its hooks inherit blocked signals, so
/// only SIGKILL ends them. Standard input: the runtime's state, whose last line has no end. `$1`: addresses
/// that must not be reached, separated by spaces; `$2`: words of the `ip` command line, then those of
/// slirp4netns, which writes `1` once the network is ready, while the routes are made. The kernel ends the
/// `sleep` with the sandbox: the last of its processes.
const ATTACH: &str = r#"
pid=
while [ -z "$pid" ] && { IFS= read -r line || [ -n "$line" ]; }; do
  case $line in *'"pid":'*) line=${line#*'"pid":'}; line=${line#"${line%%[0-9]*}"}; pid=${line%%[!0-9]*};; esac
done
[ -n "$pid" ] || exit 1
blocked=$1; count=$2; shift 2
ip=; while [ "$count" -gt 0 ]; do ip="$ip $1"; shift; count=$((count - 1)); done
ready=$(
  "$@" --configure --mtu=65520 --disable-host-loopback --ready-fd=3 "$pid" tap0 3>&1 >/dev/null 2>&1 </dev/null &
  { nsenter --pid="/proc/$pid/ns/pid" sleep infinity; kill -9 $!; } >/dev/null 2>&1 </dev/null &
  for address in $blocked; do echo "route add unreachable $address"; done |
    nsenter --net="/proc/$pid/ns/net" $ip -batch - >/dev/null || echo failed
)
[ "$ready" = 1 ] || exit 1
"#;

/// A file or folder of the host in the sandbox. Its owner must be an ID of the sandbox where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub from: PathBuf,
    /// In the sandbox. The tool image must have it, or it must be below a folder in memory, such as `/run`.
    pub to: String,
    /// Whether the sandbox may write to it.
    pub writable: bool,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its own loopback only.
    None,
    /// Other machines, by a user-mode network: neither this host nor link-local addresses, where clouds keep
    /// credentials.
    Others,
}

/// What all processes of a sandbox may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Share of the processor, from 1 to 10,000; 100 is the share of any other service.
    pub cpu_weight: u32,
}

/// Makes sandboxes. Clones share the tool image.
#[derive(Debug, Clone)]
pub struct Sandbox {
    tools: ToolImage,
    folder: PathBuf,
}

/// What to run in a sandbox.
#[derive(Debug, Clone)]
pub struct Launch {
    /// A name that no other sandbox of the same [`Sandbox`] has at the same time.
    pub name: String,
    /// The program's file on the host.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Further environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Files and folders of the host.
    pub mounts: Vec<Mount>,
    /// What it may reach.
    pub network: Network,
    /// Whether it may run virtual machines on the processor, if the host has a device for that.
    pub kvm: bool,
    /// What it may take.
    pub bounds: Bounds,
}

/// A sandbox that is about to start. Dropping it kills what is left in it and removes its files; that blocks.
#[derive(Debug)]
pub struct Sandboxed {
    // In this order: processes end before their files go.
    cgroups: Cgroups,
    bundle: tempfile::TempDir,
    name: String,
    /// The words that start its runtime.
    runtime: Vec<OsString>,
}

impl Sandboxed {
    /// Leaves the sandbox running, for [`kept::list`], with a label that names what is in it.
    ///
    /// # Errors
    /// That cannot be noted: the sandbox ends.
    pub fn keep(self, label: &str) -> Result<(), SandboxError> {
        let Self { cgroups, bundle, name, runtime } = self;
        kept::note(bundle.path(), (name, label), &runtime, cgroups)?;
        let _ = bundle.keep();
        Ok(())
    }
}

impl Sandbox {
    /// Sandboxes whose configuration is kept in `folder` while they run.
    pub fn new(tools: ToolImage, folder: PathBuf) -> Self {
        Self { tools, folder }
    }

    /// The tool image.
    pub const fn tools(&self) -> &ToolImage {
        &self.tools
    }

    /// Where configuration is kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Prepares a sandbox and gives the command that starts it; it takes a few milliseconds and blocks.
    ///
    /// # Errors
    /// Its files or cgroups cannot be made.
    pub fn prepare(&self, launch: Launch) -> Result<(Command, Sandboxed), SandboxError> {
        std::fs::create_dir_all(&self.folder).map_err(SandboxError::io("create", &self.folder))?;
        let bundle = tempfile::tempdir_in(&self.folder)
            .map_err(SandboxError::io("create a folder in", &self.folder))?;
        let name = format!("{}{}", prefix(&self.folder), launch.name);
        let cgroups = Cgroups::make(&name, launch.bounds, FIRST_ID)?;
        let mut config = self.config(launch, bundle.path())?;
        let table = places(&mut config, bundle.path(), cgroups.covering().as_deref())?;
        let path = bundle.path().join("config.json");
        let text = config.document().to_string();
        std::fs::write(&path, text).map_err(SandboxError::io("write", &path))?;
        let mut words: Vec<OsString> =
            ["--mount", "--propagation", "private", "--", "/bin/sh", "-c", ENTER, "sh"]
                .map(OsString::from)
                .into();
        words.push(table.into());
        let entrances = cgroups.entrances();
        words.push(entrances.len().to_string().into());
        words.extend(entrances.into_iter().map(OsString::from));
        let runtime = self.tools.program("crun");
        words.extend_from_slice(&runtime);
        words.push("--root".into());
        words.push(bundle.path().join("state").into());
        words.extend(["--cgroup-manager=disabled", "run", "--bundle"].map(OsString::from));
        words.push(bundle.path().into());
        words.push(name.clone().into());
        // Without locales, whose files every program would read.
        // The runtime gives the files of its standard streams to root of the sandbox: none of them may be
        // `/dev/null`, which is the host's.
        let command = Command::new("unshare").args(words).stdin_bytes([]);
        let command = command.env("LC_ALL", "C").env("PATH", PATH);
        Ok((command, Sandboxed { cgroups, bundle, name, runtime }))
    }

    /// Ends what an earlier process left behind: sandboxes that still run, and their configuration in
    /// `folder`; those that are kept stay. Call it while no sandbox of this folder is in use, such as with
    /// the data folder's lock held. Returns how many sandboxes still ran.
    pub fn clear(folder: &Path) -> usize {
        kept::clear_others(folder)
    }

    fn config(&self, launch: Launch, bundle: &Path) -> Result<Config, SandboxError> {
        let mut mounts = launch.mounts;
        mounts.push(Mount { from: launch.program, to: PROGRAM.to_owned(), writable: false });
        let network = (launch.network == Network::Others).then(|| self.attach());
        if network.is_some() {
            // The resolver of the user-mode network, which asks the host's.
            let resolv = bundle.join("resolv.conf");
            std::fs::write(&resolv, "nameserver 10.0.2.3\n").map_err(SandboxError::io("write", &resolv))?;
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&resolv, open).map_err(SandboxError::io("open", &resolv))?;
            mounts.push(Mount { from: resolv, to: "/etc/resolv.conf".to_owned(), writable: false });
        }
        let mut environment = vec![format!("PATH={PATH}"), "HOME=/root".to_owned()];
        environment.extend(launch.environment);
        // The init process ends what a job leaves behind in its namespace.
        let command = [INIT, "--", PROGRAM].map(str::to_owned).into_iter().chain(launch.arguments).collect();
        Ok(Config {
            root: self.tools.root().to_owned(),
            command,
            environment,
            mounts,
            first_id: FIRST_ID,
            ids: IDS,
            network,
            kvm: (launch.kvm && Path::new(KVM).exists()).then(|| KVM.into()),
        })
    }

    fn attach(&self) -> Vec<String> {
        let words = |program| {
            let words = self.tools.program(program);
            words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<String>>()
        };
        let mut blocked: Vec<String> = own_addresses().iter().map(ToString::to_string).collect();
        blocked.push("169.254.0.0/16".to_owned());
        let ip = words("ip");
        let mut command: Vec<String> = ["/bin/sh", "-c", ATTACH, "sh"].map(str::to_owned).into();
        command.push(blocked.join(" "));
        command.push(ip.len().to_string());
        command.extend(ip);
        command.extend(words("slirp4netns"));
        command
    }
}

/// What the names of the sandboxes of a folder, and of their cgroups, begin with: other servers of this host
/// have other folders.
pub fn prefix(folder: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    format!("edgewright-{:016x}-", hasher.finish())
}

/// Names the root and the mounts of a configuration by their places below [`PLACES`], and writes the table of
/// mounts that brings them there. `cgroups`: what the runtime must see at `/sys/fs/cgroup`, if it is another
/// tree there.
fn places(config: &mut Config, bundle: &Path, cgroups: Option<&Path>) -> Result<PathBuf, SandboxError> {
    let empty = bundle.join("places");
    std::fs::create_dir(&empty).map_err(SandboxError::io("create", &empty))?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&empty, open).map_err(SandboxError::io("open", &empty))?;
    let mut table = Vec::new();
    if let Some(cgroups) = cgroups {
        add_mount(&mut table, cgroups, Path::new("/sys/fs/cgroup"), "bind");
    }
    add_mount(&mut table, &empty, Path::new(PLACES), "bind");
    let paths =
        std::iter::once(&mut config.root).chain(config.mounts.iter_mut().map(|mount| &mut mount.from));
    for (number, path) in paths.enumerate() {
        let (name, place) = (number.to_string(), Path::new(PLACES).join(number.to_string()));
        let inside = empty.join(name);
        let made = if path.is_dir() {
            std::fs::create_dir(&inside)
        } else {
            std::fs::File::create(&inside).map(drop)
        };
        made.map_err(SandboxError::io("create", &inside))?;
        add_mount(&mut table, path, &place, "rbind");
        *path = place;
    }
    if let Some(node) = &mut config.kvm {
        // A node of the sandbox's own, below a folder that only root enters: the host's is for a group that has
        // no ID in it.
        let inside = empty.join("kvm");
        let (kind, device) = (FileType::CharacterDevice, rustix::fs::makedev(KVM_DEVICE.0, KVM_DEVICE.1));
        match rustix::fs::mknodat(rustix::fs::CWD, &inside, kind, Mode::empty(), device) {
            Ok(()) => {
                let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
                std::fs::set_permissions(&inside, all).map_err(SandboxError::io("open", &inside))?;
                *node = Path::new(PLACES).join("kvm");
            }
            // In a user namespace no one makes nodes: the host's own, where all may use it.
            Err(rustix::io::Errno::PERM) => {}
            Err(error) => return Err(SandboxError::io("create", &inside)(error.into())),
        }
    }
    let path = bundle.join("mounts");
    std::fs::write(&path, table).map_err(SandboxError::io("write", &path))?;
    Ok(path)
}

/// Adds a line to a table of mounts: `fstab(5)`.
fn add_mount(table: &mut Vec<u8>, from: &Path, to: &Path, option: &str) {
    for path in [from, to] {
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => table.extend(format!("\\{byte:03o}").bytes()),
                byte => table.push(*byte),
            }
        }
        table.push(b' ');
    }
    table.extend(format!("none {option} 0 0\n").bytes());
}

/// The IPv4 addresses of this host but loopback.
pub fn own_addresses() -> Vec<IpAddr> {
    addresses_in(&std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
}

/// The local addresses in `/proc/net/fib_trie`.
fn addresses_in(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address: &IpAddr| !address.is_loopback())
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_table_of_mounts_have_no_separators() {
        let mut table = Vec::new();
        add_mount(&mut table, Path::new("/a b\\#\n"), Path::new("/dev/shm/0"), "rbind");
        assert_eq!(String::from_utf8(table).unwrap(), "/a\\040b\\134\\043\\012 /dev/shm/0 none rbind 0 0\n");
    }

    #[test]
    fn addresses_of_the_host_are_read_from_the_routing_table() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\nLocal:\n  \
                    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.7\n        /32 host LOCAL\n  \
                    |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 192.0.2.7\n        /32 host LOCAL\n";
        assert_eq!(addresses_in(trie), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(addresses_in("").is_empty());
    }
}
