//! Error classes, and the one adapter that prints a chain of causes.

use std::error::Error;
use std::fmt;

/// The class of an error. One place maps it to an exit code, another to an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The input is invalid; retrying without a change fails again.
    UserFault,
    /// The requested object does not exist.
    NotFound,
    /// The state changed in the meantime, or does not allow the operation.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// An external system is unreachable, or a resource is exhausted; a retry may help.
    Unavailable,
    /// A defect of Edgewright.
    Bug,
}

impl ErrorClass {
    /// The exit code of a command that ends with such an error.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::UserFault => 2,
            Self::NotFound => 3,
            Self::Conflict | Self::Denied => 4,
            Self::Unavailable => 5,
            Self::Bug => 70,
        }
    }
}

/// Prints an error with its causes on one line: `a: b: c`. `Display` of our errors never includes its source.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
