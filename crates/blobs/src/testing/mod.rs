//! For tests: an in-memory store that can lose unsynced data and fail on demand, and the suite that every
//! adapter passes.

mod memory;
mod suite;

pub use memory::{Fault, MemoryStore, Operation};
pub use suite::blob_store_suite;
