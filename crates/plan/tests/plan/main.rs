//! From a tree to a plan, on small trees in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod fixture;
mod graphs;
mod plans;
mod properties;
