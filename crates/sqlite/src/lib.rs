//! SQLite as `store` and `registry` use it: one writer that groups commits, read connections that cannot
//! write, and copies.
//!
//! ```text
//!  write ─▶ bounded queue ─▶ writer task: a savepoint per write, one COMMIT per group ─▶ acknowledged
//!  read  ─▶ pool of connections with `query_only`
//! ```
//!
//! Invariants: WAL with `synchronous = FULL`, so a committed row survives a power cut; a write is
//! acknowledged only after the commit of its group; a write sees and undoes only writes that are committed
//! and acknowledged with it.

mod job;
mod open;
mod transaction;
mod writer;

pub use open::{connect, copy, is_disk_full, readers};
pub use writer::{Writer, WriterError, WriterStats};
