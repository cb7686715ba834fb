//! A subprocess before its start: program, arguments, environment, input and limits.
//!
//! ```text
//! Command ──run──────────▶ standard output in memory (bounded)
//!         ──run_lines────▶ both streams line by line
//!         ──run_to_file──▶ standard output into a file
//!         ──run_reader───▶ standard output into a blocking reader
//!         ──run_dialogue─▶ a blocking closure writes and reads
//! ```
//!
//! Every way: own process group, clean environment, deadline, cancellation, bounded tail of standard error.
//! No process of the group is left when the future is done or dropped.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use crate::context::ProcessContext;
use crate::error::{CommandError, Ended};
use crate::execute::{self, Sink};
use crate::lines::LINE_LIMIT;
use crate::output::{Finished, Output, Stream};
use crate::program::{HOME, SEARCH_PATH, SETPRIV, hint, which};
use crate::quote::command_line;

/// The default deadline.
const DEADLINE: Duration = Duration::from_hours(1);
/// The default time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// The default limit of the standard output that [`Command::run`] keeps in memory, in bytes.
const STDOUT_LIMIT: usize = 16 * 1024 * 1024;

/// The source of standard input.
pub(crate) enum Stdin {
    Null,
    Bytes { bytes: Vec<u8>, keep_open: bool },
    File(File),
}

/// A subprocess to start: own process group, no input, and only `PATH`, `HOME`, `LANG`, `TZ` and given
/// variables as its environment.
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    pub(crate) stdin: Stdin,
    pub(crate) deadline: Duration,
    pub(crate) grace: Duration,
    pub(crate) cancel: Vec<CancellationToken>,
    pub(crate) stdout_limit: usize,
    pub(crate) line_limit: usize,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command(`{}`)", self.line())
    }
}

