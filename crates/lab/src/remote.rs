//! What an executor needs to start, elsewhere, the machines that [`crate::publish_machine`] made, and to
//! understand their consoles.

pub use edgewright_guest::order::{BootLimits, ORDER_DISK, find, pack};
pub use edgewright_guest::{FATAL, ROOT_DISK, STARTING};
pub use edgewright_vm::Stopped;
pub use edgewright_vm::console::Console;
pub use edgewright_vm::publish::{ARGUMENTS, DISK, INITRD, KERNEL};
