//! The packages of `cargo xtask dist`, installed in a clean Debian with systemd as process 1 by the commands
//! of the guides `docs/how-to/production.md` and `docs/how-to/upgrade.md`, as they are written there.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]
#![allow(clippy::print_stderr, reason = "what a failed test did")]

mod guide;
mod machine;
mod packages;
mod production;
mod settings;
