//! The terminal: everything that is printed goes through here. Colours survive only where a terminal shows
//! them.

use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use edgewright_api::documents::{CommandError, Document, ErrorDocument, tagged};
use edgewright_model::error::ErrorClass;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use crate::exit::Failure;
use crate::render::style::{HINT, RED, paint};

/// Prints a command's result on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_text(text).map(drop)
}

/// Prints text on standard output; false if its reader, such as `head`, closed the pipe.
pub(crate) fn print_text(text: &str) -> Result<bool, Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::unavailable("cannot write the result", &error)),
        Ok(()) => Ok(true),
    }
}

/// Returns when the reader of standard output has closed it; never if it is a file.
pub(crate) async fn closed() {
    reader_of(std::io::stdout().as_fd()).await;
}

/// Returns when the other end of a pipe is closed; never for a file.
async fn reader_of(pipe: BorrowedFd<'_>) {
    // The copy is only watched: the pipe stays as it is, in blocking mode.
    let watched = pipe.try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    match watched {
        Ok(watched) if watched.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Prints raw bytes, such as a log, without touching them.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::unavailable("cannot write the result", &error)),
        Ok(()) => Ok(true),
    }
}

/// Prints a document as JSON.
pub(crate) fn json(document: &impl Document) -> Result<(), Failure> {
    value(&tagged(document))
}

/// Prints JSON that is no document of ours, such as a JSON Schema.
pub(crate) fn value(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(ErrorClass::Bug, format!("a document does not print: {error}")))?;
    text.push('\n');
    print(&text)
}

/// Whether standard error shows colours: a terminal, and nothing in the environment (`NO_COLOR`, `TERM=dumb`)
/// against them.
pub(crate) fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Prints a line for people on standard error: progress and notes that are not the result.
pub(crate) fn note(text: &str) {
    // If standard error is closed, there is nowhere to report that.
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

/// Whether errors are JSON: decided once, from the command line, for errors of the command line itself, too.
static ERRORS_ARE_JSON: AtomicBool = AtomicBool::new(false);

/// Makes all errors JSON.
pub(crate) fn make_errors_json() {
    ERRORS_ARE_JSON.store(true, Ordering::Relaxed);
}

/// Whether errors are JSON.
pub(crate) fn errors_are_json() -> bool {
    ERRORS_ARE_JSON.load(Ordering::Relaxed)
}

/// Prints an error and what to do about it: with `--json` as one object on one line, else as text. `code` is
/// as in [`CommandError::code`].
pub(crate) fn error(code: &str, message: &str, hint: Option<&str>) {
    if errors_are_json() {
        let (code, message, hint) = (code.to_owned(), message.to_owned(), hint.map(str::to_owned));
        let document = ErrorDocument { error: CommandError { code, message, hint } };
        // Three strings always serialise.
        note(&serde_json::to_string(&tagged(&document)).unwrap_or_default());
        return;
    }
    note(&format!("{} {message}", paint(RED, "error:")));
    if let Some(hint) = hint {
        note(&format!("{} {hint}", paint(HINT, " hint:")));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_closed_when_its_reader_is() {
        let stays_open = async |fd: BorrowedFd<'_>| {
            tokio::time::timeout(Duration::from_millis(50), reader_of(fd)).await.is_err()
        };
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(stays_open(writer.as_fd()).await);
        drop(reader);
        reader_of(writer.as_fd()).await;
        assert!(stays_open(tempfile::tempfile().unwrap().as_fd()).await, "a file");
    }
}
