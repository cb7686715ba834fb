//! What is brought into a virtual machine under test, and the messages between it and the host.
//!
//! The binary `edgewright-guest` is several programs: the first process of our initramfs (`boot`), what
//! runs before the first process of an image's own initramfs (`entry`), the guest's end of a channel to the
//! host (`agent`), by which the host runs the check runner, gathers evidence, opens shells and forwards
//! connections (`listen`, `take`), and what starts the check runner with the order of a disk (`checks`). It
//! assumes nothing about the image: no shell, no NSS, no udev, no particular init.
//!
//! | module | holds |
//! |---|---|
//! | [`frame`] | the messages of the channel, also used by the host |
//! | `boot` | from the initramfs to the image's init |
//! | `entry` | leaves the agent's unit for the image's own init |
//! | `agent` | runs programs for the host |
//! | [`forward`] | connections of the guest to the host, over the channel |
//! | [`order`] | the order of a machine without a channel |
//! | `session` | one program: pipes or a terminal |

mod agent;
mod boot;
mod entry;
pub mod forward;
pub mod frame;
pub mod order;
mod session;

pub use agent::agent;
pub use boot::{boot, checks};
pub use entry::entry;
pub use session::in_terminal;

/// The name of the channel's port.
pub const PORT: &str = "edgewright.0";
/// Where the programs of the host are in the guest.
pub const FOLDER: &str = "/run/edgewright";
/// The check runner in [`FOLDER`].
pub const CHECKS: &str = "edgewright-checks";
/// The check runner's mode in a machine without a channel.
pub const MACHINE_CHECKS: &str = "machine-checks";
/// The same in a device, which it leads from one image to another.
pub const DEVICE_CHECKS: &str = "device-checks";
/// This program in [`FOLDER`].
pub const GUEST: &str = "edgewright-guest";
/// The serial number of the disk with these programs, for devices: their own initramfs starts them.
pub const PROGRAMS_DISK: &str = "edgewright-programs";
/// Where a device mounts that disk.
pub const PROGRAMS_FOLDER: &str = "/run/edgewright-programs";
/// The serial number of the disk on which a device without a channel keeps how far it is.
pub const STATE_DISK: &str = "edgewright-state";
/// The serial number of the disk with the root file system.
pub const ROOT_DISK: &str = "edgewright-root";
/// Where programs are in our initramfs, and in the one that is added to an image's own.
pub const INITRD_FOLDER: &str = "/edgewright";
/// What runs before an image's own initramfs, in [`INITRD_FOLDER`]: for a machine with a channel.
pub const ENTRY: &str = "entry";
/// The same for a machine that finds its order on a disk. The kernel gives neither its words to it.
pub const ORDER_ENTRY: &str = "entry-order";
/// The modules of our initramfs, in loading order, one path in a line.
pub const MODULES: &str = "/edgewright/modules";
/// What the first process writes to the console of a machine without a channel: once for each start.
pub const STARTING: &str = "edgewright-guest: starting the image";
/// What the first process writes to the console before its reason, where it cannot start the image.
pub const FATAL: &str = "edgewright-guest: cannot start the image: ";
