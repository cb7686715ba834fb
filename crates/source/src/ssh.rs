//! The identity for an ssh remote, and the host keys that it must have.

use std::path::{Path, PathBuf};

/// The default command: the keys and known hosts of the account that runs Edgewright, without prompts.
pub(crate) const PLAIN: &str = "ssh -o BatchMode=yes";

/// A key for authentication, and the trusted host keys, in place of the account's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshIdentity {
    key: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
}

/// A path that cannot be passed to ssh.
#[derive(Debug, thiserror::Error)]
#[error("invalid path `{}` for ssh: expected an absolute path of letters, digits and `/._-+@`", .0.display())]
pub struct InvalidSshPath(PathBuf);

impl SshIdentity {
    /// A key file and a `known_hosts` file, both optional; `None` without any. ssh reads the files when
    /// it needs them.
    pub fn new(key: Option<PathBuf>, known_hosts: Option<PathBuf>) -> Result<Option<Self>, InvalidSshPath> {
        for path in key.iter().chain(&known_hosts) {
            if !is_fit(path) {
                return Err(InvalidSshPath(path.clone()));
            }
        }
        let is_empty = key.is_none() && known_hosts.is_none();
        Ok((!is_empty).then_some(Self { key, known_hosts }))
    }

    /// The command that git runs, in a shell.
    pub(crate) fn command(&self) -> String {
        // Without these options ssh would try the account's keys first, and use other lists of hosts, too.
        let key = self
            .key
            .as_ref()
            .map(|key| format!(" -i {} -o IdentitiesOnly=yes -o IdentityAgent=none", key.display()));
        let hosts = self.known_hosts.as_ref().map(|hosts| {
            format!(
                " -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o UpdateHostKeys=no",
                hosts.display()
            )
        });
        format!("{PLAIN}{}{}", key.unwrap_or_default(), hosts.unwrap_or_default())
    }
}

/// The path is parsed by a shell and by ssh, which expands `%`, `~` and `$`.
fn is_fit(path: &Path) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    path.is_absolute() && path.to_str().is_some_and(|text| text.chars().all(is_allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_without_special_characters_are_accepted() {
        let new = |key: &str| SshIdentity::new(Some(key.into()), None);
        assert_eq!(SshIdentity::new(None, None).unwrap(), None);
        let command = new("/etc/edgewright/deploy.key").unwrap().unwrap().command();
        assert_eq!(
            command,
            "ssh -o BatchMode=yes -i /etc/edgewright/deploy.key -o IdentitiesOnly=yes -o IdentityAgent=none"
        );
        for path in ["deploy.key", "/a b", "/a;reboot", "/%d/x", "/$HOME", "/a'b", "~/x"] {
            assert!(new(path).is_err(), "{path}");
        }
    }
}
