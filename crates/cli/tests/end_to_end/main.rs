//! The real command, with real git, a real registry and real jobs: nothing that was acknowledged is lost, and
//! every fault ends with the right kind of failure, a message to act on, and a system that is ready for the
//! next run.
//!
//! Most images here are files alone and take milliseconds; `failures.rs` needs podman and buildah.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]
#![allow(clippy::print_stderr, reason = "what a failed test did")]

mod agents;
mod channels;
mod clients;
mod commands;
mod devices;
mod disks;
mod documents;
mod enrolments;
mod external;
mod failures;
mod folders;
mod hosted;
mod kills;
mod operating;
mod pull_requests;
mod rebuilds;
mod remotes;
mod rollouts;
mod sandboxes;
#[path = "../schemas/mod.rs"]
mod schemas;
mod server;
mod simulated;
mod sources;
mod statics;
mod systems;
mod targets;
mod unprivileged;
mod virtual_machines;
mod world;
