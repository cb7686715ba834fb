//! Installed disks: made once per digest by the image's own installer, shared by all lanes of a work folder,
//! bounded ([`Folders`]). A lane writes to a disk of its own over it.
//!
//! ```text
//! FOLDER/HEX/disk.raw   the disk; HEX is the digest of all that it is made from
//! ```

use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::reference::Reference;
use edgewright_oci::image;
use edgewright_provision::{DiskOrder, Format, ProvisionError, Workshop, make_disk};
use edgewright_vm::folders::{Claim, Folders, Held, Limits};
use edgewright_vm::{Acceleration, Source};

use super::settings::{self, Led};
use crate::lane::{Events, LabContext};
use crate::machine::LaneFault;
use crate::vm::machine::{self as vm, vm_context};

/// The disks that are kept: so many, of so many bytes.
const CACHE_LIMITS: Limits = Limits { count: 6, bytes: 8 * 1024 * 1024 * 1024 };
/// The disk in its folder.
const DISK: &str = "disk.raw";
/// The smallest disk of a device. Files are sparse.
const LEAST_BYTES: u64 = 6 << 30;
/// What a disk has for each byte of an image's compressed layers: two images, what is downloaded, and room.
const BYTES_PER_LAYER_BYTE: u64 = 10;
const GIB: u64 = 1 << 30;
/// How many lines of a hint a message has.
const HINT_LINES: usize = 3;

/// A disk. It stays as long as this lives.
#[derive(Debug)]
pub(super) struct InstalledDisk(Held);

impl InstalledDisk {
    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join(DISK)
    }
}

/// A disk that is asked for.
struct Wanted<'a> {
    image: &'a ManifestRef,
    size: u64,
    led: Led,
    output: PathBuf,
}

/// The installed disks of a work folder.
#[derive(Debug)]
pub(super) struct Disks {
    folders: Folders,
    led: Led,
}

impl Disks {
    pub(super) const fn new(folder: PathBuf, led: Led) -> Self {
        Self { folders: Folders::new(folder, CACHE_LIMITS, is_made), led }
    }

    /// The disk with an image, made if it is not there. A process that makes the same is waited for.
    pub(super) async fn open(
        &self,
        image: &ManifestRef,
        context: &LabContext,
        acceleration: &mut Acceleration,
        events: Events<'_>,
    ) -> Result<InstalledDisk, LaneFault> {
        let size = size(image, context).await?;
        let claim = self.folders.claim(&key(&image.digest, size, self.led), context.processes.cancel()).await;
        let held = match claim.map_err(|error| vm::fault(&error))? {
            Claim::Found(held) => held,
            Claim::Make(new) => {
                let wanted = Wanted { image, size, led: self.led, output: new.path().join(DISK) };
                make(&wanted, context, acceleration, events).await?;
                new.finish().await.map_err(|error| vm::fault(&error))?
            }
        };
        Ok(InstalledDisk(held))
    }
}

fn is_made(folder: &Path) -> bool {
    folder.join(DISK).is_file()
}

async fn make(
    wanted: &Wanted<'_>,
    context: &LabContext,
    acceleration: &mut Acceleration,
    events: Events<'_>,
) -> Result<(), LaneFault> {
    let order = DiskOrder {
        source: Source { client: context.client.clone(), manifest: wanted.image.clone() },
        reference: settings::reference(),
        size: wanted.size,
        format: Format::Raw,
        target_disk: None,
        output: wanted.output.clone(),
        device: settings::settings(wanted.led),
    };
    let own = vm_context(context);
    let cache = context.vm.cache();
    let workshop = Workshop { context: &own, cache: &cache, programs: context.vm.programs };
    let short = wanted.image.digest.short();
    let progress = |step: &str| events(JobEvent::Log { line: format!("disk of {short}: {step}") });
    make_disk(&order, &workshop, acceleration, &progress).await.map_err(|error| fault(&error))
}

/// The name of a disk: of all that it is made from.
fn key(image: &Digest, size: u64, led: Led) -> String {
    let version = settings::VERSION;
    let device = Digest::of(settings::settings(led));
    Digest::of(format!("{version}\n{image}\n{size}\n{device}\n")).hex().to_owned()
}

/// The size of the disk for an image.
async fn size(image: &ManifestRef, context: &LabContext) -> Result<u64, LaneFault> {
    let reference = Reference::Digest(image.digest.clone());
    let manifest = context.client.pull_manifest(&image.repository, &reference).await;
    let manifest = manifest
        .map_err(|error| LaneFault::of_host(format!("cannot pull {}: {}", image.digest, Chain(&error))))?;
    let layers = image::layers(&manifest.bytes).map_err(|error| LaneFault::of_image(error.to_string()))?;
    let compressed = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    Ok(rounded(compressed))
}

/// The size for so many bytes of compressed layers.
fn rounded(compressed: u64) -> u64 {
    let wanted = compressed.saturating_mul(BYTES_PER_LAYER_BYTE).saturating_add(2 * GIB);
    let wanted = wanted.clamp(LEAST_BYTES, edgewright_provision::order::MAX_DISK_BYTES);
    wanted.div_ceil(GIB) * GIB
}

fn fault(error: &ProvisionError) -> LaneFault {
    let kind = match error.class() {
        edgewright_model::error::ErrorClass::UserFault => FailureKind::Image,
        _ => FailureKind::Infrastructure,
    };
    let hint = error.hint().map(|hint| format!(" ({})", end_of(&hint))).unwrap_or_default();
    LaneFault { kind, message: format!("cannot install the image: {}{hint}", Chain(error)) }
}

/// The last lines of a hint, which may be a whole console, on one line.
fn end_of(hint: &str) -> String {
    let lines: Vec<&str> = hint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(HINT_LINES)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_for_two_images_and_a_name_of_all_that_it_is_made_from() {
        assert_eq!(rounded(0), LEAST_BYTES);
        assert_eq!(rounded(GIB), 12 * GIB);
        assert_eq!(rounded(u64::MAX), edgewright_provision::order::MAX_DISK_BYTES);
        let one = key(&Digest::of("one"), GIB, Led::ByHost);
        assert_ne!(one, key(&Digest::of("two"), GIB, Led::ByHost));
        assert_ne!(one, key(&Digest::of("one"), 2 * GIB, Led::ByHost));
        assert_ne!(one, key(&Digest::of("one"), GIB, Led::ByItself));
    }
}
