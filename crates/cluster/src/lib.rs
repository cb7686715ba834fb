//! The executor on Kubernetes: jobs are Tekton TaskRuns, machines of the lane `container` are Pods, those of
//! the lane `vm` are KubeVirt's.
//!
//! ```text
//! control ─Executor::run─▶ ClusterExecutor ─ split ─▶ TaskRun + Secret ══ `edgewright job pod` ══▶ serve
//!                            │                          log: frames, report by digest ◀┘
//!                            └ for each lane ─▶ Pod + Secret ══ the image under test, with the check runner
//!                                                 log: frames, console ◀┘
//! ```
//!
//! The API server is the queue, and a log is the stream of events. Names are a function of what a job does:
//! a restarted server finds its TaskRuns and Pods again, and reads their logs from the beginning.
//!
//! | module | holds |
//! |---|---|
//! | [`names`] | names and labels of objects, from what a job does |
//! | [`settings`] | settings of the executor |
//! | `split` | a job as steps and machines |
//! | [`task_run`] | Tekton's TaskRun, and that of a job |
//! | `order` | the Secret with a job's order |
//! | [`vmi`] | KubeVirt's VirtualMachineInstance |
//! | `lane` | lanes: a Pod, or a virtual machine, as the machine of each |
//! | `stage` | how far an attempt is, from the status of its objects: pure |
//! | `claims` | which attempts this process works on, and which objects to remove: pure |
//! | `cluster`, `fault`, `lines` | requests, watches, logs; what the API server refuses |
//! | `follow`, `log` | one attempt to its end, through breaks of the connection |
//! | [`custom`] | kinds of objects that `k8s-openapi` does not have |
//! | `connect` | the client of a cluster: by a file, or by the service account of a Pod |
//! | [`rights`] | what the account may do, and whether it may |
//! | `probe` | the versions of the programs in our image |
//! | `job` | the attempts of a job |
//! | [`executor`] | the port: admission, jobs, clean-up |
//! | `segments` | the steps of a job between our programs and those of the platform |
//! | `platform_build` | one step that the platform builds |
//! | `platform`, [`pipeline_run`], [`build_run`] | its objects: a Pipeline's, or those of Shipwright |
//! | `export` | the objects of a job, for people who create them by hand |
//! | [`in_pod`] | the process in a job's Pod |

pub mod build_run;
mod claims;
mod cluster;
mod connect;
pub mod custom;
pub mod executor;
mod export;
mod fault;
mod follow;
pub mod in_pod;
mod job;
mod lane;
mod lines;
mod log;
pub mod names;
mod order;
pub mod pipeline_run;
mod platform;
mod platform_build;
mod probe;
pub mod rights;
mod segments;
pub mod settings;
mod split;
mod stage;
pub mod task_run;
pub mod vmi;

pub use connect::{ConnectError, connect};
pub use executor::ClusterExecutor;
pub use kube::Client;
pub use settings::{
    Builder, ClusterSettings, JobTools, Lanes, Machines, Place, PlatformBuild, Resources, kubernetes_lanes,
};
