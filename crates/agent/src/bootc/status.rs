//! `bootc status --json`: `org.containers.bootc/v1` and `v1alpha1`, without what the agent does not use.
//! Fields of other versions are ignored, and missing ones have defaults.

use serde::Deserialize;

use crate::updater::{Deployment, Deployments};

/// The document.
#[derive(Debug, Deserialize)]
pub(super) struct Host {
    kind: String,
    #[serde(default)]
    spec: Spec,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    boot_order: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    staged: Option<Entry>,
    booted: Option<Entry>,
    rollback: Option<Entry>,
    rollback_queued: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    image: Option<ImageStatus>,
    download_only: bool,
    /// The name of `download_only` in earlier versions.
    finalization_locked: bool,
    ostree: Option<Ostree>,
    composefs: Option<Composefs>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageStatus {
    image: ImageReference,
    image_digest: String,
}

#[derive(Debug, Deserialize)]
struct ImageReference {
    image: String,
    #[serde(default)]
    transport: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ostree {
    checksum: String,
    #[serde(default)]
    deploy_serial: u32,
}

#[derive(Debug, Deserialize)]
struct Composefs {
    verity: String,
}

/// Why the document is unusable.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidStatus {
    #[error("malformed status: {0}")]
    Json(#[from] serde_json::Error),
    #[error("unknown kind `{0}`: expected `BootcHost`")]
    Kind(String),
}

impl Host {
    pub(super) fn parse(json: &[u8]) -> Result<Self, InvalidStatus> {
        let host: Self = serde_json::from_slice(json)?;
        if host.kind == "BootcHost" { Ok(host) } else { Err(InvalidStatus::Kind(host.kind)) }
    }

    pub(super) fn is_rollback_queued(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.rollback_queued)
            || self.spec.boot_order.as_deref() == Some("rollback")
    }

    pub(super) fn deployments(&self) -> Deployments {
        let Some(status) = &self.status else { return Deployments::default() };
        let is_back = self.is_rollback_queued();
        let staged_is_next =
            status.staged.as_ref().is_some_and(|entry| !entry.download_only && !entry.finalization_locked);
        let slot =
            |entry: &Option<Entry>, is_next| entry.as_ref().and_then(|entry| deployment(entry, is_next));
        Deployments {
            booted: slot(&status.booted, !is_back && !staged_is_next),
            fallback: slot(&status.rollback, is_back),
            staged: slot(&status.staged, !is_back && staged_is_next),
        }
    }
}

/// A deployment that was made from an image; none for those of plain ostree.
fn deployment(entry: &Entry, is_next: bool) -> Option<Deployment> {
    let image = entry.image.as_ref()?;
    let reference = match image.image.transport.as_str() {
        "" | "registry" => image.image.image.clone(),
        transport => format!("{transport}:{}", image.image.image),
    };
    let name = match (&entry.ostree, &entry.composefs) {
        (Some(ostree), _) => Some(format!("{}.{}", ostree.checksum, ostree.deploy_serial)),
        (None, Some(composefs)) => Some(composefs.verity.clone()),
        (None, None) => None,
    };
    Some(Deployment {
        digest: image.image_digest.parse().ok()?,
        reference: Some(reference),
        verity: entry.composefs.is_some(),
        entry: name,
        tries_left: None,
        is_next,
    })
}
