//! The host's end of connections that a guest makes over the channel: `edgewright_guest::forward`.

use std::time::Duration;

use edgewright_guest::forward::{ACKNOWLEDGED_BYTES, LISTENS};
use edgewright_guest::frame::Program;
use edgewright_guest::{FOLDER, GUEST};
use edgewright_process::Stream;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use crate::channel::{Channel, ChannelError, Event, Session};

/// How many connections wait in the guest to be made.
const WAITING: usize = 6;
/// The most that is sent to the guest and not acknowledged, in bytes. The guest's queue has room for more.
const WINDOW_BYTES: usize = 1024 * 1024;
/// The bytes that are sent at once.
const CHUNK: usize = 32 * 1024;
/// The pause after a program that could not take a connection.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// The longest message of a program that cannot listen, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Forwards connections to an address in the guest, each to a new one of `connect`, until the machine ends or
/// the guest cannot.
pub async fn forward<S>(channel: &Channel, address: &str, connect: impl Fn() -> S) -> ChannelError
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    match run(channel, address, connect).await {
        Ok(()) => ChannelError::Lost,
        Err(error) => error,
    }
}

async fn run<S>(channel: &Channel, address: &str, connect: impl Fn() -> S) -> Result<(), ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let guest = format!("{FOLDER}/{GUEST}");
    let mut listening = channel.start(Program::new([guest.as_str(), "listen", address])).await?;
    listens(&mut listening, address).await?;
    let mut open = FuturesUnordered::new();
    loop {
        while open.len() < WAITING {
            open.push(one(channel, &guest, &connect));
        }
        tokio::select! {
            Some(ended) = open.next() => ended?,
            event = listening.next() => if let Event::Ended(_) = event? {
                return Ok(());
            }
        }
    }
}

/// Waits until the guest listens.
async fn listens(session: &mut Session<'_>, address: &str) -> Result<(), ChannelError> {
    let mut printed = Vec::new();
    loop {
        match session.next().await? {
            Event::Output(Stream::Stdout, bytes) => {
                let room = MAX_MESSAGE_BYTES.saturating_sub(printed.len());
                printed.extend(bytes.into_iter().take(room));
                if printed == LISTENS.as_bytes() {
                    return Ok(());
                }
            }
            Event::Output(Stream::Stderr, _) => {}
            Event::Ended(_) => {
                let reason = String::from_utf8_lossy(&printed).trim().to_owned();
                return Err(ChannelError::NotStarted { program: format!("listen on {address}"), reason });
            }
        }
    }
}

