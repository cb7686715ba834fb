//! Tokens: which ones exist, where they are stored, and which principal they identify.
//!
//! | token | holder | valid |
//! |---|---|---|
//! | `ewop_…` | the operator: `[access] token_file`, or `DATA/operator-token` | until it changes |
//! | `ewusr_…` | a local user | until it expires, or is revoked |
//! | `ewdev_…` | an enrolled device; those that are not share `DATA/report-token` | until it changes |
//! | `ewenr_…` | a device that enrols | until it is used or expires |
//! | `ewjob_…` | one job | as long as the job |
//! | `ewsys_…` | control's own writes to the registry | as long as the process |
//!
//! In memory they are stored as hashes. No token is ever logged.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_job::{JobCredential, JobCredentials};
use edgewright_model::grants::Grants;
use edgewright_model::names::DeviceId;
use edgewright_model::order::{JobId, JobRequest, Task};
use edgewright_model::principal::Principal;
use edgewright_registry::AccessToken;

use crate::settings::{Secret, Settings, SettingsError};

/// The random part of a token, in bytes.
const RANDOM_BYTES: usize = 32;
/// The random part of a device's id, in bytes.
const DEVICE_ID_BYTES: usize = 8;
/// Mode of the token's file: only the server's user may read it.
const PRIVATE: u32 = 0o600;

/// The kind of a token: it decides the prefix, by which secret scanners recognise tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// The operator's.
    Operator,
    /// A user's.
    User,
    /// A job's.
    Job,
    /// A device's credential, or that for reports of devices that are not enrolled.
    Device,
    /// For enrolling devices.
    Enrolment,
    /// The server's own.
    System,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "ewop_",
            Self::User => "ewusr_",
            Self::Job => "ewjob_",
            Self::Device => "ewdev_",
            Self::Enrolment => "ewenr_",
            Self::System => "ewsys_",
        }
    }
}

/// Generates a token of 256 random bits.
///
/// # Errors
/// The operating system provides no random bytes.
pub fn generate(kind: TokenKind) -> Result<Secret, getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(format!("{}{}", kind.prefix(), edgewright_model::digest::hex(&bytes))))
}

/// Generates the id of a device: 64 random bits, never used again.
///
/// # Errors
/// The operating system provides no random bytes.
#[expect(clippy::missing_panics_doc, reason = "hexadecimal digits are a valid name")]
pub fn device_id() -> Result<DeviceId, getrandom::Error> {
    let mut bytes = [0; DEVICE_ID_BYTES];
    getrandom::fill(&mut bytes)?;
    let text = format!("dev-{}", edgewright_model::digest::hex(&bytes));
    Ok(text.parse().expect("letters, digits and a dash are an id"))
}

/// Reads the operator's token. The file in the data folder is created if it is missing; a file that the
/// settings name must exist.
///
/// # Errors
/// The file cannot be read or written, or contains no token.
pub fn operator_token(settings: &Settings) -> Result<Secret, SettingsError> {
    match &settings.token_file {
        Some(file) => Secret::read(file),
        None => generated_token(&settings.operator_token_file(), TokenKind::Operator),
    }
}

/// Reads the token for reports of devices, and creates it if it is missing.
///
/// # Errors
/// The file cannot be read or written, or contains no token.
pub fn report_token(path: &Path) -> Result<Secret, SettingsError> {
    generated_token(path, TokenKind::Device)
}

/// Reads the token of the data folder, and creates it if it is missing. Restricts the mode of a file that
/// others may read.
fn generated_token(path: &Path, kind: TokenKind) -> Result<Secret, SettingsError> {
    let fail = |source| SettingsError::Secret { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(file.path = %path.display(), file.mode = format!("{mode:o}"), "a token was readable by other users; the mode is now 600");
                std::fs::set_permissions(path, Permissions::from_mode(PRIVATE)).map_err(fail)?;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = generate(kind).map_err(|error| fail(std::io::Error::other(error)))?;
            write_private(path, token.reveal()).map_err(fail)?;
        }
        Err(error) => return Err(fail(error)),
    }
    Secret::read(path)
}

