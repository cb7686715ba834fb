//! For tests: an in-memory store that keeps or loses what was not synced, and fails on order; and the suite that every
//! adapter passes.

mod memory;
mod suite;

pub use memory::{Fault, MemoryStore, Operation};
pub use suite::blob_store_suite;
