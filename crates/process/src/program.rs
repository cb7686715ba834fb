//! The search path of programs, and what to install if one is missing.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Folders that hold system tools but are missing from many users' `PATH`.
const SYSTEM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Programs whose Debian package has another name.
const PACKAGES: [(&str, &str); 9] = [
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("chroot", "coreutils"),
    ("ip", "iproute2"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("gpg", "gnupg"),
];

/// The search path of every subprocess: this process's own, then the folders of the system.
pub(crate) static SEARCH_PATH: LazyLock<OsString> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "`PATH` is passed on to subprocesses, it is no setting")]
    let own = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&own).filter(|folder| folder.is_absolute()).collect();
    for folder in SYSTEM_FOLDERS.map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    std::env::join_paths(&folders).unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into())
});

/// The home folder of every subprocess.
pub(crate) static HOME: LazyLock<OsString> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "`HOME` is passed on to subprocesses, it is no setting")]
    std::env::var_os("HOME").unwrap_or_else(|| "/".into())
});

/// `setpriv`, which makes a subprocess die with its parent, if the host has it.
pub(crate) static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| which("setpriv"));

/// Ends this program and begins another in the same process: its ID, environment and open files stay. Returns
/// only if that fails. `environment` is added to its own.
pub fn replace(
    program: impl AsRef<OsStr>,
    arguments: &[OsString],
    environment: &[(&str, &OsStr)],
) -> std::io::Error {
    #[expect(clippy::disallowed_methods, reason = "no subprocess: this process itself, with all that it has")]
    std::process::Command::new(program).args(arguments).envs(environment.iter().copied()).exec()
}

/// Finds a program as a shell does: a name in the search path, anything with a `/` as a path. None if it is
/// missing or not executable.
pub fn which(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return runs(program).then(|| program.to_owned());
    }
    std::env::split_paths(&*SEARCH_PATH).map(|folder| folder.join(program)).find(|path| runs(path))
}

/// The hint for a missing program.
pub(crate) fn hint(program: &OsStr) -> String {
    let shown = program.to_string_lossy();
    if shown.contains('/') {
        return format!("make sure that `{shown}` exists and is executable");
    }
    let package = PACKAGES.iter().find(|(name, _)| *name == shown).map_or(&*shown, |(_, package)| package);
    format!("install it, on Debian with `apt-get install {package}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_and_names_packages() {
        assert!(which("sh").is_some_and(|path| path.is_absolute()));
        assert!(which("/bin/sh").is_some());
        for missing in ["no-such-program", "/etc/passwd", "/etc", ""] {
            assert_eq!(which(missing), None, "{missing}");
        }
        assert!(hint(OsStr::new("setpriv")).contains("util-linux"));
        assert!(hint(OsStr::new("buildah")).contains("apt-get install buildah"));
    }
}
