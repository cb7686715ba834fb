//! Runs a job where the host's files, loopback and root do not exist, with the tools of a tool image.
//!
//! ```text
//!  host                                   sandbox: user, mount, PID, IPC, UTS, network, cgroup namespace
//!  edgewright serve ── crun (tool image) ──▶ edgewright job run     root 0 is host ID 100000
//!     registry.sock ───── bind mount ──────▶ /run/edgewright         read-only root: the tool image
//!     DATA/work/DOMAIN ── bind mount ──────▶ same path               the only writable files of the host
//!     slirp4netns ─────── tap0 ────────────▶ other machines          only for jobs that need it
//! ```
//!
//! The OCI runtime, the network stack, buildah, podman and mmdebstrap come from the tool image ([`tools`]): a
//! Debian root folder, made once with mmdebstrap. The host contributes its kernel, `sh`, `unshare` and
//! `mount`.
//!
//! | module | holds |
//! |---|---|
//! | [`tools`] | the tool image: find, make, describe |
//! | [`host`] | what the kernel offers, and a trial |
//! | `config` | the OCI runtime configuration of a sandbox, pure |
//! | `cgroup` | bounds for memory and processes on cgroup v2, v1 and hybrid hosts |
//! | [`inside`] | what a program in a sandbox does first |
//! | [`namespace`] | the user namespace in which a user who is not root makes sandboxes |
//! | [`kept`] | sandboxes that outlive their job, for inspection |
//! | [`launch`] | from a program and its needs to the command that starts it in a sandbox |

mod cgroup;
mod config;
mod error;
pub mod host;
pub mod inside;
pub mod kept;
pub mod launch;
pub mod namespace;
pub mod tools;

pub use error::SandboxError;
pub use launch::{Bounds, Mount, Network, Sandbox, Sandboxed};
pub use tools::ToolImage;
