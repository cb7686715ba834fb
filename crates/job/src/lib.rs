//! Job orders executed: the executor trait, the local executor, the job process itself, and a simulated twin.
//!
//! ```text
//! control ─Executor::run─▶ LocalExecutor ══ child: `edgewright job run` ══▶ serve ─▶ WorkExecutor: build → push → lanes
//!                                          stdin: JobOrder, kept open
//!                                          stdout: JobEvent lines, outcome last
//!         ─Executor::run─▶ SimulatedExecutor                     (tests; can stand behind `serve`, too)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`executor`] | the port: an order in, events while it works, an outcome or an [`ExecutorError`] |
//! | [`local`] | starts the child and judges what comes back |
//! | `native` | jobs that start no program, without a child |
//! | [`process`] | the child's side of the pipe |
//! | [`work`] | what a job does |
//! | [`give_way`] | priorities, so that the server stays responsive |
//! | [`report`] | events from callbacks, with a bound on log lines |
//! | [`simulated`] | scripted outcomes with deterministic digests |
//! | [`conformance`] | what every executor must do |

pub mod conformance;
mod courtesy;
pub mod error;
pub mod executor;
pub mod local;
mod native;
pub mod process;
pub mod report;
pub mod simulated;
pub mod work;

pub use courtesy::give_way;
pub use error::ExecutorError;
pub use executor::{BoxFuture, EVENTS, Executor};
pub use local::LocalExecutor;
pub use process::{ProcessError, serve};
pub use report::Reporter;
pub use simulated::{Behaviour, SimulatedExecutor};
pub use work::{WorkExecutor, WorkSettings, reap};
