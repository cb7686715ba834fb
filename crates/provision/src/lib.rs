//! Disk images of devices, made in a virtual machine of the image itself: its own kernel has the file
//! systems, its own programs the right versions, and the host needs neither loop devices nor privileges.
//!
//! ```text
//!  registry ─▶ layers ─▶ medium.erofs (read-only) ─┐
//!                                                  ├─ machine of the image: `edgewright-agent install`
//!  settings of the device ─▶ standard input ───────┤
//!                            disk.raw ─────────────┘──▶ raw, qcow2 or vmdk, renamed when it is complete
//! ```
//!
//! Names, keys and credentials of a device pass through standard input only: they are in no image, and in no
//! file but the disk.
//!
//! | module | holds |
//! |---|---|
//! | [`order`] | what is made |
//! | `medium` | the image as a read-only disk |
//! | `install` | the machine in which the installer runs |
//! | `stick` | an installer for USB sticks, which needs no machine |
//! | `netboot` | the same for machines that start over the network |
//! | `unattended` | what both have in common |
//! | `output` | the finished file |

mod error;
mod install;
mod medium;
mod netboot;
pub mod order;
mod output;
mod stick;
mod unattended;

use std::time::Duration;

use edgewright_vm::machine::Programs;
use edgewright_vm::{Acceleration, Accelerator, Cache, CachedImage, Context};

pub use error::ProvisionError;
pub use order::{DiskOrder, Format};

/// How long an installation may take, before scaling by the speed of this host.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(10);

/// What disks are made with.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// QEMU and disk tools, folder for temporary files, cancellation.
    pub context: &'a Context,
    /// The files of images.
    pub cache: &'a Cache,
    /// What is brought into guests.
    pub programs: Programs,
}

/// Makes a disk. The output is complete if this succeeds; otherwise there is none, or that of before. What is
/// found out about this host is noted in `acceleration`.
///
/// # Errors
/// See [`ProvisionError`].
pub async fn make_disk(
    order: &DiskOrder,
    workshop: &Workshop<'_>,
    acceleration: &mut Acceleration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ProvisionError> {
    order.check()?;
    let context = workshop.context;
    if order.format == Format::Netboot {
        let folder = netboot::Folder::create(&order.output).await?;
        let (medium, image) = fetch(order, workshop, progress).await?;
        progress("writing the installer");
        return folder.write(&image, &medium.path()).await;
    }
    let output = output::Output::create(order).await?;
    let (medium, image) = fetch(order, workshop, progress).await?;
    if order.format == Format::Iso {
        progress("writing the installer");
        stick::make(&image, &medium.path(), output.raw(), context).await?;
        progress("writing the output");
        return output.finish(order, context).await;
    }
    let disks = install::Disks { medium: medium.path(), target: output.raw() };
    loop {
        progress("starting the virtual machine");
        let work = install::run(order, workshop, acceleration, &image, &disks, progress);
        let limit = INSTALL_TIMEOUT.mul_f64(acceleration.factor.max(1.0));
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(())) => break,
            // A kernel that does not start on KVM may start without.
            Ok(Err(ProvisionError::NoStart { problem, .. }))
                if acceleration.accelerator == Accelerator::Kvm =>
            {
                progress(&format!("not with KVM: {problem}"));
                acceleration.give_up(problem).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(ProvisionError::TimedOut(limit)),
        }
    }
    progress("writing the output");
    output.finish(order, context).await
}

/// The image in both forms: as its registry has it, and as files.
async fn fetch(
    order: &DiskOrder,
    workshop: &Workshop<'_>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(medium::Medium, CachedImage), ProvisionError> {
    progress("downloading the image");
    let medium = medium::make(order, workshop.context).await?;
    progress("making the root file system");
    let image = workshop.cache.open(&order.source, workshop.context).await?;
    Ok((medium, image))
}
