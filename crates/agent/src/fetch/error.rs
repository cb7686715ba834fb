//! Errors of downloads.

use std::path::PathBuf;

use edgewright_model::error::Chain;
use edgewright_oci::ClientError;
use edgewright_oci::image::ImageError;

use crate::blocking::Stopped;
use crate::machine::{Problem, ProblemKind};

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No source delivered it; there is at least one error.
    #[error("cannot download {what}")]
    Sources {
        /// What.
        what: String,
        /// The errors, by source, in the order of the attempts.
        errors: Vec<ClientError>,
    },
    /// The registry or its credentials are unusable.
    #[error("invalid registry settings")]
    Settings(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no image for this device's platform, or its documents are malformed.
    #[error("unusable image {what}")]
    Image {
        /// Its digest or reference.
        what: String,
        /// Why.
        source: ImageError,
    },
    /// The disk has too little free space.
    #[error("too little free space on {}: {needed} bytes are needed, {free} are free", .path.display())]
    Space {
        /// The folder.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A file cannot be read or written.
    #[error("cannot access {}", .path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The download was stopped.
    #[error("the download was stopped")]
    Cancelled,
}

impl From<Stopped> for FetchError {
    fn from(_: Stopped) -> Self {
        Self::Cancelled
    }
}

impl FetchError {
    pub(super) fn local(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Space { path, needed: 1, free: 0 }
            }
            _ => Self::Local { path, source },
        }
    }

    /// The kind of problem. What the registry itself answers counts more than a mirror that is out of reach.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::Sources { errors, .. } => {
                let kinds: Vec<ProblemKind> = errors.iter().map(kind_of).collect();
                let order = [ProblemKind::Denied, ProblemKind::Corrupt, ProblemKind::NotFound];
                order.into_iter().find(|kind| kinds.contains(kind)).unwrap_or(ProblemKind::Unreachable)
            }
            Self::Image { .. } => ProblemKind::Image,
            Self::Space { .. } => ProblemKind::Space,
            Self::Settings(_) | Self::Local { .. } | Self::Cancelled => ProblemKind::Local,
        }
    }

    /// The problem for the state.
    pub fn problem(&self) -> Problem {
        let kind = self.kind();
        let mut message = Chain(self).to_string();
        let mut hint = None;
        if let Self::Sources { errors, .. } = self {
            let causes: Vec<String> = errors.iter().map(|error| Chain(error).to_string()).collect();
            message = format!("{message}: {}", causes.join("; "));
            hint = errors.iter().find(|error| kind_of(error) == kind).and_then(ClientError::hint);
        }
        let hint = match kind {
            ProblemKind::Denied => Some(
                "check the credentials in /etc/edgewright/auth.json; the running image is kept".to_owned(),
            ),
            ProblemKind::Space => {
                Some("free space for updates, then run `edgewright-agent check`".to_owned())
            }
            // A clock that is wrong makes every certificate invalid.
            ProblemKind::Unreachable if message.contains("certificate") => Some(
                "check this device's clock (`timedatectl`) and `ca_file` in /etc/edgewright/agent.toml"
                    .to_owned(),
            ),
            ProblemKind::Unreachable => hint.or_else(|| {
                Some("check the registry and the network; this device tries again by itself".to_owned())
            }),
            _ => hint,
        };
        Problem { kind, message, hint, failures: 0, since: None }
    }
}

fn kind_of(error: &ClientError) -> ProblemKind {
    match error {
        ClientError::Denied { .. } => ProblemKind::Denied,
        ClientError::NotFound { .. } => ProblemKind::NotFound,
        ClientError::Corrupt { .. } | ClientError::TooLarge { .. } => ProblemKind::Corrupt,
        _ => ProblemKind::Unreachable,
    }
}
