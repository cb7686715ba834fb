//! Why the lab cannot work on this host.

use std::io;
use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_process::CommandError;

/// Why the lab cannot work on this host.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is no podman.
    #[error("podman is not installed: apt-get install podman")]
    NoPodman,
    /// podman does not even say its version.
    #[error("podman does not work")]
    Podman(#[source] CommandError),
    /// No runtime starts a container.
    #[error("podman cannot start a container here; tried {}", .tried.join("; "))]
    NoRuntime {
        /// Each setting with what podman said.
        tried: Vec<String>,
    },
    /// The work folder's path cannot be handed to podman.
    #[error("the work folder's path {} has a comma, a colon or a line break: choose another data folder", .0.display())]
    UnfitFolder(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried: `write`, `create`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl LabError {
    /// Its class.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::UnfitFolder(_) => ErrorClass::UserFault,
            Self::NoPodman | Self::Podman(_) | Self::NoRuntime { .. } | Self::Io { .. } => {
                ErrorClass::Unavailable
            }
        }
    }

    /// What to do about it, where the message does not say it.
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
