//! A clean Debian with systemd as process 1, in a container without a network. Packages that the guides
//! install are in its apt cache, so that apt works as it does with a mirror.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_process::{Command, Finished};

/// What the machine has before anything is installed: a server with ssh, and the forge of the guide, which is
/// the same machine under another name. runc is for hosts on which crun does not work.
const PACKAGES: &str =
    "systemd-sysv,dbus,ca-certificates,openssh-server,curl,openssl,iproute2,runc,busybox-static";
const SUITE: &str = "trixie";
/// How the machine is prepared; its digest is part of the cached file's name.
const PREPARE: &str = include_str!("prepare.sh");
/// The longest time of one step of a guide, on a machine that is busy with much else.
const STEP: Duration = Duration::from_mins(5);

/// A variable of the test's environment.
#[expect(clippy::disallowed_methods, reason = "the one place where these tests read the environment")]
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A machine that runs; it is removed at the end of its scope.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// Unpacks the clean root below `folder`. Files can be added before [`Self::boot`].
    pub(crate) async fn unpack(folder: &Path, dependencies: &[String]) -> Self {
        let tar = clean_root(dependencies).await;
        let machine = Self { folder: folder.to_owned() };
        fs::create_dir(machine.root()).unwrap();
        let command = Command::new("tar").args(["--extract", "--file"]).arg(tar).arg("--directory");
        command.arg(machine.root()).deadline(STEP).run().await.unwrap();
        machine
    }

    /// Starts systemd and waits until it has started everything.
    pub(crate) async fn boot(&self) {
        let conf = containers_conf();
        fs::write(self.folder.join("containers.conf"), &conf).unwrap();
        // Containers inside of the machine have the same limits.
        fs::write(self.root().join("etc/containers.conf"), &conf).unwrap();
        fs::write(self.root().join("etc/default/edgewright"), "CONTAINERS_CONF=/etc/containers.conf\n")
            .unwrap();
        let command = self
            .podman()
            .args(["run", "--detach", "--name", "machine", "--systemd=always", "--network", "none"])
            .args(["--add-host", "images.example.org:127.0.0.1", "--add-host", "git.example.org:127.0.0.1"])
            .args(["--cgroupns=private", "--cap-add", "all", "--security-opt", "seccomp=unconfined"])
            .args(["--security-opt", "apparmor=unconfined", "--security-opt", "unmask=ALL"])
            // On a host with control groups of version 1, systemd would mount more of them, for the whole
            // host.
            .args(["--security-opt", "mask=/proc/cgroups"])
            .arg("--rootfs")
            .args([self.root().as_os_str(), "/sbin/init".as_ref()]);
        command.deadline(STEP).run().await.unwrap_or_else(|error| panic!("{error:?}"));
        self.until("systemctl is-system-running").await;
        // On a host with control groups of version 1, this container cannot mount a cgroup2 tree for sandboxes:
        // jobs use the machine's own programs.
        let unit = "/run/systemd/system/edgewright.service.d";
        let start = "[Service]\\nExecStart=\\nExecStart=/usr/bin/edgewright serve --unsafe-host-tools\\n";
        self.run(&format!("mkdir -p {unit}; printf '{start}' > {unit}/test.conf")).await;
        // Of version 1: containers inside of the machine need groups of their own below the machine's.
        let groups = "findmnt --raw --noheadings --output TARGET --types cgroup";
        self.run(&format!("for one in $({groups}); do mount -o remount,bind,rw $one; done")).await;
    }

    /// The machine's root folder on this host.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Runs a script as a user in a folder.
    pub(crate) async fn script(&self, user: &str, folder: &str, script: &str) -> Finished {
        // By a file: a command of the script that reads its standard input must not read the script.
        fs::write(self.root().join("opt/script"), script).unwrap();
        let command = self.podman().args(["exec", "--user", user, "--workdir", folder]);
        let command = command.args(["--env", "DEBIAN_FRONTEND=noninteractive", "machine"]);
        command.args(["bash", "-euo", "pipefail", "/opt/script"]).deadline(STEP).run_status().await.unwrap()
    }

    /// Runs a script of root that must succeed; its standard output.
    pub(crate) async fn run(&self, script: &str) -> String {
        let finished = self.script("root", "/root", script).await;
        if !finished.success() {
            self.fail(script, &finished).await;
        }
        finished.output.text()
    }

    /// Repeats a command until it succeeds.
    pub(crate) async fn until(&self, command: &str) {
        self.run(&format!("for i in $(seq 240); do if {command}; then exit 0; fi; sleep 0.5; done; exit 1"))
            .await;
    }

    /// Ends the test with what is known about a failed script.
    pub(crate) async fn fail(&self, title: &str, finished: &Finished) -> ! {
        let journal = "systemctl --failed --no-pager; journalctl --no-pager --lines 80; edgewright run show 1; \
                       edgewright logs 1 | tail -n 30";
        let journal = self.script("root", "/", journal).await;
        panic!(
            "{title}: {:?}\n{}\n{}\n--- the machine:\n{}",
            finished.ended,
            String::from_utf8_lossy(&finished.output.stdout),
            finished.output.stderr_tail.join("\n"),
            String::from_utf8_lossy(&journal.output.stdout)
        );
    }

    fn podman(&self) -> Command {
        let path = |name: &str| self.folder.join(name).into_os_string();
        Command::new("podman").args(self.storage()).env("CONTAINERS_CONF", path("containers.conf"))
    }

    fn storage(&self) -> Vec<OsString> {
        let path = |name: &str| self.folder.join(name).into_os_string();
        let options = [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")];
        options.into_iter().flat_map(|(option, name)| [option.into(), path(name)]).collect()
    }
}

