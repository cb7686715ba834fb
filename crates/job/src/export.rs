//! A job as objects of a platform, for people who create them by hand.

use edgewright_model::order::{JobOrder, JobRequest, RegistryAccess};

use crate::credentials::{JobCredential, JobRegistry};

/// The objects that run a job.
#[derive(Debug, Default)]
pub struct Exported {
    /// Objects of the platform, each after those that it needs.
    pub objects: Vec<serde_json::Value>,
    /// What is left out, and what else to know, each on one line.
    pub notes: Vec<String>,
    /// The credentials in them: the tokens end when these are dropped.
    pub credentials: Vec<JobCredential>,
}

impl Exported {
    /// Adds another part of the job.
    pub fn add(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.notes.extend(other.notes);
        self.credentials.extend(other.credentials);
    }
}

/// The order of a job to export. Without a token, the job may read what everyone may.
pub fn exported_order(
    registry: &JobRegistry,
    request: JobRequest,
    with_token: bool,
) -> (JobOrder, JobCredential) {
    if with_token {
        return registry.order(request);
    }
    let access = RegistryAccess { url: registry.url.clone(), token: None };
    (JobOrder::new(request, access), JobCredential::default())
}
