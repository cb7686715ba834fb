//! The errors of subprocesses.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::time::Duration;

use edgewright_model::error::ErrorClass;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why a command gave no result. After any of these, no process of its group is left.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("`{}` is not installed", .program.to_string_lossy())]
    NotFound {
        /// The name or path that was asked for.
        program: OsString,
        /// The next action, in the imperative.
        hint: String,
    },
    /// The system could not start it.
    #[error("cannot start `{command}`")]
    Spawn {
        /// The command line.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}` ended with {ended}{}", last_line(.stderr_tail))]
    Exit {
        /// The command line.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The last lines of its standard error.
        stderr_tail: Vec<String>,
    },
    /// It timed out and was killed.
    #[error("`{command}` was killed: it took longer than {after:?}{}", last_line(.stderr_tail))]
    Deadline {
        /// The command line.
        command: String,
        /// The limit.
        after: Duration,
        /// The last lines of its standard error.
        stderr_tail: Vec<String>,
    },
    /// It was killed because its result is no longer needed.
    #[error("`{command}` was cancelled")]
    Cancelled {
        /// The command line.
        command: String,
    },
    /// It printed more than the limit and was killed.
    #[error("`{command}` was killed: it printed more than {limit} bytes")]
    TooMuchOutput {
        /// The command line.
        command: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Its pipes or its state could not be read.
    #[error("lost contact with `{command}`")]
    Io {
        /// The command line.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
}

fn last_line(tail: &[String]) -> String {
    tail.iter().rev().find(|line| !line.trim().is_empty()).map_or(String::new(), |line| format!(": {line}"))
}

impl CommandError {
    /// The default class. A caller that knows the meaning of an exit code chooses the class itself.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::TooMuchOutput { .. } => ErrorClass::Bug,
            Self::NotFound { .. }
            | Self::Spawn { .. }
            | Self::Exit { .. }
            | Self::Deadline { .. }
            | Self::Cancelled { .. }
            | Self::Io { .. } => ErrorClass::Unavailable,
        }
    }

    /// The next action, in the imperative, if known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotFound { hint, .. } => Some(hint),
            _ => None,
        }
    }

    /// The last lines of the command's standard error, if any.
    pub fn stderr_tail(&self) -> &[String] {
        match self {
            Self::Exit { stderr_tail, .. } | Self::Deadline { stderr_tail, .. } => stderr_tail,
            _ => &[],
        }
    }

    /// How the command ended, if it ended by itself.
    pub const fn ended(&self) -> Option<Ended> {
        match self {
            Self::Exit { ended, .. } => Some(*ended),
            _ => None,
        }
    }
}
