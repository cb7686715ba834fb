//! The host's end of connections that a guest makes over the channel: `edgewright_guest::forward`.

use std::collections::VecDeque;
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
    let mut said = VecDeque::new();
    loop {
        match session.next().await? {
            Event::Output(Stream::Stdout, bytes) => {
                let room = MAX_MESSAGE_BYTES.saturating_sub(said.len());
                said.extend(bytes.into_iter().take(room));
                if said.make_contiguous() == LISTENS.as_bytes() {
                    return Ok(());
                }
            }
            Event::Output(Stream::Stderr, _) => {}
            Event::Ended(_) => {
                let reason = String::from_utf8_lossy(said.make_contiguous()).trim().to_owned();
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
