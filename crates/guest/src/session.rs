//! One program that the host runs in the guest: with pipes, or in a terminal.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::agent::Sender;
use crate::frame::{Frame, MAX_FRAME_BYTES, Program, Size};
use crate::{FOLDER, GUEST};

/// The search path of programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much input may wait for a program, in frames.
const WAITING: usize = 256;
/// The output that is read at once, in bytes.
const CHUNK: usize = MAX_FRAME_BYTES / 2;

/// A program. Dropping it kills the program's process group.
#[derive(Debug)]
pub(crate) struct Session {
    leader: Option<Pid>,
    input: Option<SyncSender<Vec<u8>>>,
    terminal: Option<OwnedFd>,
    ended: Arc<AtomicBool>,
}

impl Session {
    /// Starts a program; its output goes to the host.
    pub(crate) fn start(id: u32, program: &Program, sender: &Sender) -> io::Result<Self> {
        let (child, input, outputs, terminal) = match program.terminal {
            None => piped(&program.words)?,
            Some(size) => in_new_terminal(&program.words, size)?,
        };
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (queue, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let ended = Arc::new(AtomicBool::new(false));
        spawn(move || {
            let mut input = input;
            for bytes in waiting {
                if input.write_all(&bytes).and_then(|()| input.flush()).is_err() {
                    break;
                }
            }
        })?;
        let readers = outputs.into_iter().map(|(output, wrap)| {
            let sender = sender.clone();
            spawn(move || pump(output, |bytes| sender.send(&wrap(id, bytes))))
        });
        let readers = readers.collect::<io::Result<Vec<_>>>()?;
        let (sender, over) = (sender.clone(), Arc::clone(&ended));
        spawn(move || wait(id, child, &readers, &sender, &over))?;
        Ok(Self { leader, input: Some(queue), terminal, ended })
    }

    /// Passes bytes to standard input; false if too much waits already: a program that does not read its
    /// input must not stop the others.
    #[must_use]
    pub(crate) fn input(&mut self, bytes: Vec<u8>) -> bool {
        match self.input.as_ref().map(|queue| queue.try_send(bytes)) {
            Some(Err(TrySendError::Full(_))) => return false,
            // It has closed its input, which is no fault.
            Some(Err(TrySendError::Disconnected(_))) => self.input = None,
            Some(Ok(())) | None => {}
        }
        true
    }

    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            let _ = rustix::termios::tcsetwinsize(terminal, window(size));
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.filter(|_| !self.has_ended()) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Makes the frame of some output.
type Wrap = fn(u32, Vec<u8>) -> Frame;
/// A started program: the child, its input, its outputs, its terminal.
type Started = (Child, Box<dyn Write + Send>, Vec<(Box<dyn Read + Send>, Wrap)>, Option<OwnedFd>);

fn command(program: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the guest has no async runtime; this is its helper")]
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8").current_dir("/");
    command
}

fn piped(words: &[String]) -> io::Result<Started> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = command(program);
    command.args(arguments).process_group(0);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0");
    let missing = || io::Error::other("a pipe is missing");
    let (input, output, errors) = (
        child.stdin.take().ok_or_else(missing)?,
        child.stdout.take().ok_or_else(missing)?,
        child.stderr.take().ok_or_else(missing)?,
    );
    let outputs: Vec<(Box<dyn Read + Send>, Wrap)> =
        vec![(Box::new(output), Frame::Output), (Box::new(errors), Frame::Errors)];
    Ok((child, Box::new(input), outputs, None))
}

fn in_new_terminal(words: &[String], size: Size) -> io::Result<Started> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    rustix::termios::tcsetwinsize(&ours, window(size))?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let theirs = fs::OpenOptions::new().read(true).write(true).open(name.to_string_lossy().as_ref())?;
    let mut command = command(&format!("{FOLDER}/{GUEST}"));
    command.arg("terminal").args(words).env("TERM", "xterm-256color");
    let stream = || theirs.try_clone().map(Stdio::from);
    let child = command.stdin(stream()?).stdout(stream()?).stderr(stream()?).spawn()?;
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0");
    let (input, output) = (File::from(ours.try_clone()?), File::from(ours.try_clone()?));
    let outputs: Vec<(Box<dyn Read + Send>, Wrap)> = vec![(Box::new(output), Frame::Output)];
    Ok((child, Box::new(input), outputs, Some(ours)))
}

/// Becomes a program whose controlling terminal is standard input; returns only if it cannot.
pub fn in_terminal(words: impl Iterator<Item = String>) -> ExitCode {
    let words: Vec<String> = words.collect();
    let Some((program, arguments)) = words.split_first() else { return ExitCode::from(2) };
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(io::stdin().as_fd());
    #[expect(clippy::disallowed_methods, reason = "it replaces this process")]
    let error = Command::new(program).args(arguments).exec();
    let _ = writeln!(io::stderr(), "cannot start {program}: {error}");
    // As shells do.
    ExitCode::from(127)
}

const fn window(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().spawn(work)
}

/// Passes output on until it ends.
fn pump(mut output: impl Read, mut send: impl FnMut(Vec<u8>)) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match output.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => send(chunk[..count].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal without a program.
            Err(_) => return,
        }
    }
}

/// Reports the end of a program once its output is passed on. A daemon that holds its pipes is not waited
/// for.
fn wait(id: u32, mut child: Child, readers: &[JoinHandle<()>], sender: &Sender, over: &AtomicBool) {
    /// How long output is awaited after the end.
    const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);
    let status = child.wait();
    let until = std::time::Instant::now() + DRAIN;
    while !readers.iter().all(JoinHandle::is_finished) && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    over.store(true, Ordering::Relaxed);
    let code =
        status.ok().and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
    sender.send(&Frame::Ended(id, code.unwrap_or(-1)));
}
