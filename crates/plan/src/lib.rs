//! Pure planning: from a commit's definition and the history to a graph with keys, and a plan with reasons.
//! No clock, environment, files, network or async: equal arguments give equal results.
//!
//! ```text
//!  Definition + Tree + Locks ──graph()──▶ Graph ──plan() with History──▶ Plan
//!        │ template  renders *.j2            │ every variant and every        │ build, test, reuse,
//!        │ files     lists a `files` step    │ shared prefix, each with       │ retire, blocked,
//!        │ context   lists a build context   │ the key of each of its steps   │ failed; with reasons
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`lock`] | the effective lock of an image, and its request to the outside |
//! | [`template`], [`files`], [`context`] | the inputs of steps from the tree; [`ignore`]: their rules |
//! | [`key`] | from inputs to keys |
//! | [`step`], [`mod@graph`] | steps with their keys, nodes, parents |
//! | [`history`] | recorded builds and verdicts, as one value |
//! | [`reason`], [`explain`] | the reasons, as data and as text |
//! | [`mod@plan`] | the action for each node |

pub mod context;
pub mod explain;
pub mod files;
pub mod graph;
pub mod history;
pub mod ignore;
pub mod key;
pub mod limits;
pub mod lock;
pub mod plan;
pub mod reason;
pub mod step;
pub mod template;

pub use graph::{Graph, Node, NodeId, NodeName, graph};
pub use history::History;
pub use lock::{EffectiveLock, LockOrigin, Locks, lock_request};
pub use plan::{Action, Plan, plan};
pub use reason::Reason;
