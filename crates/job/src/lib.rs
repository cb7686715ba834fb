//! Jobs: the executor port, the local executor, the job process itself, and a simulated twin.
//!
//! ```text
//! control ─Executor::admit─▶ LocalExecutor ─▶ Gate: slots, disk
//!         ─Executor::run───▶ LocalExecutor ══ child: `edgewright job run` ══▶ serve ─▶ JobWorker: build → push → lanes
//!           JobRequest                        stdin: JobOrder, kept open
//!                                             stdout: JobEvent lines, outcome last
//!         ─Executor::run───▶ SimulatedExecutor               (tests; as a Worker behind `serve`, too)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`executor`] | the port: a demand admitted, a request done, events meanwhile, an outcome or an [`ExecutorError`] |
//! | [`admission`] | the decision whether a job may start, pure |
//! | [`gate`] | the queue for a machine's slots, and the look at its disk |
//! | [`credentials`] | how jobs reach the registry |
//! | [`local`] | starts the child and judges what comes back |
//! | `native` | jobs that start no program, without a child |
//! | [`process`] | the child's side of the pipe |
//! | [`worker`] | the port inside of a job's process: an order in, an outcome out |
//! | [`work`] | what a job does |
//! | [`give_way`] | priorities, so that the server stays responsive |
//! | [`report`] | events from callbacks, with a bound on log lines |
//! | [`simulated`] | scripted outcomes with deterministic digests |
//! | [`conformance`] | what every executor must do |

pub mod admission;
pub mod conformance;
mod courtesy;
pub mod credentials;
pub mod error;
pub mod executor;
pub mod gate;
pub mod local;
mod native;
pub mod process;
pub mod report;
pub mod simulated;
pub mod work;
pub mod worker;

pub use admission::Floor;
pub use courtesy::give_way;
pub use credentials::{FixedCredentials, JobCredential, JobCredentials, JobRegistry, NoCredentials};
pub use edgewright_lab::lane_profile as local_lane_profile;
pub use error::ExecutorError;
pub use executor::{Admission, BoxFuture, Capacity, Demand, EVENTS, Executor, Permit, StepKind};
pub use gate::AdmissionSettings;
pub use local::{BuildSecrets, LocalExecutor, LocalSettings};
pub use process::{ProcessError, serve};
pub use report::Reporter;
pub use simulated::{Behaviour, Refusal, SimulatedExecutor, simulated_profile};
pub use work::{JobWorker, WorkSettings, reap};
pub use worker::Worker;
