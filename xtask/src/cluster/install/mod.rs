//! What is installed in a cluster that runs.

pub(super) mod kubevirt;
pub(super) mod tekton;