impl Drop for Machine {
    #[expect(clippy::disallowed_methods, reason = "no runtime waits here, and nothing may be left behind")]
    fn drop(&mut self) {
        let mut command = std::process::Command::new("podman");
        command.args(self.storage()).args(["rm", "--force", "--ignore", "--time", "0", "machine"]);
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        if let Err(error) = command.output() {
            eprintln!("cannot remove the machine: {error}");
        }
        // podman mounts this folder on itself, and leaves the mount behind.
        let overlay = self.folder.join("storage/overlay");
        drop(std::process::Command::new("umount").arg("--lazy").arg(overlay).output());
    }
}

/// Settings of podman as on hosts where crun fails, harmless elsewhere: no limit may be above the one of this
/// process.
fn containers_conf() -> String {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limits.maximum.unwrap_or(65_536).min(65_536);
    format!(
        "[engine]\nruntime = \"runc\"\n[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc=32768:32768\"]\n"
    )
}

/// The clean root as a tar, made once for what it contains.
async fn clean_root(dependencies: &[String]) -> PathBuf {
    let home = || environment("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = environment("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap().join("edgewright");
    fs::create_dir_all(&cache).unwrap();
    let dependencies = dependencies.join(" ");
    let contents = Digest::of(format!("{PACKAGES}\n{dependencies}\n{PREPARE}").as_bytes());
    let tar = cache.join(format!("machine-{SUITE}-{}.tar", contents.short()));
    if !tar.is_file() {
        let made = tempfile::Builder::new().suffix(".tar").tempfile_in(&cache).unwrap();
        let prepare = tempfile::NamedTempFile::new_in(&cache).unwrap();
        fs::write(prepare.path(), PREPARE).unwrap();
        let hook = format!("sh {} \"$1\" {dependencies}", prepare.path().display());
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--skip=cleanup/apt"])
            .arg(format!("--include={PACKAGES}"))
            .arg(format!("--customize-hook={hook}"))
            .arg(SUITE)
            .arg(made.path())
            .deadline(Duration::from_mins(10))
            .run()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        made.persist(&tar).unwrap();
    }
    tar
}
