//! Why there is no disk.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::error::ErrorClass;
use edgewright_oci::ClientError;
use edgewright_process::CommandError;
use edgewright_vm::{ChannelError, VmError};

use crate::order::{MAX_DISK_BYTES, MIN_DISK_BYTES};

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Out of range.
    #[error("invalid disk size of {0} bytes: from {MIN_DISK_BYTES} to {MAX_DISK_BYTES}")]
    Size(u64),
    /// A file cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The failed action.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The registry does not give the image.
    #[error("cannot pull the image")]
    Pull(#[source] Box<ClientError>),
    /// The image's documents are malformed.
    #[error("cannot read the image: {0}")]
    Document(String),
    /// An installer starts the image by its own initramfs.
    #[error("cannot make an installer of the image: it has no {0}")]
    NoInitramfs(String),
    /// A program of the host is missing or fails.
    #[error("cannot {action}")]
    Command {
        /// The failed action.
        action: &'static str,
        /// Why.
        source: CommandError,
    },
    /// There is no virtual machine of the image.
    #[error("cannot start a virtual machine of the image")]
    Vm(#[from] VmError),
    /// The machine does not answer, or ended before that.
    #[error("the virtual machine of the image does not start: {problem}")]
    NoStart {
        /// What is known.
        problem: String,
        /// The end of its console.
        console: String,
    },
    /// The machine ended while the installer ran.
    #[error("the virtual machine of the image failed: {problem}")]
    Machine {
        /// What is known.
        problem: String,
        /// The end of its console.
        console: String,
    },
    /// The connection to the guest is lost.
    #[error("cannot reach the virtual machine of the image")]
    Channel(#[from] ChannelError),
    /// The installer failed.
    #[error("the installer in the virtual machine failed: {0}")]
    Installer(String),
    /// It takes too long.
    #[error("the installation did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It was stopped.
    #[error("stopped")]
    Cancelled,
}

impl ProvisionError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Size(_)
            | Self::Document(_)
            | Self::NoInitramfs(_)
            | Self::Installer(_)
            | Self::NoStart { .. }
            | Self::Machine { .. } => ErrorClass::UserFault,
            Self::Vm(error) => error.class(),
            Self::Pull(error) => error.class(),
            _ => ErrorClass::Unavailable,
        }
    }

    /// The next action, if it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Vm(error) => error.hint(),
            Self::Pull(error) => error.hint(),
            Self::Command { source, .. } => source.hint().map(str::to_owned),
            Self::Installer(text) if text.contains("edgewright-agent: not found") => Some(
                "add the image parts to the image: see `Make disk images` in the documentation".to_owned(),
            ),
            Self::NoStart { console, .. } | Self::Machine { console, .. } if !console.is_empty() => {
                Some(format!("its console ends with:\n{console}"))
            }
            Self::Size(_) => Some("choose another `--size`, such as `--size 8GiB`".to_owned()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("remove it, or choose another `--output`".to_owned())
            }
            Self::Io { .. } => Some("check the free space and the permissions of this place".to_owned()),
            Self::NoInitramfs(_) => {
                Some("make it when the image is built: the image parts do (`Make disk images`)".to_owned())
            }
            Self::Document(_) => {
                Some("check the image by `edgewright image show`, build it again, and try again".to_owned())
            }
            Self::Installer(_) => Some("correct the image or the options that the message names".to_owned()),
            Self::NoStart { .. } | Self::Machine { .. } | Self::Channel(_) | Self::TimedOut(_) => Some(
                "try again when this host has less to do; `edgewright doctor` tries virtual machines"
                    .to_owned(),
            ),
            Self::Cancelled => None,
        }
    }
}
