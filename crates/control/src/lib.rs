//! Use-cases and reconcilers: what makes a commit a run, a run's jobs a release, and a release what a channel
//! answers.
//!
//! | module | its part |
//! |---|---|
//! | [`sources`] | which repositories are followed, their mirrors, what of them moved |
//! | [`polling`] | polls them: applies the inventory, queues runs of branches and pull requests that moved |
//! | `inventory` | what the default branch declares apart from images: name, channels, sites, rollouts |
//! | [`runs`] | takes a run from its commit over its plan and its jobs to its release |
//! | `jobs` | has the jobs of runs, locks and rebuilds done by the executor |
//! | [`verdicts`] | what a verdict means: exceptions, what is not new |
//! | [`posting`] | takes verdicts that others post |
//! | [`locks`] | resolves locks, and checks for updates of base images and distributions on a schedule |
//! | [`releases`] | indexes, referrers, the release, channels and what their tags answer |
//! | [`devices`] | enrolment, credentials, what each device is answered with, what is known about it |
//! | [`rebuilds`] | builds again what was built, to prove that keys tell all |
//! | [`outbound`] | notifies sinks and forges; copies what channels hold to external registries |
//! | [`retention`] | what bounds logs, caches and images |
//! | [`context`], [`access`], [`audit`] | who asks for an operation, whether it is permitted, its record |
//! | [`users`], [`approvals`] | local users and their tokens; who may approve, and when it is enough |
//! | [`hosting`], [`events`], [`logs`] | the registry as control uses it; what happens, as it happens |
//!
//! The modules meet only through the store: events and wake-ups shorten waits and carry no truth. Which
//! module may use which is a table in `xtask/src/check/module_arrows.rs`.

pub mod access;
pub mod approvals;
pub mod audit;
mod cancellations;
pub mod context;
mod control;
pub mod devices;
mod error;
pub mod events;
pub mod hosting;
mod inventory;
mod jobs;
pub mod locks;
pub mod logs;
pub mod outbound;
mod pins;
pub mod polling;
pub mod posting;
pub mod rebuilds;
pub mod reconcile;
pub mod releases;
pub mod retention;
pub mod rollouts;
pub mod runs;
pub mod settings;
pub mod sources;
pub mod users;
pub mod verdicts;

pub use control::{Control, Parts};
pub use error::ControlError;
pub use settings::{
    CommitLocks, ControlSettings, Keep, LockPolicy, PullRequestPolicy, SecretGrant, SourceSettings,
};
