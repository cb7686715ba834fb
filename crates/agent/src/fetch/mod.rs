//! Downloads: a reference becomes an image whose documents and missing layers are in a folder of blobs.
//!
//! | module | holds |
//! |---|---|
//! | `error` | what failed at which registry, and the kind of problem that it is |
//! | `registry` | the registry and its mirrors; which digest to run; documents |
//! | `blobs` | the folder: an OCI layout, with partial files beside it |
//! | `layer` | one blob: resumed, verified, from the first source that has it |
//! | `limit` | the bandwidth limit |

mod blobs;
mod error;
mod layer;
mod limit;
mod registry;

pub use blobs::Blobs;
pub use error::FetchError;
pub use layer::Fetched;
pub use limit::Limiter;
pub use registry::{Registry, host_platform};

#[cfg(test)]
pub(crate) mod tests;
