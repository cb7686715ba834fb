//! Why a sandbox cannot be made.

use std::io;
use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_process::CommandError;

/// Why a sandbox or its tool image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file of the tool image or of the sandbox cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cgroup of the sandbox cannot be made or handed over.
    #[error("cannot make the cgroup {}", path.display())]
    Cgroup {
        /// Its folder, or a file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This process may not make sandboxes.
    #[error("cannot make sandboxes: this user is not root, and {reason}")]
    NotRoot {
        /// Why it cannot be root of a user namespace.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The kernel has no such feature, or does not permit it.
    #[error("cannot make sandboxes: {what}")]
    Kernel {
        /// What is missing.
        what: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// A first sandbox did not start.
    #[error("cannot make sandboxes: a trial failed: {reason}")]
    Trial {
        /// What its programs printed.
        reason: String,
    },
    /// There is no tool image yet.
    #[error("no tool image in {}", path.display())]
    NoTools {
        /// The folder that should have it.
        path: PathBuf,
    },
    /// The tool image was made by an earlier version of this program.
    #[error("the tool image in {} is of an earlier version", path.display())]
    OldTools {
        /// Its folder.
        path: PathBuf,
    },
    /// The folder is no tool image.
    #[error("invalid tool image {}: {reason}", path.display())]
    InvalidTools {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// mmdebstrap did not make the tool image.
    #[error("cannot make the tool image: {0}")]
    Make(#[source] CommandError),
}

/// The end of hints of errors that leave no safe way.
const UNSAFE: &str = "accept that jobs use the tools and files of this host as root: `--unsafe-host-tools`";

impl SandboxError {
    /// What failed, for a file.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn cgroup(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Cgroup { path, source }
    }

    /// Whose fault it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::InvalidTools { .. } => ErrorClass::UserFault,
            Self::NotRoot { .. } => ErrorClass::Denied,
            Self::Io { .. }
            | Self::Cgroup { .. }
            | Self::Kernel { .. }
            | Self::Trial { .. }
            | Self::NoTools { .. }
            | Self::OldTools { .. }
            | Self::Make(_) => ErrorClass::Unavailable,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => "check the free space and the permissions of this folder".to_owned(),
            Self::Cgroup { .. } => "run as a service with `Delegate=yes`, as root or in a session: `systemd-run --user --scope -p \
                 Delegate=yes edgewright …`"
                .to_owned(),
            Self::NotRoot { hint, .. } => format!("{hint}, run as root, or {UNSAFE}"),
            Self::Kernel { hint, .. } => format!("{hint}, or {UNSAFE}"),
            Self::Trial { .. } => format!(
                "run on a machine that may mount proc, sysfs and cgroup2 in a user namespace (containers often may \
                 not), or {UNSAFE}"
            ),
            Self::NoTools { path } => {
                format!("make it with `edgewright tools update --tools {}`", path.display())
            }
            Self::OldTools { path } | Self::InvalidTools { path, .. } => {
                format!("make it again with `edgewright tools update --tools {}`", path.display())
            }
            Self::Make(CommandError::NotFound { .. }) => "install the package mmdebstrap".to_owned(),
            Self::Make(_) => "check that the Debian mirror can be reached, then try again".to_owned(),
        })
    }
}
