//! The whole way from a tree to a plan, on small trees in memory.

mod fixture;
mod graphs;
mod plans;
mod properties;
