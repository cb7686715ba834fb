//! Why there is no virtual machine.

use std::io;
use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_oci::ClientError;
use edgewright_oci::layer::LayerError;
use edgewright_process::CommandError;

/// Why there is no virtual machine, or why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The failed action: `write`, `create`.
        action: &'static str,
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A program of the host is missing or fails.
    #[error("cannot {action}")]
    Command {
        /// The failed action.
        action: &'static str,
        /// Why.
        source: CommandError,
    },
    /// The registry does not give the image.
    #[error("cannot pull the image")]
    Pull(#[source] Box<ClientError>),
    /// The registry does not take a machine.
    #[error("cannot push the machine")]
    Push(#[source] Box<ClientError>),
    /// A layer is malformed, or the disk is full.
    #[error("cannot read the image's layers")]
    Layers(#[source] LayerError),
    /// The image cannot be a virtual machine.
    #[error("{message}")]
    Image {
        /// What is wrong.
        message: String,
        /// The next action, in the imperative.
        hint: Option<&'static str>,
    },
    /// The host cannot run it.
    #[error("{0}")]
    Host(String),
    /// QEMU ended before the guest did anything.
    #[error("QEMU does not start: {0}")]
    Qemu(String),
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
}

impl VmError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        if self.is_of_image() { ErrorClass::UserFault } else { ErrorClass::Unavailable }
    }

    /// Whether the image is the cause, so that a retry fails again.
    pub fn is_of_image(&self) -> bool {
        match self {
            Self::Image { .. } => true,
            Self::Layers(error) => error.is_content(),
            _ => false,
        }
    }

    /// The next action, in the imperative.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image { hint, .. } => hint.map(str::to_owned),
            Self::Command { source, .. } => source.hint().map(str::to_owned),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn command(action: &'static str) -> impl FnOnce(CommandError) -> Self {
        move |source| match source {
            CommandError::Cancelled { .. } => Self::Cancelled,
            source => Self::Command { action, source },
        }
    }

    pub(crate) fn image(message: impl Into<String>, hint: &'static str) -> Self {
        Self::Image { message: message.into(), hint: Some(hint) }
    }
}
