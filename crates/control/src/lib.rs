//! Use-cases and reconcilers: what makes a commit a run, a run's jobs a release, and a release what a channel answers.
//!
//! | module | its part |
//! |---|---|
//! | [`sources`] | polls, and queues a run where a followed branch moved |
//! | [`pull_requests`] | the same for pull requests, without a release |
//! | [`runs`] | takes a run from its commit over its plan and its jobs to its release |
//! | [`verdicts`] | what a verdict means: exceptions, what is not new; verdicts of others |
//! | [`housekeeping`], `collection`, [`disk`] | what bounds logs, caches, images; room before a job starts |
//! | [`watch`] | looks at base images and distributions, on a schedule |
//! | [`tags`] | what channel tags answer; channels move in `runs/publish.rs`, in the release's transaction |
//! | [`targets`] | copies what channels hold to registries of others |
//! | [`context`], [`access`], [`audit`] | who asks for an operation, whether it is permitted, and the record of it |
//! | [`hosting`], [`referrers`] | the registry as control uses it |
//! | [`notify`] | tells others: CloudEvents, commit statuses |
//! | [`events`], [`logs`] | what happens, as it happens |
//!
//! The parts meet only through the store: events and wake-ups shorten waits and carry no truth.

pub mod access;
pub mod audit;
mod collection;
pub mod context;
mod control;
pub mod disk;
mod error;
pub mod events;
pub mod hosting;
pub mod housekeeping;
pub mod logs;
pub mod notify;
pub mod pull_requests;
pub mod referrers;
pub mod runs;
pub mod settings;
pub mod sources;
pub mod tags;
pub mod targets;
pub mod verdicts;
pub mod watch;

pub use control::{Control, Parts};
pub use error::ControlError;
pub use settings::{CommitLocks, ControlSettings, LockPolicy, SourceSettings};
