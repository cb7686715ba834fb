//! Errors at the start of a server.

use std::net::SocketAddr;

use edgewright_control::ControlError;
use edgewright_control::hosting::HostingError;
use edgewright_model::error::ErrorClass;
use edgewright_registry::RegistryError;
use edgewright_source::SourceError;
use edgewright_store::StoreError;

use crate::folder::FolderError;
use crate::settings::SettingsError;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The operating system provides no randomness for tokens.
    #[error("cannot read random bytes")]
    Random(#[source] getrandom::Error),
    /// Control's database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry.
    #[error("cannot start the registry")]
    Registry(#[from] RegistryError),
    /// Control's client of the registry.
    #[error("cannot use the registry")]
    Hosting(#[from] HostingError),
    /// Git.
    #[error("cannot use git")]
    Git(#[from] SourceError),
    /// Control.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A secret, certificate or key of the settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client for external registries.
    #[error("cannot create the HTTP client for targets")]
    Targets(#[from] edgewright_control::outbound::replicate::ClientError),
    /// The client for sinks.
    #[error("cannot create the HTTP client for sinks")]
    Sinks(#[source] reqwest::Error),
}

impl StartError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Folder(error) => error.class(),
            Self::Listen { source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => ErrorClass::Conflict,
                std::io::ErrorKind::PermissionDenied => ErrorClass::Denied,
                _ => ErrorClass::UserFault,
            },
            Self::Random(_) | Self::Hosting(_) | Self::Sinks(_) => ErrorClass::Unavailable,
            Self::Settings(error) => error.class(),
            Self::Targets(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Git(error) => error.class(),
            Self::Control(error) => error.class(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => Some(error.hint()),
            Self::Listen { .. } => {
                Some("choose another one with --listen ADDRESS:PORT; port 0 takes any free port".to_owned())
            }
            Self::Git(error) => error.hint().map(str::to_owned),
            Self::Settings(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}
