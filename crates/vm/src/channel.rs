//! The host's end of the channel into a guest: runs programs there. What arrives is not trusted: frames are
//! bounded, and those of unknown programs are dropped.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_guest::frame::{Decoder, Frame, MAX_FRAME_BYTES, Program, Size};
use edgewright_process::{OwnedTask, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The pause between two attempts to connect to a socket that is not there yet.
const PAUSE: Duration = Duration::from_millis(20);
/// The pause between two pings.
const PING_PAUSE: Duration = Duration::from_secs(1);
/// How many frames of one program may wait for their reader.
const WAITING: usize = 64;

/// Why a program in the guest gave no exit code.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The machine ended, or what answers is no guest of ours.
    #[error("the connection to the guest is lost")]
    Lost,
    /// The guest cannot start it.
    #[error("cannot start `{program}` in the guest: {reason}")]
    NotStarted {
        /// The program.
        program: String,
        /// The guest's reason.
        reason: String,
    },
    /// The socket cannot be used.
    #[error("cannot connect to the guest")]
    Socket(#[from] io::Error),
}

type Sessions = Arc<Mutex<HashMap<u32, mpsc::Sender<Frame>>>>;

/// A connection to a guest.
#[derive(Debug)]
pub struct Channel {
    writer: mpsc::Sender<Vec<u8>>,
    sessions: Sessions,
    next: AtomicU32,
    greeted: watch::Receiver<bool>,
    _reader: OwnedTask<()>,
    _writer: OwnedTask<()>,
}

/// A program in the guest. Dropping it kills the program.
#[derive(Debug)]
pub struct Session<'c> {
    channel: &'c Channel,
    id: u32,
    program: String,
    frames: mpsc::Receiver<Frame>,
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It wrote.
    Output(Stream, Vec<u8>),
    /// It ended with a code; a signal gives 128 + its number.
    Ended(i32),
}

