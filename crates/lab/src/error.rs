//! Why the lab cannot work on this host.

use std::io;
use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_process::CommandError;

/// Why the lab cannot work on this host.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is no podman.
    #[error("podman is not installed")]
    NoPodman,
    /// `podman --version` fails.
    #[error("podman does not work")]
    Podman(#[source] CommandError),
    /// No runtime starts a container.
    #[error("podman cannot start a container here; tried {}", .tried.join("; "))]
    NoRuntime {
        /// Each setting with podman's reason.
        tried: Vec<String>,
    },
    /// podman cannot use the path of the work folder.
    #[error("invalid path of the work folder {}: it has a comma, a colon or a line break", .0.display())]
    InvalidFolder(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The failed action: `write`, `create`.
        action: &'static str,
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl LabError {
    /// Its class.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::InvalidFolder(_) => ErrorClass::UserFault,
            Self::NoPodman | Self::Podman(_) | Self::NoRuntime { .. } | Self::Io { .. } => {
                ErrorClass::Unavailable
            }
        }
    }

    /// The next action, in the imperative.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRuntime { .. } => Some(
                "make `podman run` work (apt-get install runc often does), or name a containers.conf by CONTAINERS_CONF",
            ),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
