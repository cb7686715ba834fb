//! Check runner: the same code in lanes and on devices; also the static binary `edgewright-checks`.
//!
//! The binary is brought into a machine under test from outside, so it takes nothing for granted there: no NSS, no
//! shell, no D-Bus, perhaps no service manager yet. It is synchronous and blocks; it never panics on input.
//!
//! | module | holds |
//! |---|---|
//! | `protocol` | what goes in on standard input and comes out on standard output |
//! | `runner` | all checks at once, each tried until it holds or its time is over |
//! | `probe` | one look at one assertion |
//! | `exec` | the one place that starts programs |

mod exec;
mod probe;
mod protocol;
mod runner;

pub use protocol::{ORDER_VERSION, RUNNER_SEMANTICS, RunLine, RunOrder, RunSummary, UnfitOrder};
pub use runner::run;
