//! How jobs reach the registry: its address, and credentials that end with the job.

use std::fmt;
use std::sync::Arc;

use edgewright_model::order::{JobOrder, JobRequest, RegistryAccess};

/// Issues the credentials of one job; they end when the returned value is dropped.
pub trait JobCredentials: fmt::Debug + Send + Sync {
    /// Credentials for a job that is about to start.
    fn issue(&self, request: &JobRequest) -> JobCredential;

    /// Credentials for a job that an earlier process of the server started with `token`, and that still runs:
    /// the same token. Without an implementation, the job keeps a token that may be valid no more.
    fn adopt(&self, request: &JobRequest, token: &str) -> JobCredential {
        let _ = (request, token);
        JobCredential::default()
    }
}

/// The credential of one job. `Debug` hides the token.
#[derive(Default)]
pub struct JobCredential {
    token: Option<String>,
    revoke: Option<Box<dyn FnOnce() + Send>>,
}

impl JobCredential {
    /// A bearer token that stays valid.
    pub fn lasting(token: String) -> Self {
        Self { token: Some(token), revoke: None }
    }

    /// A bearer token, and the function that revokes it when the job has ended.
    pub fn revocable(token: String, revoke: impl FnOnce() + Send + 'static) -> Self {
        Self { token: Some(token), revoke: Some(Box::new(revoke)) }
    }

    /// The bearer token; none: the job is anonymous.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl Drop for JobCredential {
    fn drop(&mut self) {
        if let Some(revoke) = self.revoke.take() {
            revoke();
        }
    }
}

impl fmt::Debug for JobCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobCredential")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("revocable", &self.revoke.is_some())
            .finish()
    }
}

/// Jobs are anonymous.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl JobCredentials for NoCredentials {
    fn issue(&self, _request: &JobRequest) -> JobCredential {
        JobCredential::default()
    }
}

/// All jobs have the same token. `Debug` hides it.
#[derive(Clone)]
pub struct FixedCredentials(String);

impl FixedCredentials {
    /// Gives this token to every job.
    pub const fn new(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for FixedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FixedCredentials")
    }
}

impl JobCredentials for FixedCredentials {
    fn issue(&self, _request: &JobRequest) -> JobCredential {
        JobCredential::lasting(self.0.clone())
    }
}

/// The registry as an executor's jobs reach it. This is configuration of the executor: jobs on another
/// machine use another address than jobs beside the server.
#[derive(Debug, Clone)]
pub struct JobRegistry {
    /// Base address, such as `http://127.0.0.1:5080`.
    pub url: String,
    /// Issues the credentials of jobs.
    pub credentials: Arc<dyn JobCredentials>,
}

impl JobRegistry {
    /// A registry without credentials.
    pub fn anonymous(url: impl Into<String>) -> Self {
        Self { url: url.into(), credentials: Arc::new(NoCredentials) }
    }

    /// The document for the job's process. The credential must live as long as the job.
    pub fn order(&self, request: JobRequest) -> (JobOrder, JobCredential) {
        let credential = self.credentials.issue(&request);
        let access = RegistryAccess { url: self.url.clone(), token: credential.token().map(str::to_owned) };
        (JobOrder::new(request, access), credential)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::conformance::lock_request;

    #[derive(Debug)]
    struct Counting(Arc<AtomicUsize>);

    impl JobCredentials for Counting {
        fn issue(&self, request: &JobRequest) -> JobCredential {
            let revoked = Arc::clone(&self.0);
            JobCredential::revocable(format!("job-{}", request.job), move || {
                revoked.fetch_add(1, Ordering::SeqCst);
            })
        }
    }

    #[test]
    fn a_credential_ends_when_it_is_dropped_and_is_not_shown() {
        let revoked = Arc::new(AtomicUsize::new(0));
        let registry =
            JobRegistry { url: "http://r".to_owned(), credentials: Arc::new(Counting(Arc::clone(&revoked))) };
        let (order, credential) = registry.order(lock_request(1, "base").unwrap());
        assert_eq!(order.registry.token.as_deref(), credential.token());
        let shown = format!("{registry:?} {credential:?} {:?}", order.registry);
        assert!(!shown.contains("job-"), "{shown}");
        assert_eq!(revoked.load(Ordering::SeqCst), 0);
        drop(credential);
        assert_eq!(revoked.load(Ordering::SeqCst), 1);
        let fixed = FixedCredentials::new("s3cret".to_owned());
        assert_eq!(fixed.issue(&lock_request(1, "base").unwrap()).token(), Some("s3cret"));
        assert!(!format!("{fixed:?}").contains("s3cret"));
    }
}
