//! What a command leaves.

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

/// What a command that went well left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output, where it was kept.
    pub stdout: Vec<u8>,
    /// The last lines of standard error.
    pub stderr_tail: Vec<String>,
    /// From start to end.
    pub duration: Duration,
}

impl Output {
    /// Standard output as text, without white space at its end; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// What a command left, however it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// What it left.
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
