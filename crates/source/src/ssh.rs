//! Who we are to an ssh remote, and who it is to us.

use std::path::{Path, PathBuf};

/// What is run where nothing is said: the keys and known hosts of the account that runs Edgewright, and no questions.
pub(crate) const PLAIN: &str = "ssh -o BatchMode=yes";

/// A key to log in with, and the host keys that are trusted, in place of the account's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshIdentity {
    key: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
}

/// Why a path cannot be handed to ssh.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be given to ssh: want an absolute path of letters, digits and `/._-+@`", .0.display())]
pub struct UnfitPath(PathBuf);

impl SshIdentity {
    /// A key file and a `known_hosts` file, each where it is given; none where neither is. The files are read by ssh when
    /// it needs them, not here.
    pub fn new(key: Option<PathBuf>, known_hosts: Option<PathBuf>) -> Result<Option<Self>, UnfitPath> {
        for path in key.iter().chain(&known_hosts) {
            if !is_fit(path) {
                return Err(UnfitPath(path.clone()));
            }
        }
        let is_empty = key.is_none() && known_hosts.is_none();
        Ok((!is_empty).then_some(Self { key, known_hosts }))
    }

    /// The command that git runs, in a shell.
    pub(crate) fn command(&self) -> String {
        // Without the further options ssh would try the account's own keys first, and other lists of hosts, too.
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

/// The path goes through a shell and through ssh, which expands `%`, `~` and `$`.
fn is_fit(path: &Path) -> bool {
    let fits = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    path.is_absolute() && path.to_str().is_some_and(|text| text.chars().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_mean_themselves() {
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
