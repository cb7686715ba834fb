//! Jobs: the executor port, the local executor, the job process, and a simulated executor.
//!
//! ```text
//! control ─Executor::admit─▶ LocalExecutor ─▶ Gate: slots, disk
//!         ─Executor::run───▶ LocalExecutor ══ child: `edgewright job run` ══▶ serve ─▶ JobWorker
//!           JobRequest                        stdin: JobOrder, kept open       build → push → lanes
//!                                             stdout: JobEvent lines, outcome last
//!         ─Executor::run───▶ SimulatedExecutor     (tests; as a Worker behind `serve`, too)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`executor`] | the port: admits a demand, runs a request, gives an outcome or an [`ExecutorError`] |
//! | [`export`] | a job as objects of a platform |
//! | [`admission`] | the decision whether a job may start, pure |
//! | [`gate`] | the queue for a machine's slots, and the check of its disk |
//! | [`credentials`] | how jobs reach the registry |
//! | [`local`] | starts the child process and evaluates its output |
//! | [`mixed`] | several executors as one, by lane |
//! | `disk` | watches what a running job writes |
//! | [`isolation`] | where jobs that start programs run |
//! | [`tools`] | the tool image of sandboxes, made when it is needed first |
//! | `sandboxed`, `reach`, `forward` | the child in a sandbox, and its way to registries on this host |
//! | `native` | jobs that start no program, without a child |
//! | [`process`] | the child process: reads the order, writes events |
//! | [`worker`] | the port inside a job's process: an order in, an outcome out |
//! | [`work`] | the work of a job: build, push, lanes |
//! | [`lower_priority`] | priorities, so that the server stays responsive |
//! | [`report`] | events from callbacks, with a limit on log lines |
//! | [`simulated`] | scripted outcomes with deterministic digests |
//! | [`conformance`] | the suite that every executor must pass |

pub mod admission;
pub mod conformance;
mod courtesy;
pub mod credentials;
mod disk;
pub mod error;
pub mod executor;
pub mod export;
mod forward;
pub mod gate;
mod heard;
pub mod isolation;
pub mod local;
pub mod mixed;
mod native;
pub mod process;
mod reach;
pub mod report;
mod sandboxed;
pub mod simulated;
pub mod tools;
pub mod work;
pub mod worker;

pub use admission::Floor;
pub use courtesy::lower_priority;
pub use credentials::{FixedCredentials, JobCredential, JobCredentials, JobRegistry, NoCredentials};
pub use edgewright_build::bootstrap::Host;
pub use edgewright_lab::lane_profile as local_lane_profile;
pub use error::ExecutorError;
pub use executor::{Admission, BoxFuture, Capacity, Demand, EVENTS, Executor, Permit, StepKind};
pub use export::{Exported, exported_order};
pub use forward::into as forward_into;
pub use gate::{AdmissionSettings, Slots};
pub use heard::Heard;
pub use isolation::Isolation;
pub use local::{BuildSecrets, LocalExecutor, LocalSettings};
pub use mixed::MixedExecutor;
pub use native::{is_native, run as run_native};
pub use process::{ProcessError, serve};
pub use report::Reporter;
pub use sandboxed::JobSandbox;
pub use simulated::{Behaviour, Rejection, SimulatedExecutor, simulated_profile};
pub use tools::{Tools, of_host as host_tools, require as require_tools, vm_tools};
pub use work::{JobWorker, WorkSettings, reap};
pub use worker::Worker;
