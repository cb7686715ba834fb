//! The terminal: everything that is printed goes through here. Colours survive only where a terminal shows
//! them.

use std::io::{ErrorKind, Write as _};

use edgewright_model::error::ErrorClass;
use serde::Serialize;

use crate::exit::Failure;
use crate::render::style::{HINT, RED, paint};

/// Prints a command's result on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader (`head`) has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::unavailable("cannot write the result", &error)),
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
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(document)
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
    // If standard error is closed, there is no one left to notify.
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

/// Prints an error and what to do about it.
pub(crate) fn error(message: &str, hint: Option<&str>) {
    note(&format!("{} {message}", paint(RED, "error:")));
    if let Some(hint) = hint {
        note(&format!("{} {hint}", paint(HINT, " hint:")));
    }
}
