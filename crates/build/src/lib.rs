//! Executes one variant's steps and gives an OCI image.
//!
//! [`execute`] runs the steps of an order one after the other and pushes layer, config and manifest after every step, so
//! that each prefix is there for whoever needs it next. What an image's outside inputs are is decided before, by
//! [`resolve_lock`]; a build uses the lock and nothing else.
//!
//! | step | executor |
//! |---|---|
//! | [`bootstrap`] | mmdebstrap, its tar piped straight into the layer |
//! | [`containerfile`] | buildah; only new layers come out, uncompressed by us, compressed by us |
//! | files | natively, from the directory index of the layers below |

mod base;
pub mod bootstrap;
pub mod containerfile;
mod context;
mod execute;
mod failure;
mod fetch;
mod files;
mod image_state;
mod lock;
mod log;

pub use context::{BuildContext, Events};
pub use execute::{BuildOutcome, execute};
pub use lock::resolve_lock;
