//! Pure rollouts: release, policy, inventory and evidence give offers, stage moves and the gate's verdict.
//! No clock, environment, files, network or async: equal histories give equal answers.
//!
//! ```text
//!  policy ──┐                     ┌──answer(device, now)──▶ new or old digest, with its reason
//!  devices ─┴─▶ Engine ◀─apply──  │   events: offered, reached, failed, orders, moves
//!                  └──────────────┴──advance(now)─▶ moves: soak, open, stop, complete
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`policy`] | stages and bounds |
//! | [`fleet`], [`draw`] | devices, and in which stage each is |
//! | [`state`] | events of a rollout's history |
//! | [`engine`], [`advance`] | answers to devices; moves |
//! | [`gate`] | whether the evidence stops the rollout |
//! | [`offer`] | what a device gets, of its rollout's answer and all else that is known about it |
//! | [`reason`], [`words`] | why a device gets what it gets, as data and in words |
//! | [`simulate`] | a rollout on a virtual clock |

pub mod advance;
pub mod draw;
pub mod engine;
pub mod fleet;
pub mod gate;
mod member;
pub mod offer;
pub mod policy;
pub mod reason;
pub mod simulate;
pub mod state;
mod tally;
mod wait;
pub mod words;

pub use engine::{Answer, Engine};
