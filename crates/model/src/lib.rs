//! The vocabulary of Edgewright: typed ids, digests, names, specs, job orders and outcomes. Pure: no I/O, no
//! clock.
//!
//! | module | holds |
//! |---|---|
//! | [`names`], [`digest`], [`reference`], [`duration`], [`size`] | names, parsed once at the edge |
//! | [`tree`] | a commit's files as data, read by `source` |
//! | [`spec`] | what a source declares, as typed values |
//! | [`format`] | how a tree's YAML becomes a [`spec::Definition`], with all errors of the repository |
//! | [`resolve`] | derived from a definition: variants, parents, effective variables and checks |
//! | [`lock`], [`moves`] | pinned outside inputs: package versions, base digests, the epoch; their moves |
//! | [`window`] | maintenance windows, of devices and rollouts |
//! | [`order`], [`outcome`], [`verdict`] | a job's input, a job's output, a lane's result |
//! | [`frame`] | records in a log that others write to, too |
//! | [`principal`], [`role`], [`grants`] | who acts; roles of users; what a job may do in the registry |
//! | [`audit`] | the chain of the audit trail |
//! | [`run`] | numbers and states of runs, nodes and releases |
//! | [`error`] | error classes and the chain printer |

pub mod audit;
pub mod containerfile;
pub mod digest;
pub mod duration;
pub mod error;
pub mod format;
pub mod frame;
pub mod glob;
pub mod grants;
pub mod lock;
pub mod moves;
pub mod names;
pub mod order;
pub mod outcome;
pub mod principal;
pub mod reference;
pub mod resolve;
pub mod role;
pub mod run;
pub mod sensitive;
pub mod size;
pub mod spec;
pub mod tools;
pub mod tree;
pub mod verdict;
pub mod window;

pub use digest::Digest;
