//! Updaters: what puts an image onto this device and chooses what boots.
//!
//! ```text
//!  missing ─▶ (the agent downloads) ─▶ stage ─▶ arm ─▶ reboot ─▶ health checks ─▶ bless ─▶ collect
//!                                                         └─ boot loader, after failed tries: the old image
//! ```
//!
//! An updater has no policy and no memory of its own: the agent's state machine decides, and every method can
//! be called again after a power cut at any point. What [`Updater::status`] returns is the truth that the
//! agent starts from.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::ImageReference;
use edgewright_oci::media::Descriptor;
use edgewright_oci::{ManifestBytes, layout::Layout};
use edgewright_process::{CancellationToken, CommandError};
use serde::{Deserialize, Serialize};

/// A boxed future, so that updaters can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An updater. Every method is idempotent, and safe to repeat after a power cut at any point of it.
pub trait Updater: Send + Sync + fmt::Debug {
    /// The name for `status` and reports: `composefs` or `bootc`.
    fn name(&self) -> &'static str;

    /// What is booted, what the boot loader falls back to, and what is staged. Changes nothing.
    fn status(&self) -> BoxFuture<'_, Result<Deployments, UpdateError>>;

    /// The layers of the image that this device does not have yet, in the order of the manifest, each once.
    /// The agent downloads them into the image's layout before [`Updater::stage`]. An updater that downloads
    /// by itself returns none.
    fn missing<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Vec<Descriptor>, UpdateError>>;

    /// Puts the image beside the booted one. It does not become the default: the next boot is unchanged.
    /// Repeating it resumes; a digest that is staged already is success. Another staged image is replaced.
    fn stage<'a>(
        &'a self,
        image: &'a Image,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), UpdateError>>;

    /// Lets the next boot try the staged digest, with the booted one as the fallback of the boot loader.
    fn arm<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), UpdateError>>;

    /// The booted digest is good: it is the default from now on, without boot counting.
    fn bless(&self) -> BoxFuture<'_, Result<(), UpdateError>>;

    /// Makes the fallback the default of the next boot.
    fn roll_back(&self) -> BoxFuture<'_, Result<(), UpdateError>>;

    /// Removes what neither the booted, the fallback nor the staged image needs. Returns the bytes that it
    /// freed, if known.
    fn collect(&self) -> BoxFuture<'_, Result<Option<u64>, UpdateError>>;
}

/// An image to stage: a platform manifest whose documents and downloaded layers are in an OCI layout.
#[derive(Debug, Clone)]
pub struct Image {
    /// The reference that this device follows.
    pub reference: ImageReference,
    /// The platform manifest. Its digest names the image in states, reports and boot entries.
    pub manifest: ManifestBytes,
    /// The image config, verified.
    pub config: bytes::Bytes,
    /// The digest of the index that the manifest came from, if the tag names one.
    pub index: Option<Digest>,
    /// The folder of the OCI layout: `blobs/sha256/HEX`. It has the manifest, the config and, before `stage`,
    /// every layer that `missing` returned, verified.
    pub layout: PathBuf,
}

impl Image {
    /// The digest of the platform manifest.
    pub const fn digest(&self) -> &Digest {
        &self.manifest.digest
    }

    /// The path of a blob in the layout.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        Layout::open(&self.layout).blob_path(digest)
    }

    /// Whether a digest names this image: that of its manifest, or of the index around it.
    pub fn is(&self, digest: &Digest) -> bool {
        self.digest() == digest || self.index.as_ref() == Some(digest)
    }
}

/// The deployments of this device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployments {
    /// What runs now; none if it was not installed by an updater.
    pub booted: Option<Deployment>,
    /// What [`Updater::roll_back`] and the boot loader return to.
    pub fallback: Option<Deployment>,
    /// What was staged, armed or not.
    pub staged: Option<Deployment>,
}

/// One deployed image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The digest of the platform manifest.
    pub digest: Digest,
    /// The reference that it was pulled by, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whether fs-verity protects its files.
    pub verity: bool,
    /// The name of its boot entry, such as `edgewright-3+2-1.conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The boots that are left to try it; none without boot counting, that is: once it is blessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_left: Option<u32>,
    /// Whether the boot loader will choose it at the next boot.
    #[serde(default)]
    pub is_next: bool,
}

