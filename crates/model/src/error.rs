//! Error classes, and the one adapter that prints a chain of causes.

use std::error::Error;
use std::fmt;

/// What kind of fault an error is. One place maps it to an exit code, one to an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The user's input is wrong; trying again without changing it is useless.
    UserFault,
    /// The thing asked for does not exist.
    NotFound,
    /// The state changed in between, or forbids the operation.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// Something outside is not reachable or full right now; trying again may help.
    Unavailable,
    /// A defect of Edgewright.
    Bug,
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
