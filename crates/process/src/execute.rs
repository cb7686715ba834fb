//! Runs a command: feeds its input, drains its output, watches deadline and tokens, all concurrently.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::command::{Command, Stdin};
use crate::error::{CommandError, Ended};
use crate::group::Group;
use crate::lines::{LineReader, Tail};
use crate::output::{Finished, Output, Stream};

/// How long pipes may stay open after the process has ended, before the processes that hold them are killed.
const LINGER: Duration = Duration::from_secs(2);
/// How much a reader that stops early may leave unread, in bytes: padding at the end of an archive.
const LEFT_UNREAD: u64 = 1024 * 1024;

/// The destination of standard output.
pub(crate) enum Sink<'a> {
    Memory,
    Elsewhere,
    Lines(&'a mut (dyn FnMut(Stream, &str) + Send)),
}

enum Fault {
    Io(io::Error),
    TooMuch,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

enum Stop {
    Ended(Result<ExitStatus, Fault>),
    Deadline,
    Cancelled,
}

pub(crate) async fn execute(
    command: Command,
    stdout: Stdio,
    sink: Sink<'_>,
) -> Result<Finished, CommandError> {
    let started = Instant::now();
    let line = command.line();
    if command.cancel.iter().any(CancellationToken::is_cancelled) {
        return Err(CommandError::Cancelled { command: line });
    }
    let io_error = |source| CommandError::Io { command: line.clone(), source };
    let mut group = Group::start(command.assemble(stdout)?)
        .await
        .map_err(|source| CommandError::Spawn { command: line.clone(), source })?;
    tracing::debug!(process.command = %line, process.id = group.child.id(), "started");

    let limit = command.stdout_limit;
    let stdin = group.child.stdin.take();
    let pipes = (group.child.stdout.take(), group.child.stderr.take());
    let (mut bytes, mut tail) = (Vec::new(), Tail::default());
    // Held here, not in the future that is dropped: standard input stays open until the process is asked to
    // end.
    let mut kept = None;
    let stop = {
        let feed = feed(stdin, command.stdin, &mut kept);
        let drain = drain(pipes, sink, (limit, command.line_limit), &mut bytes, &mut tail);
        let work = finish(&mut group, async { tokio::try_join!(feed, drain).map(|_| ()) });
        tokio::select! {
            biased;
            stop = work => Stop::Ended(stop),
            () = any_cancelled(&command.cancel) => Stop::Cancelled,
            () = tokio::time::sleep(command.deadline) => Stop::Deadline,
        }
    };
    drop(kept);
    if !matches!(stop, Stop::Ended(Ok(_))) {
        group.end(command.grace).await;
    }
    group.release();
    let (stderr_tail, duration) = (tail.into_lines(), started.elapsed());
    tracing::debug!(process.command = %line, duration_ms = duration.as_millis(), "ended");
    match stop {
        Stop::Ended(Ok(status)) => {
            let output = Output { stdout: bytes, stderr_tail, duration };
            Ok(Finished { ended: ended(status), output })
        }
        Stop::Ended(Err(Fault::TooMuch)) => Err(CommandError::TooMuchOutput { command: line, limit }),
        Stop::Ended(Err(Fault::Io(source))) => Err(io_error(source)),
        Stop::Deadline => Err(CommandError::Deadline { command: line, after: command.deadline, stderr_tail }),
        Stop::Cancelled => Err(CommandError::Cancelled { command: line }),
    }
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or_else(|| Ended::Signal(status.signal().unwrap_or_default()), Ended::Code)
}

/// Waits for the process and its pipes. A background process may hold the pipes for ever: it is given a short
/// time.
async fn finish(
    group: &mut Group,
    pipes: impl Future<Output = Result<(), Fault>>,
) -> Result<ExitStatus, Fault> {
    tokio::pin!(pipes);
    let status = tokio::select! {
        drained = &mut pipes => {
            drained?;
            return Ok(group.child.wait().await?);
        }
        status = group.child.wait() => status?,
    };
    if let Ok(drained) = timeout(LINGER, &mut pipes).await {
        drained?;
    } else {
        group.kill();
        // A process that left the group holds the pipes even now; do not wait for its output.
        if let Ok(drained) = timeout(LINGER, &mut pipes).await {
            drained?;
        }
    }
    Ok(status)
}

async fn any_cancelled(tokens: &[CancellationToken]) {
    let mut waiting: Vec<_> = tokens.iter().map(|token| Box::pin(token.cancelled())).collect();
    std::future::poll_fn(|context| {
        if waiting.iter_mut().any(|token| token.as_mut().poll(context).is_ready()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

async fn feed(pipe: Option<ChildStdin>, stdin: Stdin, kept: &mut Option<ChildStdin>) -> Result<(), Fault> {
    let (Some(mut pipe), Stdin::Bytes { bytes, keep_open }) = (pipe, stdin) else { return Ok(()) };
    match pipe.write_all(&bytes).await {
        Ok(()) if keep_open => *kept = Some(pipe),
        Ok(()) => {}
        // The process did not read the rest; its exit code shows whether that is an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn drain(
    (stdout, stderr): (Option<ChildStdout>, Option<ChildStderr>),
    sink: Sink<'_>,
    (stdout_limit, line_limit): (usize, usize),
    bytes: &mut Vec<u8>,
    tail: &mut Tail,
) -> Result<(), Fault> {
    let Some(stderr) = stderr else { return Ok(()) };
    let mut errors = LineReader::new(stderr, line_limit);
    match (stdout, sink) {
        (Some(stdout), Sink::Lines(on_line)) => {
            let mut lines = LineReader::new(stdout, line_limit);
            let (mut more_out, mut more_err) = (true, true);
            while more_out || more_err {
                tokio::select! {
                    line = lines.next(), if more_out => match line? {
                        Some(line) => on_line(Stream::Stdout, &line),
                        None => more_out = false,
                    },
                    line = errors.next(), if more_err => match line? {
                        Some(line) => {
                            tail.push(&line);
                            on_line(Stream::Stderr, &line);
                        }
                        None => more_err = false,
                    },
                }
            }
            Ok(())
        }
        (stdout, _) => {
            let keep = async {
                while let Some(line) = errors.next().await? {
                    tail.push(&line);
                }
                Ok::<(), Fault>(())
            };
            tokio::try_join!(keep, capture(stdout, stdout_limit, bytes)).map(|_| ())
        }
    }
}

async fn capture(stdout: Option<ChildStdout>, limit: usize, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let Some(mut stdout) = stdout else { return Ok(()) };
    while stdout.read_buf(bytes).await? > 0 {
        if bytes.len() > limit {
            return Err(Fault::TooMuch);
        }
    }
    Ok(())
}

/// Runs a command with a blocking closure reading its standard output.
pub(crate) async fn with_reader<T: Send + 'static>(
    command: Command,
    read: impl FnOnce(Box<dyn Read + Send>) -> T + Send + 'static,
) -> Result<(T, Finished), CommandError> {
    let line = command.line();
    let lost = |source| CommandError::Io { command: line.clone(), source };
    let (reader, writer) = io::pipe().map_err(lost)?;
    let rest = reader.try_clone().map_err(lost)?;
    let (deadline, cancel) = (command.deadline, command.cancel.clone());
    let started = Instant::now();
    let reading: JoinHandle<T> = tokio::task::spawn_blocking(move || {
        let value = read(Box::new(reader));
        drop_rest(rest);
        value
    });
    let finished = execute(command, writer.into(), Sink::Elsewhere).await?;
    // All writers are gone unless a background process holds the pipe: the limits still apply.
    tokio::select! {
        biased;
        value = reading => match value {
            Ok(value) => Ok((value, finished)),
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(aborted) => Err(lost(io::Error::other(aborted))),
            },
        },
        () = any_cancelled(&cancel) => Err(CommandError::Cancelled { command: line }),
        () = tokio::time::sleep(deadline.saturating_sub(started.elapsed())) => Err(CommandError::Deadline {
            command: line,
            after: deadline,
            stderr_tail: finished.output.stderr_tail,
        }),
    }
}

/// Drains padding, so that a process whose reader stops at an archive's end marker does not die of a broken
/// pipe.
fn drop_rest(rest: PipeReader) {
    // Errors do not matter here.
    let _ = io::copy(&mut rest.take(LEFT_UNREAD), &mut io::sink());
}
