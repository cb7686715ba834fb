//! How a command ends: the published exit codes, and the one place that prints errors.

use std::process::ExitCode;

use edgewright_api::{ApiError, ClientError};
use edgewright_control::ControlError;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::resolve::ResolveError;
use edgewright_model::run::RunState;
use edgewright_process::CommandError;
use edgewright_sandbox::SandboxError;
use edgewright_server::backup::BackupError;
use edgewright_server::telemetry::InvalidFilter;
use edgewright_server::{FolderError, SettingsError, StartError, ViewError};
use edgewright_source::SourceError;
use edgewright_source::remote::InvalidRemote;
use edgewright_store::StoreError;

use crate::output;

/// The exit codes, as `--help` prints them.
pub(crate) const HELP: &str = "\
Exit codes:
  0   done, and nothing is wrong
  1   done, and something is wrong: `check` found errors, a run failed
  2   invalid command line, settings or input
  3   what was asked for does not exist
  4   not permitted, or in use by another process
  5   something outside of Edgewright is unreachable, full or broken: trying again may help
  70  a bug in Edgewright
  130 stopped by Ctrl-C or SIGTERM before it was done";

/// The exit code after a stop by the user: 128 and the number of SIGINT, as shells have it.
const STOPPED: u8 = 130;

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is wrong.
    Good,
    /// What it checked or ran has a fault.
    Fault,
    /// The user stopped it.
    Stopped,
    /// A command in a machine ended with this code, which is not 0.
    Command(u8),
}

impl End {
    /// The end of a command whose run ended in this state.
    pub(crate) const fn of(state: RunState) -> Self {
        match state {
            RunState::Passed => Self::Good,
            RunState::Cancelled => Self::Stopped,
            _ => Self::Fault,
        }
    }

    /// Its exit code.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Good => ExitCode::SUCCESS,
            Self::Fault => ExitCode::from(1),
            Self::Stopped => ExitCode::from(STOPPED),
            Self::Command(code) => ExitCode::from(code),
        }
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    class: ErrorClass,
    message: String,
    hint: Option<String>,
    /// The user stopped it: the class does not apply.
    is_stop: bool,
}

impl Failure {
    /// The user stopped it before its end.
    pub(crate) fn stopped(message: &str) -> Self {
        Self { is_stop: true, ..Self::user(message) }
    }

    /// Whether trying again may help.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.class == ErrorClass::Unavailable
    }

    /// Of a class, with a message.
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, is_stop: false }
    }

    /// Invalid input.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::UserFault, message)
    }

    /// Something outside that did not work.
    pub(crate) fn unavailable(message: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(ErrorClass::Unavailable, format!("{message}: {}", Chain(error)))
    }

    /// A file that cannot be used.
    pub(crate) fn file(message: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let class = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorClass::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorClass::Denied,
            _ => ErrorClass::Unavailable,
        };
        Self::new(class, format!("{message} {}: {error}", path.display()))
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(
        class: ErrorClass,
        error: &(dyn std::error::Error + 'static),
        hint: Option<impl Into<String>>,
    ) -> Self {
        Self { class, message: Chain(error).to_string(), hint: hint.map(Into::into), is_stop: false }
    }
}

macro_rules! failures {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(error.class(), &error, error.hint())
            }
        }
    )+};
}

failures!(
    BackupError,
    ClientError,
    CommandError,
    InvalidFilter,
    SandboxError,
    SettingsError,
    SourceError,
    StartError,
    StoreError,
    ViewError
);

macro_rules! failures_without_hint {
    ($($error:ty => $class:expr),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let class: fn(&$error) -> ErrorClass = $class;
                Self::of(class(&error), &error, None::<String>)
            }
        }
    )+};
}

failures_without_hint! {
    ControlError => ControlError::class,
    ResolveError => ResolveError::class,
    InvalidRemote => |_| ErrorClass::UserFault,
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        Self::of(error.class(), &error, Some(error.hint()))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { class: error.code, message: error.message, hint: error.hint, is_stop: false }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// The name of a class in JSON.
pub(crate) const fn name_of(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::UserFault => "user_fault",
        ErrorClass::NotFound => "not_found",
        ErrorClass::Conflict => "conflict",
        ErrorClass::Denied => "denied",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Bug => "bug",
    }
}

/// Prints what clap has to print, an error or a help text, and gives its exit code.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && output::errors_are_json() {
        let (message, hint) = usage(&error.render().to_string());
        output::error(name_of(ErrorClass::UserFault), &message, Some(&hint));
    } else {
        // Without a terminal to print to, the exit code remains.
        drop(error.print());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Message and hint of a usage error as clap prints it: paragraphs, the last of which names `--help`.
fn usage(text: &str) -> (String, String) {
    let line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.trim().split("\n\n").map(line);
    let message = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find_map(|paragraph| Some(paragraph.strip_prefix("tip: ")?.to_owned()));
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    (message, tip.unwrap_or_else(|| "`--help` lists what the command accepts".to_owned()))
}

/// Prints an error; returns its exit code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    let code = if failure.is_stop { "stopped" } else { name_of(failure.class) };
    output::error(code, &failure.message, failure.hint.as_deref());
    ExitCode::from(if failure.is_stop { STOPPED } else { failure.class.exit_code() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_documented_exit_code() {
        let classes = [
            (ErrorClass::UserFault, 2),
            (ErrorClass::NotFound, 3),
            (ErrorClass::Conflict, 4),
            (ErrorClass::Denied, 4),
            (ErrorClass::Unavailable, 5),
            (ErrorClass::Bug, 70),
        ];
        for (class, code) in classes {
            assert_eq!(class.exit_code(), code);
            assert_eq!(serde_json::to_value(class).unwrap(), name_of(class));
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code}");
        }
    }

    #[test]
    fn a_usage_error_is_a_message_and_a_hint() {
        let text = "error: unexpected argument '--jsn' found\n\n  tip: a similar argument exists: '--json'\n\nUsage: \
                    edgewright runs --json\n\nFor more information, try '--help'.\n";
        let (message, hint) = usage(text);
        assert_eq!(message, "unexpected argument '--jsn' found");
        assert_eq!(hint, "a similar argument exists: '--json'");
        let text = "error: the following required arguments were not provided:\n  <VARIANT>\n\nUsage: edgewright vars\n";
        let (message, hint) = usage(text);
        assert_eq!(message, "the following required arguments were not provided: <VARIANT>");
        assert!(hint.contains("--help"));
    }
}