/// One connection, from its first byte to its end. A guest that does not keep to the protocol loses it.
async fn one<S>(channel: &Channel, guest: &str, connect: &impl Fn() -> S) -> Result<(), ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut session = channel.start(Program::new([guest, "take"])).await?;
    let first = loop {
        match session.next().await? {
            Event::Output(Stream::Stdout, bytes) => break bytes,
            Event::Output(Stream::Stderr, _) => {}
            Event::Ended(_) => {
                tokio::time::sleep(FAILED_PAUSE).await;
                return Ok(());
            }
        }
    };
    let (mut from, mut to) = split(connect());
    if to.write_all(&first).await.is_err() {
        return Ok(());
    }
    let (mut chunk, mut unread, mut is_over) = (vec![0; CHUNK], 0_usize, false);
    loop {
        tokio::select! {
            event = session.next() => match event? {
                Event::Output(Stream::Stdout, bytes) => if to.write_all(&bytes).await.is_err() {
                    return Ok(());
                },
                Event::Output(Stream::Stderr, bytes) => {
                    unread = unread.saturating_sub(bytes.len().saturating_mul(ACKNOWLEDGED_BYTES));
                }
                Event::Ended(_) => return Ok(()),
            },
            read = from.read(&mut chunk), if unread < WINDOW_BYTES && !is_over => match read {
                Ok(0) | Err(_) => {
                    session.end_input().await?;
                    is_over = true;
                }
                Ok(count) => {
                    session.input(&chunk[..count]).await?;
                    unread += count;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use edgewright_guest::frame::{Decoder, Frame};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// What a guest of the test is asked.
    struct Guest {
        stream: UnixStream,
        decoder: Decoder,
    }

    impl Guest {
        async fn next(&mut self) -> Frame {
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return frame;
                }
                let mut chunk = vec![0; 64 * 1024];
                let count = self.stream.read(&mut chunk).await.unwrap();
                assert_ne!(count, 0, "the host is gone");
                self.decoder.feed(&chunk[..count]);
            }
        }

        async fn send(&mut self, frame: Frame) {
            self.stream.write_all(&frame.encode()).await.unwrap();
        }

        /// Takes input, which must be of this session, until it is this much. Gives the bytes.
        async fn input(&mut self, session: u32, least: usize) -> usize {
            let mut taken = 0;
            while taken < least {
                if let Frame::Input(id, bytes) = self.next().await {
                    assert_eq!(id, session);
                    taken += bytes.len();
                }
            }
            taken
        }

        /// The next program that is started; its session and its words.
        async fn started(&mut self) -> (u32, Vec<String>) {
            loop {
                if let Frame::Start(id, program) = self.next().await {
                    return (id, program.words);
                }
            }
        }
    }

    /// A channel to a guest of the test. The folder has its socket.
    async fn guest() -> (Channel, Guest, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let channel = Channel::open(&path, Duration::from_mins(1)).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (channel, Guest { stream, decoder: Decoder::default() }, folder)
    }

    #[tokio::test]
    async fn no_more_is_sent_than_the_guest_has_passed_on() {
        let (channel, mut guest, _folder) = guest().await;
        let answer = vec![b'a'; 3 * WINDOW_BYTES];
        let (ours, mut theirs) = tokio::io::duplex(4 * WINDOW_BYTES);
        theirs.write_all(&answer).await.unwrap();
        let mut connections = std::sync::Mutex::new(vec![ours]);
        let connect = || connections.lock().unwrap().pop().unwrap();
        let story = async {
            let (listening, words) = guest.started().await;
            assert_eq!(words[1..], ["listen", "127.0.0.1:1"]);
            guest.send(Frame::Output(listening, LISTENS.as_bytes().to_vec())).await;
            let (take, words) = guest.started().await;
            assert_eq!(words[1..], ["take"]);
            guest.send(Frame::Output(take, b"question".to_vec())).await;
            let mut question = [0; 8];
            theirs.read_exact(&mut question).await.unwrap();
            assert_eq!(&question, b"question");
            drop(theirs);
            let mut heard = 0;
            while heard < answer.len() {
                let window = guest.input(take, WINDOW_BYTES).await;
                assert!(window < WINDOW_BYTES + CHUNK, "{window}");
                heard += window;
                guest.send(Frame::Errors(take, vec![b'.'; window / ACKNOWLEDGED_BYTES])).await;
            }
            assert_eq!(heard, answer.len());
            while guest.next().await != Frame::InputEnds(take) {}
        };
        tokio::select! {
            error = forward(&channel, "127.0.0.1:1", connect) => panic!("it ended: {error}"),
            () = story => {}
        }
        assert!(connections.get_mut().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_guest_that_cannot_listen_gives_its_reason() {
        let (channel, mut guest, _folder) = guest().await;
        let story = async {
            let (id, _) = guest.started().await;
            guest.send(Frame::Output(id, b"Address in use\n".to_vec())).await;
            guest.send(Frame::Ended(id, 1)).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            error = forward(&channel, "127.0.0.1:1", || tokio::io::duplex(1).0) => {
                assert!(error.to_string().ends_with("listen on 127.0.0.1:1` in the guest: Address in use"), "{error}");
            }
            () = story => {}
        }
    }
}
