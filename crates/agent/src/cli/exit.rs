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
  3   what was asked for does not exist
  4   not permitted in this state, or in use by another process
  5   a registry, a program or the disk failed: trying again may help
  70  a bug in the agent";

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
        ExitCode::from(self.class.exit_code())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// The class that comes after another: every class but the first. Another class needs its place here.
    const fn after(class: ErrorClass) -> Option<ErrorClass> {
        match class {
            ErrorClass::UserFault => Some(ErrorClass::NotFound),
            ErrorClass::NotFound => Some(ErrorClass::Conflict),
            ErrorClass::Conflict => Some(ErrorClass::Denied),
            ErrorClass::Denied => Some(ErrorClass::Unavailable),
            ErrorClass::Unavailable => Some(ErrorClass::Bug),
            ErrorClass::Bug => None,
        }
    }

    /// The numbers at the beginning of the lines of a text, after a prefix.
    fn numbers(text: &str, prefix: &str) -> BTreeSet<u8> {
        text.lines()
            .filter_map(|line| line.strip_prefix(prefix)?.split([' ', '`']).next()?.parse().ok())
            .collect()
    }

    #[test]
    fn help_and_reference_list_every_exit_code() {
        let classes = std::iter::successors(Some(ErrorClass::UserFault), |class| after(*class));
        // Those of a command that did its work: all is well, or it found a fault.
        let mut codes = BTreeSet::from([0, 1]);
        codes.extend(classes.map(ErrorClass::exit_code));
        let help = Cli::command().render_long_help().to_string();
        let (_, listed) = help.split_once("Exit codes:\n").unwrap();
        assert_eq!(numbers(listed, "  "), codes, "--help");
        let page = include_str!("../../../../docs/reference/agent.md");
        assert_eq!(numbers(page, "- `"), codes, "docs/reference/agent.md");
    }
}