/// Connects to a socket that may not be there yet; its path may be longer than socket paths can be.
pub(crate) async fn connect(socket: &Path, within: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + within;
    let (folder, name) = (socket.parent().unwrap_or(Path::new("/")), socket.file_name().unwrap_or_default());
    let folder = tokio::fs::File::open(folder).await?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    loop {
        match UnixStream::connect(&short).await {
            Err(_) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
}

impl Channel {
    /// Connects to a machine's socket, and asks the guest to answer; see [`Channel::greeting`].
    ///
    /// # Errors
    /// There is no such socket in this time.
    pub async fn open(socket: &Path, within: Duration) -> Result<Self, ChannelError> {
        let (reader, mut writer) = connect(socket, within).await?.into_split();
        writer.write_all(&Frame::Ping.encode()).await?;
        let sessions = Sessions::default();
        let (greet, greeted) = watch::channel(false);
        let reader = OwnedTask::spawn(read(reader, Arc::clone(&sessions), greet));
        let (sender, frames) = mpsc::channel(WAITING);
        let writer = OwnedTask::spawn(write(writer, frames));
        let next = AtomicU32::new(1);
        Ok(Self { writer: sender, sessions, next, greeted, _reader: reader, _writer: writer })
    }

    /// Waits until the guest answers.
    ///
    /// # Errors
    /// The machine ended before.
    pub async fn greeting(&self) -> Result<(), ChannelError> {
        let mut greeted = self.greeted.clone();
        loop {
            tokio::select! {
                biased;
                found = async { greeted.wait_for(|greeted| *greeted).await.is_ok() } => {
                    return if found { Ok(()) } else { Err(ChannelError::Lost) };
                }
                () = tokio::time::sleep(PING_PAUSE) => {}
            }
            // Firmware reads the port, too, and drops what it does not understand.
            self.send(&Frame::Ping).await?;
        }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// The machine ended.
    pub async fn start(&self, program: Program) -> Result<Session<'_>, ChannelError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, frames) = mpsc::channel(WAITING);
        self.lock().insert(id, sender);
        let name = program.words.first().cloned().unwrap_or_default();
        let session = Session { channel: self, id, program: name, frames };
        self.send(&Frame::Start(id, program)).await?;
        Ok(session)
    }

    /// Runs a program with an input to its end, or until this is dropped.
    ///
    /// # Errors
    /// The guest cannot start it, or the machine ended.
    pub async fn run(
        &self,
        program: Program,
        input: &[u8],
        on_output: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<i32, ChannelError> {
        let mut session = self.start(program).await?;
        session.input(input).await?;
        session.end_input().await?;
        loop {
            match session.next().await? {
                Event::Output(stream, bytes) => on_output(stream, &bytes),
                Event::Ended(code) => return Ok(code),
            }
        }
    }

    async fn send(&self, frame: &Frame) -> Result<(), ChannelError> {
        self.writer.send(frame.encode()).await.map_err(|_| ChannelError::Lost)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, mpsc::Sender<Frame>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session<'_> {
    /// Passes bytes to its standard input.
    ///
    /// # Errors
    /// The machine ended.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), ChannelError> {
        for piece in bytes.chunks(MAX_FRAME_BYTES) {
            self.channel.send(&Frame::Input(self.id, piece.to_vec())).await?;
        }
        Ok(())
    }

    /// Ends its standard input.
    ///
    /// # Errors
    /// The machine ended.
    pub async fn end_input(&self) -> Result<(), ChannelError> {
        self.channel.send(&Frame::InputEnds(self.id)).await
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// The machine ended.
    pub async fn resize(&self, size: Size) -> Result<(), ChannelError> {
        self.channel.send(&Frame::Resize(self.id, size)).await
    }

    /// What it does next. May be dropped at any time without losing anything.
    ///
    /// # Errors
    /// The guest cannot start it, or the machine ended.
    pub async fn next(&mut self) -> Result<Event, ChannelError> {
        match self.frames.recv().await {
            Some(Frame::Output(_, bytes)) => Ok(Event::Output(Stream::Stdout, bytes)),
            Some(Frame::Errors(_, bytes)) => Ok(Event::Output(Stream::Stderr, bytes)),
            Some(Frame::Ended(_, code)) => Ok(Event::Ended(code)),
            Some(Frame::Failed(_, reason)) => {
                Err(ChannelError::NotStarted { program: self.program.clone(), reason })
            }
            _ => Err(ChannelError::Lost),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.channel.lock().remove(&self.id);
        // What cannot be sent at once is not worth a task: the guest kills programs when it is asked again.
        let _ = self.channel.writer.try_send(Frame::Kill(self.id).encode());
    }
}

/// Writes whole frames: a future that sends one may be dropped at any time.
async fn write(mut stream: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Passes frames to the sessions that they are for, until the connection ends.
async fn read(mut stream: OwnedReadHalf, sessions: Sessions, greet: watch::Sender<bool>) {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; MAX_FRAME_BYTES];
    loop {
        match decoder.next_frame() {
            Ok(None) => {}
            Ok(Some(Frame::Hello)) => {
                greet.send_replace(true);
                continue;
            }
            Ok(Some(frame)) => {
                pass(frame, &sessions).await;
                continue;
            }
            // Hostile, or broken: there is no way back into step.
            Err(error) => {
                tracing::debug!(%error, "the guest sent what is no frame");
                break;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => decoder.feed(&chunk[..count]),
        }
    }
    sessions.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

async fn pass(frame: Frame, sessions: &Sessions) {
    let (Frame::Output(id, _) | Frame::Errors(id, _) | Frame::Ended(id, _) | Frame::Failed(id, _)) = &frame
    else {
        return;
    };
    let sender = sessions.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
    if let Some(sender) = sender {
        // A session that ended meanwhile needs it no more.
        let _ = sender.send(frame).await;
    }
}
