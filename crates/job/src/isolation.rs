//! Where jobs that start programs run.

use std::sync::Arc;

use edgewright_sandbox::SandboxError;

use crate::sandboxed::JobSandbox;

/// Where jobs that start programs run. Clones share it.
#[derive(Debug, Clone)]
pub enum Isolation {
    /// In sandboxes.
    Sandbox(JobSandbox),
    /// With the tools and files of this host, as root: every definition and base image is trusted.
    HostTools,
    /// Nowhere: sandboxes cannot be made here, and the operator did not permit the host's tools. Such jobs
    /// fail with this reason; the others run.
    Unavailable(Arc<SandboxError>),
}
