//! The agent of a device: takes updates, checks its health after a boot, and reports.
//!
//! ```text
//!  registry ─▶ fetch ─▶ updater ─▶ reboot ─▶ health ─▶ bless, or back
//!                 ▲         ▲                  ▲
//!                 └──── engine: performs what the machine decides ────▶ report ─▶ server
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`updater`] | the trait of what puts an image onto this device and chooses what boots |
//! | [`machine`] | the state machine: pure |
//! | [`policy`] | policies and maintenance windows: pure |
//! | [`engine`] | performs actions, and stores every record before it does |
//! | [`fetch`] | the download client |
//! | [`health`] | health checks after a boot |
//! | [`report`] | reports, in order, also after days without a network |
//! | [`bootc`] | bootc as an updater |
//! | [`composefs`] | our own updater: composefs, systemd-boot |
//! | [`install`] | puts an image onto an empty disk |
//! | [`durable`] | files that survive power cuts |
//! | [`updaters`] | which updater this device has |
//! | [`config`] | `/etc/edgewright/agent.toml` |
//! | [`store`], [`history`] | the state on disk |
//! | [`control`], [`sd`] | the socket of the running agent; the service manager |
//! | [`cli`] | the command |

mod blocking;
pub mod bootc;
pub mod cli;
pub mod composefs;
pub mod config;
pub mod control;
pub mod durable;
pub mod engine;
pub mod fetch;
pub mod health;
pub mod history;
pub mod install;
pub mod machine;
pub mod policy;
pub mod report;
pub mod sd;
pub mod store;
pub mod updater;
pub mod updaters;
