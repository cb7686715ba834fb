//! Sandboxes of a user who is not root: this process starts again as the root of a user namespace.
//!
//! | ID in the namespace | on the host |
//! |---|---|
//! | 0 | the user, who owns the server's files |
//! | [`FIRST_ID`] and the next [`IDS`] | the user's ranges in `/etc/subuid` and `/etc/subgid`: sandboxes |
//!
//! In it the server works as it does for root, within what the kernel permits there: no device nodes, and
//! cgroups only where the user may write them (`Delegate=yes`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use edgewright_process::subordinate::{Range, User};

use crate::SandboxError;
use crate::launch::{FIRST_ID, IDS};

/// Switches by which kernels keep users out of user namespaces: the value that does, and what to do.
const SWITCHES: [(&str, &str, &str); 2] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "set `sysctl kernel.unprivileged_userns_clone=1`"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
];

/// A process that is about to start in a namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    unshare: PathBuf,
    uids: Range,
    gids: Range,
}

impl Entrance {
    /// The namespace that this user can make.
    ///
    /// # Errors
    /// The user has no ranges of [`IDS`] IDs, programs are missing, or the kernel does not permit it.
    pub fn find() -> Result<Self, SandboxError> {
        let not_root = |reason: String, hint: String| SandboxError::NotRoot { reason, hint };
        for (path, value, hint) in SWITCHES {
            if fs::read_to_string(path).is_ok_and(|text| text.trim() == value) {
                return Err(not_root("user namespaces are for root only".to_owned(), hint.to_owned()));
            }
        }
        let program = |name: &str, package: &str| {
            edgewright_process::which(name).ok_or_else(|| {
                not_root(format!("{name} is missing"), format!("install the package {package}"))
            })
        };
        let unshare = program("unshare", "util-linux")?;
        // `unshare` starts them: only they may write a user's ranges into a namespace.
        program("newuidmap", "uidmap")?;
        program("newgidmap", "uidmap")?;
        let user = User::current();
        let [uids, gids] = ["/etc/subuid", "/etc/subgid"].map(|path| range(&user, path));
        Ok(Self { unshare, uids: uids?, gids: gids? })
    }

    /// Starts `program` in the namespace, in place of this process. Returns only if that fails.
    pub fn enter(&self, program: &Path, arguments: impl IntoIterator<Item = OsString>) -> SandboxError {
        let error = edgewright_process::replace(&self.unshare, &self.words(program, arguments), &[]);
        SandboxError::io("start", &self.unshare)(error)
    }

    fn words(&self, program: &Path, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        // The form of util-linux before 2.39, which later versions understand, too.
        let map = |range: Range| format!("{},{FIRST_ID},{IDS}", range.first);
        let mut words: Vec<OsString> = ["--user", "--map-user=0", "--map-group=0"].map(OsString::from).into();
        words.push(format!("--map-users={}", map(self.uids)).into());
        words.push(format!("--map-groups={}", map(self.gids)).into());
        words.push("--".into());
        words.push(program.into());
        words.extend(arguments);
        words
    }
}

fn range(user: &User, path: &str) -> Result<Range, SandboxError> {
    let name = &user.name;
    user.largest_range(path).filter(|range| range.count >= IDS).ok_or_else(|| SandboxError::NotRoot {
        reason: format!("{path} has no range of {IDS} IDs for {name}"),
        hint: format!(
            "add one of its own, such as `usermod --add-subuids 200000-265535 --add-subgids \
                 200000-265535 {name}`"
        ),
    })
}

/// Whether this process is the root of such a namespace, and not of the host or a container.
pub fn is_inside() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|text| is_map(&text))
}

/// Whether a map of IDs is that of an [`Entrance`]: this user, and the range of sandboxes.
fn is_map(text: &str) -> bool {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let (first, ids) = (FIRST_ID.to_string(), IDS.to_string());
    match lines.as_slice() {
        [own, sandboxes] => {
            matches!(own[..], ["0", outside, "1"] if outside != "0")
                && matches!(sandboxes[..], [start, _, count] if start == first && count == ids)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_range_becomes_that_of_sandboxes() {
        let range = |first| Range { first, count: 200_000 };
        let entrance = Entrance { unshare: "/usr/bin/unshare".into(), uids: range(300_000), gids: range(7) };
        let words = entrance.words(Path::new("/usr/bin/edgewright"), ["serve".into()]);
        let shown: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            shown.join(" "),
            "--user --map-user=0 --map-group=0 --map-users=300000,100000,65536 --map-groups=7,100000,65536 \
             -- /usr/bin/edgewright serve"
        );
    }

    #[test]
    fn only_a_namespace_of_ours_is_one() {
        assert!(is_map("         0        999          1\n    100000     300000      65536\n"));
        for other in [
            "         0          0 4294967295\n",
            "0 0 1\n100000 300000 65536\n",
            "0 1000 1\n1 100000 65536\n",
            "0 1000 1\n",
            "0 100000 65536\n",
            "",
        ] {
            assert!(!is_map(other), "{other}");
        }
    }
}
