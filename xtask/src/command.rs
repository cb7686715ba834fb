//! Subprocesses: one small builder, because xtask has no async runtime for `edgewright_process`.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

/// A command with inherited output, unless it is asked for its output.
#[derive(Debug)]
pub(crate) struct Run(Command);

impl Run {
    /// A program found on the `PATH`, or by its path.
    #[expect(clippy::disallowed_methods, reason = "xtask has no async runtime; this is its one place")]
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self(command)
    }

    /// The same as root, by sudo if this is another user.
    pub(crate) fn as_root(program: impl AsRef<OsStr>) -> anyhow::Result<Self> {
        if is_root()? { Ok(Self::new(program)) } else { Ok(Self::new("sudo").arg(program)) }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Reads a file as its standard input.
    pub(crate) fn stdin(mut self, file: &Path) -> anyhow::Result<Self> {
        let input = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.0.stdin(input);
        Ok(self)
    }

    /// Reads what the user types.
    pub(crate) fn inherit(mut self) -> Self {
        self.0.stdin(Stdio::inherit());
        self
    }

    pub(crate) fn cwd(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Runs it to its end; an error if it fails.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let status = self.0.status().with_context(|| self.cannot_start())?;
        if status.success() { Ok(()) } else { bail!("`{}` failed: {status}", self.line()) }
    }

    /// Whether it ends well; its output is dropped.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Its standard output; an error with the other stream if it fails.
    pub(crate) fn output(self) -> anyhow::Result<String> {
        self.output_unless(|status| !status.success())
    }

    /// Its standard output, also with exit code 1: `edgewright` worked, and what it checked has a fault.
    pub(crate) fn answer(self) -> anyhow::Result<String> {
        self.output_unless(|status| !matches!(status.code(), Some(0 | 1)))
    }

    fn output_unless(mut self, is_failure: impl Fn(ExitStatus) -> bool) -> anyhow::Result<String> {
        let output = self.0.output().with_context(|| self.cannot_start())?;
        if is_failure(output.status) {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed: {}: {}", self.line(), output.status, errors.trim());
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", self.line()))
    }

    /// Its standard output, with each line of its other stream as it comes; an error has the last one.
    pub(crate) fn output_with_progress(mut self, on_line: &mut dyn FnMut(&str)) -> anyhow::Result<String> {
        let mut child = self.0.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|_| anyhow::anyhow!(self.cannot_start()))?;
        let errors = child.stderr.take().context("the pipe was asked for")?;
        let mut last = String::new();
        for line in BufReader::new(errors).lines() {
            last = line?;
            on_line(&last);
        }
        // It is one short document: it fits into the pipe while the other stream is read.
        let mut output = String::new();
        child.stdout.take().context("the pipe was asked for")?.read_to_string(&mut output)?;
        let status = child.wait()?;
        if status.success() { Ok(output) } else { bail!("`{}` failed: {status}: {last}", self.line()) }
    }

    /// Starts it with its standard output piped to us.
    pub(crate) fn start_piped(mut self) -> anyhow::Result<Child> {
        self.0.stdout(Stdio::piped()).spawn().with_context(|| self.cannot_start())
    }

    /// Starts it with both streams in a file.
    pub(crate) fn start_logged(mut self, log: &Path) -> anyhow::Result<Child> {
        let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        self.0.stdout(file.try_clone()?).stderr(file).spawn().with_context(|| self.cannot_start())
    }

    /// The program and its arguments.
    pub(crate) fn words(&self) -> impl Iterator<Item = &OsStr> {
        std::iter::once(self.0.get_program()).chain(self.0.get_args())
    }

    /// The command line for people.
    pub(crate) fn line(&self) -> String {
        self.words().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn cannot_start(&self) -> String {
        format!("cannot start `{}`", self.line())
    }
}

/// Whether this process has user id 0.
pub(crate) fn is_root() -> anyhow::Result<bool> {
    Ok(Run::new("id").arg("-u").output()?.trim() == "0")
}

/// Whether a program is installed. Debian keeps some in folders that are not on an ordinary user's `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    const LOOK: &str = r#"PATH="$PATH:/usr/sbin:/sbin"; command -v "$0""#;
    Run::new("sh").args(["-c", LOOK, program]).succeeds()
}