impl Command {
    /// A program by name or path.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stdin: Stdin::Null,
            deadline: DEADLINE,
            grace: GRACE,
            cancel: Vec::new(),
            stdout_limit: STDOUT_LIMIT,
            line_limit: LINE_LIMIT,
        }
    }

    /// Adds an argument. Arguments are printed in messages: secrets go by environment, input or file.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.args.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item: Into<OsString>>) -> Self {
        self.args.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable. Values are never printed.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The working directory; by default this process's own.
    #[must_use]
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.cwd = Some(folder.as_ref().to_owned());
        self
    }

    /// Writes these bytes to standard input, then closes it. No error if the process does not read them all.
    #[must_use]
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes { bytes: bytes.into(), keep_open: false };
        self
    }

    /// Writes these bytes to standard input and leaves it open until the process ends or is asked to end.
    #[must_use]
    pub fn stdin_bytes_kept_open(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes { bytes: bytes.into(), keep_open: true };
        self
    }

    /// Takes standard input from a file.
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.stdin = Stdin::File(file);
        self
    }

    /// Kills the process group after this time; one hour by default.
    #[must_use]
    pub const fn deadline(mut self, after: Duration) -> Self {
        self.deadline = after;
        self
    }

    /// The time between SIGTERM and SIGKILL; three seconds by default.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Kills the process group when the token fires. Several tokens may be given.
    #[must_use]
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel.push(token);
        self
    }

    /// Uses a context's environment and token. Variables of the command itself win.
    #[must_use]
    pub fn context(mut self, context: &ProcessContext) -> Self {
        for (name, value) in context.env() {
            self.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.cancel(context.cancel().clone())
    }

    /// The most bytes of standard output that [`Command::run`] keeps; 16 MiB by default.
    #[must_use]
    pub const fn stdout_limit(mut self, bytes: usize) -> Self {
        self.stdout_limit = bytes;
        self
    }

    /// The length at which [`Command::run_lines`] cuts lines, in bytes; 4 KiB by default.
    #[must_use]
    pub const fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit = bytes;
        self
    }

    /// The command line as typed in a shell.
    pub fn line(&self) -> String {
        command_line(
            std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str)),
        )
    }

    /// Runs it and keeps standard output. Any exit status but 0 is an error.
    pub async fn run(self) -> Result<Output, CommandError> {
        let line = self.line();
        succeeded(line, self.run_status().await?)
    }

    /// Runs it and keeps standard output, with any exit status.
    pub async fn run_status(self) -> Result<Finished, CommandError> {
        execute::execute(self, Stdio::piped(), Sink::Memory).await
    }

    /// Runs it and writes standard output to a file.
    pub async fn run_to_file(self, file: File) -> Result<Output, CommandError> {
        let line = self.line();
        succeeded(line, execute::execute(self, file.into(), Sink::Elsewhere).await?)
    }

    /// Runs it and passes on each line that is not empty, of both streams, as it arrives.
    pub async fn run_lines(self, on_line: impl FnMut(Stream, &str) + Send) -> Result<Output, CommandError> {
        let line = self.line();
        succeeded(line, self.run_lines_status(on_line).await?)
    }

    /// As [`Command::run_lines`], with any exit status.
    pub async fn run_lines_status(
        self,
        mut on_line: impl FnMut(Stream, &str) + Send,
    ) -> Result<Finished, CommandError> {
        execute::execute(self, Stdio::piped(), Sink::Lines(&mut on_line)).await
    }

    /// Runs it with a blocking closure reading standard output on a thread of its own. The closure need not
    /// read to the end.
    pub async fn run_reader<T: Send + 'static>(
        self,
        read: impl FnOnce(Box<dyn Read + Send>) -> T + Send + 'static,
    ) -> Result<(T, Output), CommandError> {
        let line = self.line();
        let (value, finished) = execute::with_reader(self, read).await?;
        // A reader that stops early breaks the pipe: its value explains why.
        if finished.ended == Ended::Signal(Signal::PIPE.as_raw()) {
            return Ok((value, finished.output));
        }
        Ok((value, succeeded(line, finished)?))
    }

    /// Runs it with a blocking closure that writes its standard input and reads its standard output.
    pub async fn run_dialogue<T: Send + 'static>(
        self,
        talk: impl FnOnce(PipeWriter, Box<dyn Read + Send>) -> T + Send + 'static,
    ) -> Result<(T, Output), CommandError> {
        let (theirs, ours) =
            io::pipe().map_err(|source| CommandError::Io { command: self.line(), source })?;
        self.stdin_file(OwnedFd::from(theirs).into()).run_reader(move |answers| talk(ours, answers)).await
    }

    /// The command for the runtime, and its command line for messages.
    pub(crate) fn assemble(&self, stdout: Stdio) -> Result<tokio::process::Command, CommandError> {
        let not_found =
            || CommandError::NotFound { program: self.program.clone(), hint: hint(&self.program) };
        let program = which(&self.program).ok_or_else(not_found)?;
        let mut command = with_death_signal(program.as_os_str());
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", &*SEARCH_PATH)
            .env("HOME", &*HOME)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .envs(&self.env)
            .stdin(match &self.stdin {
                Stdin::Null => Stdio::null(),
                Stdin::Bytes { .. } => Stdio::piped(),
                Stdin::File(file) => file
                    .try_clone()
                    .map(Stdio::from)
                    .map_err(|source| CommandError::Spawn { command: self.line(), source })?,
            })
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        Ok(command)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the helper that all others use")]
fn with_death_signal(program: &OsStr) -> tokio::process::Command {
    let Some(setpriv) = &*SETPRIV else { return tokio::process::Command::new(program) };
    let mut command = tokio::process::Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn succeeded(command: String, finished: Finished) -> Result<Output, CommandError> {
    if finished.success() {
        return Ok(finished.output);
    }
    Err(CommandError::Exit { command, ended: finished.ended, stderr_tail: finished.output.stderr_tail })
}