/// Writes a file that only its owner may read, atomically.
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

/// The tokens of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct ProcessTokens {
    /// Tokens of jobs.
    pub jobs: JobTokens,
    /// Control's own token, for its writes to the registry.
    pub system: Secret,
}

impl ProcessTokens {
    /// Generates them.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self { jobs: JobTokens::default(), system: generate(TokenKind::System)? })
    }
}

/// The tokens of running jobs. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct JobTokens(Arc<Mutex<Issued>>);

/// The job of each token, and its permissions.
type Issued = HashMap<AccessToken, (JobId, Arc<Grants>)>;

impl JobTokens {
    /// Issues a token that permits what a task needs, until the returned guard is dropped.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub fn issue(&self, job: JobId, task: &Task) -> Result<(Secret, JobToken), getrandom::Error> {
        let secret = generate(TokenKind::Job)?;
        let token = AccessToken::new(secret.reveal());
        let grants = Arc::new(Grants::of(task));
        self.lock().insert(token.clone(), (job, grants));
        Ok((secret, JobToken { tokens: self.clone(), token }))
    }

    /// The job of a token.
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
                // The job is anonymous then, and its first write fails.
                tracing::error!(job.id = %request.job, %error, "cannot issue a token for a job");
                JobCredential::default()
            }
        }
    }

    fn adopt(&self, request: &JobRequest, token: &str) -> JobCredential {
        let adopted = AccessToken::new(token);
        self.lock().insert(adopted.clone(), (request.job, Arc::new(Grants::of(&request.task))));
        let guard = JobToken { tokens: self.clone(), token: adopted };
        JobCredential::revocable(token.to_owned(), move || drop(guard))
    }
}

/// A job's token is valid until this is dropped.
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
    fn the_operators_token_is_created_once_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator-token");
        let first = generated_token(&path, TokenKind::Operator).unwrap();
        assert!(first.reveal().starts_with("ewop_") && first.reveal().len() == "ewop_".len() + 64);
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(generated_token(&path, TokenKind::Operator).unwrap(), first, "kept over restarts");
        assert_eq!(mode(), 0o600);
        std::fs::remove_file(&path).unwrap();
        // A file that a crash left unfinished does not matter.
        std::fs::write(path.with_extension("new"), "half").unwrap();
        assert_ne!(generated_token(&path, TokenKind::Operator).unwrap(), first);
        std::fs::write(&path, "short").unwrap();
        assert!(generated_token(&path, TokenKind::Operator).is_err());
    }

    #[test]
    fn a_jobs_token_is_valid_until_its_guard_is_dropped() {
        let tokens = JobTokens::default();
        let job = JobId(uuid::Uuid::now_v7());
        let task = serde_json::from_value(serde_json::json!({
            "kind": "lock", "image": "base", "request": {"base": null, "bootstrap": [], "platforms": []}, "keys": {},
            "now": "2026-01-01T00:00:00Z",
        }));
        let domain = edgewright_model::order::TrustDomain { source: 1, trusted: true };
        let request = JobRequest { job, domain, task: task.unwrap(), within: "1m".parse().unwrap() };
        let (secret, guard) = tokens.issue(job, &request.task).unwrap();
        let token = AccessToken::new(secret.reveal());
        assert!(matches!(tokens.principal(&token), Some(Principal::Job { id, .. }) if id == job));
        assert_eq!(tokens.principal(&AccessToken::new("ewjob_other")), None);
        assert!(!format!("{tokens:?} {secret:?}").contains(secret.reveal()));
        drop(guard);
        assert_eq!(tokens.principal(&token), None);
        // As after a restart of the server, for a job that runs elsewhere.
        let adopted = tokens.adopt(&request, secret.reveal());
        assert!(matches!(tokens.principal(&token), Some(Principal::Job { id, .. }) if id == job));
        drop(adopted);
        assert_eq!(tokens.principal(&token), None);
    }
}
