//! What an executor needs to start, elsewhere, the machines that [`crate::publish_machine`] made, to give
//! them their orders, and to understand their consoles.

pub use crate::device::publish::{SKIPPED, TARGET, blame_installed, device_order, installed, skips};
pub use edgewright_guest::order::{BootLimits, ORDER_DISK, find, pack};
pub use edgewright_guest::{FATAL, PROGRAMS_DISK, ROOT_DISK, STARTING, STATE_DISK};
pub use edgewright_vm::Stopped;
pub use edgewright_vm::console::Console;
pub use edgewright_vm::publish::{ARGUMENTS, DISK, INITRD, KERNEL, PROGRAMS};
