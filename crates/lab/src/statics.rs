//! The `static` lane: what can be said of an image without running it.
//!
//! Its findings are checks of its own, always the same; the image's own checks need a running system and are skipped.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use edgewright_model::error::Chain;
use edgewright_model::order::{LaneOrder, ManifestRef};
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::Reference;
use edgewright_model::verdict::{CheckOutcome, CheckResult};
use edgewright_oci::client::QUIET;
use edgewright_oci::{image, layer};

use crate::container::Trouble;
use crate::lane::LabContext;
use crate::rootfs::RootFs;
use crate::verdict::milliseconds;

/// Most paths that a message names.
const NAMED: usize = 5;

/// Looks through the layers. The results of the lane's own checks, or why there are none.
pub(crate) async fn examine(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
) -> Result<Vec<CheckResult>, Trouble> {
    let start = Instant::now();
    let read = tokio::time::timeout(order.within.get(), read_layers(manifest, context));
    let cancelled = context.processes.cancel().cancelled();
    let rootfs = tokio::select! {
        read = read => read.map_err(|_| trouble(format!("the time limit of {} is over", order.within)))??,
        () = cancelled => return Err(trouble("the job was cancelled".to_owned())),
    };
    Ok(judge(&rootfs, start.elapsed()))
}

async fn read_layers(manifest: &ManifestRef, context: &LabContext) -> Result<RootFs, Trouble> {
    let by_digest = Reference::Digest(manifest.digest.clone());
    let pulled = context.client.pull_manifest(&manifest.repository, &by_digest).await;
    let pulled =
        pulled.map_err(|error| trouble(format!("the manifest cannot be read: {}", Chain(&error))))?;
    let layers = image::layers(&pulled.bytes);
    let layers = layers.map_err(|error| trouble(format!("the manifest has no layers: {}", Chain(&error))))?;
    let mut rootfs = RootFs::default();
    let scratch = tempfile::tempdir_in(&context.scratch)
        .map_err(|error| trouble(format!("no scratch folder in {}: {error}", context.scratch.display())))?;
    for descriptor in layers {
        let path = scratch.path().join(descriptor.digest.hex());
        let pulled =
            context.client.pull_blob_file(&manifest.repository, &descriptor.digest, &path, QUIET).await;
        pulled.map_err(|error| trouble(format!("a layer cannot be read: {}", Chain(&error))))?;
        let media_type = descriptor.media_type.clone();
        let laid = tokio::task::spawn_blocking(move || lay(rootfs, &path, &media_type)).await;
        rootfs = laid.map_err(|error| trouble(format!("reading a layer broke off: {error}")))??;
    }
    Ok(rootfs)
}

/// Lays a layer's file over and removes it.
fn lay(mut rootfs: RootFs, path: &Path, media_type: &str) -> Result<RootFs, Trouble> {
    let broken = |reason: String| trouble(format!("a layer cannot be unpacked: {reason}"));
    let file = File::open(path).map_err(|error| broken(error.to_string()))?;
    let tar = layer::decompress(file, media_type).map_err(|error| broken(Chain(&error).to_string()))?;
    rootfs.apply(tar).map_err(|error| broken(error.to_string()))?;
    // What stays goes with the scratch folder.
    let _ = fs::remove_file(path);
    Ok(rootfs)
}

fn trouble(message: String) -> Trouble {
    Trouble { kind: FailureKind::Infrastructure, message }
}

/// The lane's own checks.
fn judge(rootfs: &RootFs, took: Duration) -> Vec<CheckResult> {
    let (whole, incomplete) = rootfs.kernels();
    let kernel = match (whole.len(), incomplete.as_slice()) {
        (1, []) => None,
        (0, []) => Some("no kernel under usr/lib/modules: the image cannot boot a machine".to_owned()),
        (_, [version, ..]) => {
            Some(format!("usr/lib/modules/{version} has no vmlinuz or no initramfs.img beside it"))
        }
        _ => Some(format!("more than one kernel: {}; a bootable image has exactly one", whole.join(", "))),
    };
    let keys: Vec<&str> = rootfs.keys().iter().map(String::as_str).collect();
    let found = [
        ("kernel", kernel),
        ("secrets", named(&keys, "private keys in the image's layers: ")),
        (
            "machine-id",
            named(&rootfs.machine_ids(), "every machine would have the same id; empty these files: "),
        ),
        ("units", named(&rootfs.dangling_units(), "enabled units that the image does not have: ")),
    ];
    let result = |(id, fault): (&str, Option<String>)| {
        let failed = |message| CheckOutcome::Failed { kind: FailureKind::Image, message, output: Vec::new() };
        // The ids are fit by their own grammar.
        let id = id.parse().ok()?;
        let outcome = fault.map_or(CheckOutcome::Passed, failed);
        Some(CheckResult { id, outcome, duration_ms: milliseconds(took), tries: 1, notes: Vec::new() })
    };
    found.into_iter().filter_map(result).collect()
}

/// A message that names the first few; none where there are none.
fn named(paths: &[&str], what: &str) -> Option<String> {
    let shown = paths[..paths.len().min(NAMED)].join(", ");
    let more = match paths.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!paths.is_empty()).then(|| format!("{what}{shown}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_image_lacks_a_kernel_only() {
        let results = judge(&RootFs::default(), Duration::ZERO);
        let ids: Vec<_> = results.iter().map(|result| result.id.as_str()).collect();
        assert_eq!(ids, ["kernel", "secrets", "machine-id", "units"]);
        assert!(
            matches!(&results[0].outcome, CheckOutcome::Failed { message, .. } if message.starts_with("no kernel"))
        );
        assert!(results[1..].iter().all(|result| result.outcome == CheckOutcome::Passed));
    }

    #[test]
    fn few_paths_are_named() {
        assert_eq!(named(&[], "x: "), None);
        assert_eq!(named(&["a", "b"], "x: ").as_deref(), Some("x: a, b"));
        assert_eq!(named(&["a"; 7], "x: ").as_deref(), Some("x: a, a, a, a, a and 2 more"));
    }
}