/// Receives the progress of a long operation, and reports whether to stop.
pub struct Progress {
    report: Box<dyn Fn(Step<'_>) + Send + Sync>,
    cancel: CancellationToken,
}

/// One moment of a long operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What is done, such as `importing layer 3 of 7`.
    pub what: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
}

impl Progress {
    /// Progress that calls a function; `cancel` stops the operation at its next safe point.
    pub fn new(report: impl Fn(Step<'_>) + Send + Sync + 'static, cancel: CancellationToken) -> Self {
        Self { report: Box::new(report), cancel }
    }

    /// Progress that no one reads.
    pub fn quiet() -> Self {
        Self::new(|_| {}, CancellationToken::new())
    }

    /// Reports a moment.
    pub fn step(&self, what: &str, done: u64, total: Option<u64>) {
        (self.report)(Step { what, done, total });
    }

    /// The token that stops the operation.
    pub const fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// An error if the operation is to stop.
    pub fn check(&self) -> Result<(), UpdateError> {
        if self.cancel.is_cancelled() { Err(UpdateError::Cancelled) } else { Ok(()) }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("cancel", &self.cancel.is_cancelled()).finish_non_exhaustive()
    }
}

/// Why an updater failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// This device was not set up for the updater.
    #[error("this device has no {updater} deployment: {why}")]
    Unsupported {
        /// The updater's name.
        updater: &'static str,
        /// What is missing.
        why: String,
    },
    /// The file system has too little free space.
    #[error("too little free space on {}: {needed} bytes are needed, {free} are free", .path.display())]
    Space {
        /// A path on the file system.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The image cannot be used on any device; another try would find the same.
    #[error("invalid image {digest}: {problem}")]
    Image {
        /// The platform manifest.
        digest: Digest,
        /// What is wrong with it.
        problem: String,
    },
    /// A blob in the layout has other bytes than its digest demands, or is missing.
    #[error("corrupt blob {digest}")]
    Corrupt {
        /// The blob.
        digest: Digest,
    },
    /// The digest to arm is not staged.
    #[error("{digest} is not staged")]
    NotStaged {
        /// The digest.
        digest: Digest,
    },
    /// There is nothing to roll back to.
    #[error("there is no other image on this device to roll back to")]
    NoFallback,
    /// The operation was stopped.
    #[error("stopped")]
    Cancelled,
    /// A program of the updater failed.
    #[error("{what} failed")]
    Command {
        /// The operation.
        what: String,
        /// Why.
        source: CommandError,
    },
    /// A file cannot be read or written.
    #[error("cannot {what}")]
    Io {
        /// The operation and its path: `write /boot/loader/entries/…`.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A library or program of the updater returned something else.
    #[error("{what} failed: {problem}")]
    Backend {
        /// The operation.
        what: String,
        /// Why, with causes.
        problem: String,
    },
}

impl UpdateError {
    /// An error of a file, for `map_err`: `UpdateError::io(format!("read {}", path.display()))`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The class of the error. `UserFault` means that the image itself is unusable and is not tried again.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Image { .. } => ErrorClass::UserFault,
            Self::Unsupported { .. } | Self::NotStaged { .. } | Self::NoFallback => ErrorClass::Conflict,
            Self::Space { .. }
            | Self::Corrupt { .. }
            | Self::Cancelled
            | Self::Command { .. }
            | Self::Io { .. }
            | Self::Backend { .. } => ErrorClass::Unavailable,
        }
    }

    /// The next action, if it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { .. } => Some(
                "set `updater` in /etc/edgewright/agent.toml to what this device was installed with"
                    .to_owned(),
            ),
            Self::Space { path, .. } => Some(format!("free space on the file system of {}", path.display())),
            Self::Image { .. } => Some("fix the image and publish another digest".to_owned()),
            Self::NotStaged { .. } => Some("run `edgewright-agent update`".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updaters_are_chosen_at_run_time() {
        fn takes(_: &dyn Updater) {}
        let _ = takes;
    }

    #[test]
    fn a_stopped_operation_ends_with_an_error() {
        let progress = Progress::quiet();
        progress.check().unwrap();
        progress.cancel().cancel();
        assert!(matches!(progress.check(), Err(UpdateError::Cancelled)));
    }
}
