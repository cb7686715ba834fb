//! Virtual machines from an image's digest: its own kernel, its own init, nothing in it changed.
//!
//! ```text
//!  layers ──▶ one tar ──▶ root.erofs ─┬─▶ kernel, modules ─▶ initramfs ─▶ QEMU ◀── channel ── host
//!  (registry)             once per     │                                 ├─▶ console
//!                         digest       └─▶ disk with ESP and ext4 ─▶ OVMF ┘
//! ```
//!
//! Two profiles. *Direct*: QEMU starts the kernel, our initramfs mounts the read-only root with a memory
//! overlay. *UEFI*: firmware, boot loader, the image's own initramfs and a real disk. In both, the guest's
//! end of a channel (`edgewright-guest`) runs programs for the host.
//!
//! QEMU, firmware and disk tools are those of [`Tools`]. A machine ends with its [`Machine`], and with this
//! process.
//!
//! | module | holds |
//! |---|---|
//! | [`image`] | an image's files on disk, made once per digest |
//! | [`folders`] | folders that are made once per key, shared and bounded |
//! | `kernel` | kernel and initramfs of an image |
//! | `modules` | the modules that our initramfs needs |
//! | `cpio` | archives for the kernel |
//! | `disk` | the disk of the UEFI profile |
//! | [`config`] | from a machine's description to QEMU's command line, pure |
//! | [`acceleration`] | whether KVM works here, tried with a tiny guest |
//! | [`machine`] | a running machine |
//! | [`device`] | one that starts what is on its disk, again and again |
//! | [`channel`] | runs programs in the guest |
//! | [`forward`] | the host's end of connections that a guest makes over the channel |
//! | `console` | the bounded end of what the guest printed |
//! | [`publish`] | an image's machine as a container image, for KubeVirt |
//! | `qmp` | how QEMU reports why a machine ended |

pub mod acceleration;
pub mod channel;
pub mod config;
pub mod console;
pub mod cpio;
pub mod device;
mod disk;
mod error;
pub mod folders;
pub mod forward;
pub mod image;
mod kernel;
pub mod machine;
mod modules;
pub mod publish;
mod qmp;
mod tools;

pub use acceleration::{Acceleration, Accelerator};
pub use channel::{Channel, ChannelError};
pub use config::{Hardware, Network, Profile};
pub use error::VmError;
pub use image::{Cache, CachedImage, Source};
pub use machine::{Machine, Programs, Stopped};
pub use tools::Tools;

use std::path::PathBuf;

use edgewright_process::ProcessContext;

/// What every operation needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// QEMU and disk tools.
    pub tools: Tools,
    /// A folder for files that end with the machine; it exists.
    pub scratch: PathBuf,
    /// Environment of subprocesses, and the token that cancels.
    pub processes: ProcessContext,
}
