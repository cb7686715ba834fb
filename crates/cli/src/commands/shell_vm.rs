//! A terminal in a kept virtual machine, over its channel.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};

use edgewright_guest::frame::{Program, Size};
use edgewright_lab::vm::kept::{self, KeptVm};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_process::Stream;
use edgewright_vm::ChannelError;
use edgewright_vm::channel::Event;
use rustix::termios::{OptionalActions, Termios};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::shell::START_AGAIN;
use crate::exit::{End, Failure};

/// Prefers bash, as a login shell.
const SHELL: &str = "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi";
/// The most input that is read at once, in bytes.
const INPUT_BYTES: usize = 64 * 1024;

/// Runs a command in a virtual machine, by default a shell, with this process's terminal.
pub(super) async fn enter(machine: &KeptVm, command: &[OsString]) -> Result<End, Failure> {
    let mut words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.is_empty() {
        words = ["/bin/sh", "-c", SHELL].map(str::to_owned).into();
    }
    let channel = kept::enter(machine).await.map_err(|error| failure(&error))?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let program = Program { words, terminal: is_terminal.then(size) };
    let mut session = channel.start(program).await.map_err(|error| failure(&error))?;
    let _raw = is_terminal.then(Raw::enter).flatten();
    let mut resized = signal(SignalKind::window_change())
        .map_err(|error| Failure::unavailable("cannot watch the size of the terminal", &error))?;
    let (mut stdin, mut chunk, mut open) = (tokio::io::stdin(), vec![0; INPUT_BYTES], true);
    loop {
        tokio::select! {
            event = session.next() => match event.map_err(|error| failure(&error))? {
                Event::Output(stream, bytes) => write(stream, &bytes),
                Event::Ended(0) => return Ok(End::Good),
                Event::Ended(code) => return Ok(End::Command(u8::try_from(code).unwrap_or(u8::MAX))),
            },
            read = stdin.read(&mut chunk), if open => match read {
                Ok(0) | Err(_) => {
                    open = false;
                    session.end_input().await.map_err(|error| failure(&error))?;
                }
                Ok(count) => session.input(&chunk[..count]).await.map_err(|error| failure(&error))?,
            },
            _ = resized.recv() => {
                if is_terminal {
                    session.resize(size()).await.map_err(|error| failure(&error))?;
                }
            }
        }
    }
}

/// Writes what arrived. A reader that is gone ends this process by its signal.
fn write(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(Size { rows: 24, columns: 80 }, |size| Size { rows: size.ws_row, columns: size.ws_col })
}

/// The terminal without its own editing; dropping this restores it.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn failure(error: &ChannelError) -> Failure {
    Failure::new(ErrorClass::Unavailable, Chain(error).to_string()).hint(START_AGAIN)
}
