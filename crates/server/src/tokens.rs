//! Tokens: who gets which, where it is kept, whom it makes a request's principal.
//!
//! | token | holder | lives |
//! |---|---|---|
//! | `ewop_…` | the operator: `DATA/operator-token` (mode 0600), or the file of `[access] token_file` | until its file changes |
//! | `ewjob_…` | one job | as long as the job |
//! | `ewsys_…` | control's own writes to the registry | as long as the process |
//!
//! In memory they are hashes. No token is ever logged.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_job::{JobCredential, JobCredentials};
use edgewright_model::grants::Grants;
use edgewright_model::order::{JobId, JobRequest, Task};
use edgewright_model::principal::Principal;
use edgewright_registry::AccessToken;

use crate::settings::{Secret, Settings, SettingsError};

/// Length of a token's random part, in bytes.
const RANDOM_BYTES: usize = 32;
/// Only the server's user reads the operator's token.
const PRIVATE: u32 = 0o600;

/// What a token is for: its scannable prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// The operator's.
    Operator,
    /// A job's.
    Job,
    /// The server's own.
    System,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "ewop_",
            Self::Job => "ewjob_",
            Self::System => "ewsys_",
        }
    }
}

/// Makes a token of 256 random bits.
///
/// # Errors
/// The operating system gives no random bytes.
pub fn generate(kind: TokenKind) -> Result<Secret, getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(format!("{}{}", kind.prefix(), edgewright_model::digest::hex(&bytes))))
}

/// Reads the operator's token. The one of the data folder is made where it is missing; a file that the settings name must
/// be there.
///
/// # Errors
/// The file cannot be read or written, or holds no token.
pub fn operator_token(settings: &Settings) -> Result<Secret, SettingsError> {
    match &settings.token_file {
        Some(file) => Secret::read(file),
        None => kept_operator_token(&settings.operator_token_file()),
    }
}

/// Reads the token of the data folder, and makes one where there is none. A file that others may read is closed to them.
fn kept_operator_token(path: &Path) -> Result<Secret, SettingsError> {
    let fail = |source| SettingsError::Secret { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(file.path = %path.display(), file.mode = format!("{mode:o}"), "other users could read the operator's token; now they cannot");
                std::fs::set_permissions(path, Permissions::from_mode(PRIVATE)).map_err(fail)?;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = generate(TokenKind::Operator).map_err(|error| fail(std::io::Error::other(error)))?;
            write_private(path, token.reveal()).map_err(fail)?;
        }
        Err(error) => return Err(fail(error)),
    }
    Secret::read(path)
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The tokens that live as long as the process. Clones share them.
#[derive(Debug, Clone)]
pub struct ProcessTokens {
    /// Those of jobs.
    pub jobs: JobTokens,
    /// Control's own, for its writes to the registry.
    pub system: Secret,
}

impl ProcessTokens {
    /// Makes them.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self { jobs: JobTokens::default(), system: generate(TokenKind::System)? })
    }
}

/// The tokens of the jobs that run now. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct JobTokens(Arc<Mutex<Issued>>);

/// The job of each token, and what it may do.
type Issued = HashMap<AccessToken, (JobId, Arc<Grants>)>;

impl JobTokens {
    /// Issues a token that permits what a task needs, until the returned guard is dropped.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn issue(&self, job: JobId, task: &Task) -> Result<(Secret, JobToken), getrandom::Error> {
        let secret = generate(TokenKind::Job)?;
        let token = AccessToken::new(secret.reveal());
        let grants = Arc::new(Grants::of(task));
        self.lock().insert(token.clone(), (job, grants));
        Ok((secret, JobToken { tokens: self.clone(), token }))
    }

    /// The job that a token belongs to.
    pub(crate) fn principal(&self, token: &AccessToken) -> Option<Principal> {
        let tokens = self.lock();
        let (id, grants) = tokens.get(token)?;
        Some(Principal::Job { id: *id, grants: Arc::clone(grants) })
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobCredentials for JobTokens {
    fn issue(&self, request: &JobRequest) -> JobCredential {
        match Self::issue(self, request.job, &request.task) {
            Ok((secret, token)) => JobCredential::revocable(secret.reveal().to_owned(), move || drop(token)),
            Err(error) => {
                // The job is anonymous then, and its first write is refused.
                tracing::error!(job.id = %request.job, %error, "no token for a job: no random bytes");
                JobCredential::default()
            }
        }
    }
}

/// Keeps a job's token valid; dropping it ends that.
#[derive(Debug)]
pub struct JobToken {
    tokens: JobTokens,
    token: AccessToken,
}

impl Drop for JobToken {
    fn drop(&mut self) {
        self.tokens.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_token_is_made_once_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator-token");
        let first = kept_operator_token(&path).unwrap();
        assert!(first.reveal().starts_with("ewop_") && first.reveal().len() == "ewop_".len() + 64);
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(kept_operator_token(&path).unwrap(), first, "kept over restarts");
        assert_eq!(mode(), 0o600);
        std::fs::remove_file(&path).unwrap();
        // What a crash left in the middle does not matter.
        std::fs::write(path.with_extension("new"), "half").unwrap();
        assert_ne!(kept_operator_token(&path).unwrap(), first);
        std::fs::write(&path, "short").unwrap();
        assert!(kept_operator_token(&path).is_err());
    }

    #[test]
    fn a_jobs_token_ends_with_its_guard() {
        let tokens = JobTokens::default();
        let job = JobId(uuid::Uuid::now_v7());
        let task = serde_json::from_value(serde_json::json!({
            "kind": "lock", "image": "base", "request": {"base": null, "bootstrap": [], "platforms": []}, "keys": {},
            "now": "2026-01-01T00:00:00Z",
        }));
        let (secret, guard) = tokens.issue(job, &task.unwrap()).unwrap();
        let token = AccessToken::new(secret.reveal());
        assert!(matches!(tokens.principal(&token), Some(Principal::Job { id, .. }) if id == job));
        assert_eq!(tokens.principal(&AccessToken::new("ewjob_other")), None);
        assert!(!format!("{tokens:?} {secret:?}").contains(secret.reveal()));
        drop(guard);
        assert_eq!(tokens.principal(&token), None);
    }
}
