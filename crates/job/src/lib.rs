//! Job orders executed: the local executor and the job process itself.

pub mod executor;

pub use executor::{Executor, ExecutorError};
