//! The git command line in an isolated environment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::names::CommitId;
use edgewright_process::{Command, CommandError, Output, ProcessContext};

use crate::cache::ContentCache;
use crate::error::SourceError;
use crate::meaning::{Meaning, complaint, meaning};
use crate::parse::{self, RemoteRefs};
use crate::remote::Remote;
use crate::ssh::{self, SshIdentity};

/// Time limit of a poll of a remote's refs.
const POLL_WITHIN: Duration = Duration::from_secs(30);
/// Time limit of local commands.
pub(crate) const LOCAL_WITHIN: Duration = Duration::from_mins(5);
/// Contents kept in memory for the next commit; in bytes.
const CACHE: usize = 64 * 1024 * 1024;

/// Settings for every call of git, including the `upload-pack` that serves `file://`, which gets neither
/// options nor `GIT_CONFIG_*` of its parent.
const SETTINGS: &str = "\
# Written by Edgewright; changes are lost.
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tautocrlf = false
\tfsync = all
\tfsyncMethod = batch
[gc]
\tauto = 0
[maintenance]
\tauto = false
[protocol \"ext\"]
\tallow = never
[protocol \"file\"]
\tallow = always
[http]
\tlowSpeedLimit = 1000
\tlowSpeedTime = 30
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
";

/// Calls git. Clones share the cache of contents and the ssh identities.
#[derive(Debug, Clone)]
pub struct Git {
    home: PathBuf,
    context: ProcessContext,
    settings: Vec<(String, String)>,
    /// By the remote's address.
    identities: Arc<Mutex<BTreeMap<String, SshIdentity>>>,
    pub(crate) cache: Arc<Mutex<ContentCache>>,
}

impl Git {
    /// Creates `home`, a folder for Edgewright only, and git's settings in it.
    pub fn open(home: &Path, context: ProcessContext) -> Result<Self, SourceError> {
        let path = home.join(".gitconfig");
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(home)?;
            if std::fs::read(&path).is_ok_and(|there| there == SETTINGS.as_bytes()) {
                return Ok(());
            }
            let mut file = tempfile::NamedTempFile::new_in(home)?;
            io::Write::write_all(&mut file, SETTINGS.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| SourceError::Io { path: path.clone(), source })?;
        let home = home.canonicalize().map_err(|source| SourceError::Io { path: home.to_owned(), source })?;
        Ok(Self {
            home,
            context,
            settings: Vec::new(),
            identities: Arc::default(),
            cache: Arc::new(Mutex::new(ContentCache::new(CACHE))),
        })
    }

    /// Adds a setting (`http.proxy`, `credential.helper`) to every call.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the identity for an ssh remote; `None`: the account that runs Edgewright. Applies to clones, too.
    pub fn identify(&self, remote: &Remote, identity: Option<SshIdentity>) {
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        match identity {
            Some(identity) => identities.insert(remote.address().to_owned(), identity),
            None => identities.remove(remote.address()),
        };
    }

    /// The home folder of Edgewright's git.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// A git command.
    pub(crate) fn command(&self) -> Command {
        self.with_settings(&[])
    }

    /// A git command that talks to a remote; its credentials go by environment, not on the command line.
    pub(crate) fn command_to(&self, remote: &Remote) -> Command {
        self.command_as(remote, remote, true)
    }

    /// A git command that talks to a submodule's remote with the ssh identity of its `source`. Without trust
    /// it follows no redirects.
    pub(crate) fn command_as(&self, remote: &Remote, source: &Remote, is_trusted: bool) -> Command {
        let mut settings = Vec::new();
        if let Some(value) = remote.authorization() {
            let name = format!("http.{}.extraHeader", remote.address());
            settings.push((name, format!("Authorization: {value}")));
        }
        if !is_trusted {
            settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
        }
        let identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        let ssh = identities.get(source.address()).map(SshIdentity::command);
        let ssh = ssh.as_deref().unwrap_or(ssh::PLAIN);
        let ssh = if is_trusted { ssh } else { "/bin/false" };
        self.with_settings(&settings).env("GIT_SSH_COMMAND", ssh)
    }

    fn with_settings(&self, more: &[(String, String)]) -> Command {
        let mut command = Command::new("git")
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.home.join("none"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", ssh::PLAIN)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .deadline(LOCAL_WITHIN)
            .context(&self.context);
        let settings = self.settings.iter().chain(more);
        for (index, (name, value)) in settings.clone().enumerate() {
            command = command
                .env(format!("GIT_CONFIG_KEY_{index}"), name)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command.env("GIT_CONFIG_COUNT", settings.count().to_string())
    }

    /// A remote's branches, without fetching anything.
    pub async fn poll(&self, remote: &Remote) -> Result<RemoteRefs, SourceError> {
        let output = self
            .command_to(remote)
            .args(["ls-remote", "--symref", "--", remote.address(), "HEAD", "refs/heads/*"])
            .deadline(POLL_WITHIN)
            .run()
            .await
            .map_err(|error| remote_error("poll the remote", remote, error))?;
        parse::ls_remote(&String::from_utf8_lossy(&output.stdout))
    }

    /// The heads of pull requests (GitHub, Gitea, Forgejo) and merge requests (GitLab), closed ones included,
    /// by their refs.
    pub async fn poll_pull_requests(
        &self,
        remote: &Remote,
    ) -> Result<BTreeMap<String, CommitId>, SourceError> {
        let patterns = ["refs/pull/*/head", "refs/merge-requests/*/head"];
        let output = self
            .command_to(remote)
            .args(["ls-remote", "--", remote.address()])
            .args(patterns)
            .deadline(POLL_WITHIN)
            .run()
            .await
            .map_err(|error| remote_error("poll the remote's pull requests", remote, error))?;
        parse::pull_requests(&String::from_utf8_lossy(&output.stdout))
    }

    /// Whether the folder is a bare repository, or the `.git` of one.
    pub(crate) fn looks_bare(folder: &Path) -> bool {
        folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir()
    }
}

/// Local git work on a repository's folder.
pub(crate) async fn local(
    doing: &'static str,
    folder: &Path,
    command: Command,
) -> Result<Output, SourceError> {
    command.run().await.map_err(|error| local_error(doing, folder, error))
}

pub(crate) fn local_error(doing: &'static str, folder: &Path, error: CommandError) -> SourceError {
    match meaning(error.stderr_tail()) {
        Meaning::Damaged => {
            SourceError::Damaged { folder: folder.to_owned(), detail: complaint(error.stderr_tail()) }
        }
        _ => SourceError::Git { doing, source: error },
    }
}

/// Whether a failed fetch may be caused by the content of the local folder.
pub(crate) fn suggests_damage(error: &CommandError) -> bool {
    error.ended().is_some() && matches!(meaning(error.stderr_tail()), Meaning::Damaged | Meaning::Unknown)
}

pub(crate) fn remote_error(doing: &'static str, remote: &Remote, error: CommandError) -> SourceError {
    let detail = complaint(error.stderr_tail());
    let remote = remote.clone();
    match (&error, meaning(error.stderr_tail())) {
        (CommandError::Deadline { after, .. }, _) => {
            SourceError::Unreachable { remote, detail: format!("no response within {after:?}") }
        }
        (_, Meaning::Unreachable) => SourceError::Unreachable { remote, detail },
        (_, Meaning::Refused) => SourceError::Refused { remote, detail },
        (_, Meaning::NoRepository) => SourceError::NoRepository { remote, detail },
        (_, Meaning::Damaged | Meaning::DiskFull | Meaning::Unknown) => {
            SourceError::Git { doing, source: error }
        }
    }
}

impl RemoteRefs {
    /// The default branch, or the requested one, with its commit.
    pub fn branch(
        &self,
        remote: &Remote,
        branch: Option<&str>,
    ) -> Result<(String, edgewright_model::names::CommitId), SourceError> {
        let name = branch.or(self.default_branch.as_deref()).unwrap_or("HEAD");
        if let Some(commit) = self.branches.get(name) {
            return Ok((name.to_owned(), commit.clone()));
        }
        if self.branches.is_empty() {
            return Err(SourceError::Empty { remote: remote.clone() });
        }
        Err(SourceError::NoBranch {
            remote: remote.clone(),
            branch: name.to_owned(),
            known: self.branches.keys().cloned().collect(),
        })
    }
}
