//! How the command ends. The codes are those of `edgewright`.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use edgewright_model::error::{Chain, ErrorClass};
use serde_json::json;

use crate::config::ConfigError;
use crate::engine::EngineError;
use crate::store::StoreError;
use crate::updater::UpdateError;

/// The exit codes, as `--help` prints them.
pub(super) const HELP: &str = "\
Exit codes:
  0   done, and nothing is wrong
  1   done, and something is wrong: a problem, a failed health check
  2   invalid command line or configuration
  4   not permitted in this state, or in use by another process
  5   a registry, a program or the disk failed: trying again may help";

/// Why a command did not do its work.
#[derive(Debug)]
pub(super) struct Failure {
    class: ErrorClass,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(super) fn new(class: ErrorClass, message: impl Into<String>, hint: Option<String>) -> Self {
        Self { class, message: message.into(), hint }
    }

    pub(super) fn unavailable(what: &str, error: &(dyn Error + 'static)) -> Self {
        Self::new(ErrorClass::Unavailable, format!("{what}: {}", Chain(error)), None)
    }

    /// Prints it, and returns its exit code.
    pub(super) fn report(&self, as_json: bool) -> ExitCode {
        let mut err = std::io::stderr().lock();
        // There is no other place to report to.
        let _ = if as_json {
            let error = json!({"error": {"code": self.class, "message": self.message, "hint": self.hint}});
            writeln!(err, "{error}")
        } else {
            writeln!(err, "error: {}", self.message).and_then(|()| match &self.hint {
                Some(hint) => writeln!(err, "hint: {hint}"),
                None => Ok(()),
            })
        };
        ExitCode::from(match self.class {
            ErrorClass::UserFault => 2,
            ErrorClass::NotFound => 3,
            ErrorClass::Conflict | ErrorClass::Denied => 4,
            ErrorClass::Unavailable => 5,
            ErrorClass::Bug => 70,
        })
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(ErrorClass::UserFault, Chain(&error).to_string(), Some(error.hint()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (class, hint) = match &error {
            StoreError::InUse { .. } => (
                ErrorClass::Conflict,
                Some("is another agent running? See `systemctl status edgewright-agent`"),
            ),
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                (ErrorClass::Denied, Some("run it as root"))
            }
            StoreError::Newer { .. } => {
                (ErrorClass::Conflict, Some("run the later version of edgewright-agent"))
            }
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                (ErrorClass::Unavailable, Some("free space on the file system of the state"))
            }
            StoreError::Io { .. } => (ErrorClass::Unavailable, None),
        };
        Self::new(class, Chain(&error).to_string(), hint.map(str::to_owned))
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        Self::new(error.class(), Chain(&error).to_string(), error.hint())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Updater(error) => error.into(),
            EngineError::Blobs(error) => {
                let problem = error.problem();
                Self::new(ErrorClass::Unavailable, problem.message, problem.hint)
            }
            error @ EngineError::Stopped(_) => Self::unavailable("the agent stopped", &error),
        }
    }
}
