//! A rollout on a virtual clock: the engine that ships, with devices that are simulated. Equal seeds give
//! equal runs.

mod model;
mod random;
mod world;

pub use model::{Model, Release};
pub use random::Random;
pub use world::{Case, Summary, simulate};
