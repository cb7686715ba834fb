//! Builds: executes the steps of one variant and gives an OCI image.
//!
//! [`execute`] runs the steps of an order one after the other and pushes layer, config and manifest after
//! every step, so that each prefix is available to later builds. The inputs from outside the repository are
//! fixed before, by [`resolve_lock`]; a build uses the lock and nothing else.
//!
//! | step | executor |
//! |---|---|
//! | [`bootstrap`] | mmdebstrap, its tar piped straight into the layer |
//! | [`containerfile`] | buildah; its new layers are compressed by this crate |
//! | files | this crate, from the directory index of the layers below |
//!
//! [`compare`] names the files that differ between two builds of the same step.

mod base;
pub mod bootstrap;
pub mod compare;
pub mod containerfile;
mod context;
mod execute;
mod failure;
mod fetch;
mod files;
mod image_state;
mod indexes;
mod lock;
mod log;
mod privileges;
mod run_output;

pub use context::{BuildContext, Events};
pub use execute::{BuildOutcome, execute};
pub use indexes::index_image;
pub use lock::resolve_lock;
