//! The results of a command.

use std::time::Duration;

use crate::error::Ended;

/// Which of a process's streams a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The output of a command.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output, if it was kept.
    pub stdout: Vec<u8>,
    /// The last lines of standard error.
    pub stderr_tail: Vec<String>,
    /// The time from its start to its end.
    pub duration: Duration,
}

impl Output {
    /// Standard output as text, without trailing white space and with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// The output of a command, and how it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Its output.
    pub output: Output,
}

impl Finished {
    /// Whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.ended == Ended::Code(0)
    }

    /// The exit code, unless a signal ended it.
    pub const fn code(&self) -> Option<i32> {
        match self.ended {
            Ended::Code(code) => Some(code),
            Ended::Signal(_) => None,
        }
    }
}
