//! Connections of the guest to the host, over the channel: a guest needs no network for them, however the
//! image configures or filters its own.
//!
//! ```text
//!  client ─▶ 127.0.0.1:PORT [listen] ─ descriptor ─▶ [take] ─ standard input and output ─▶ channel ─▶ host
//! ```
//!
//! The host runs one `listen`, and a few `take` that wait for a connection each. `take` reports on standard
//! error how much it has passed on, so that the host does not send more than is read.

use std::convert::Infallible;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The bytes for which `take` writes one byte to standard error, once it has passed them on.
pub const ACKNOWLEDGED_BYTES: usize = 64 * 1024;
/// What `listen` prints when it listens.
pub const LISTENS: &str = "listening\n";
/// The socket by which `take` gets a connection; of this network namespace, and in no file system.
const HANDOVER: &[u8] = b"edgewright-forward";
/// The bytes that are read at once.
const CHUNK: usize = 32 * 1024;

/// Accepts connections to an address, and hands each one to a `take`. Ends with its standard input.
pub fn listen(address: Option<&str>) -> ExitCode {
    let Err(error) = listen_on(address.unwrap_or_default());
    let _ = writeln!(io::stdout(), "{error}");
    ExitCode::FAILURE
}

fn listen_on(address: &str) -> Result<Infallible, io::Error> {
    let listener = TcpListener::bind(address)?;
    let takers = UnixListener::bind_addr(&SocketAddr::from_abstract_name(HANDOVER)?)?;
    std::thread::Builder::new().spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        end();
    })?;
    io::stdout().write_all(LISTENS.as_bytes())?;
    io::stdout().flush()?;
    loop {
        let (connection, _) = listener.accept()?;
        // A taker that is gone is passed over.
        while hand_over(&takers.accept()?.0, &connection).is_err() {}
    }
}

/// Takes one connection, and passes bytes both ways until both ends are done.
pub fn take() -> ExitCode {
    let taken = SocketAddr::from_abstract_name(HANDOVER)
        .and_then(|address| UnixStream::connect_addr(&address))
        .and_then(|socket| receive(&socket))
        .and_then(|connection| {
            // A client that is gone reads nothing any more: HTTP has no half of a connection.
            pass(connection, (io::stdin().lock(), io::stdout()), io::stderr(), end)
        });
    if taken.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends this program from one of its threads, while another one waits.
#[expect(clippy::exit, reason = "nothing is held that has to be given back")]
fn end() {
    std::process::exit(0)
}

fn hand_over(taker: &UnixStream, connection: &TcpStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [connection.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(taker, &[IoSlice::new(b"c")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<TcpStream> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let descriptor: OwnedFd = received.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(TcpStream::from(descriptor))
}

/// Passes bytes between a connection, and input and output; reports on `passed_on` how much went to the
/// connection, and that its client has `gone`.
fn pass(
    connection: TcpStream,
    (mut input, mut output): (impl io::Read, impl io::Write + Send + 'static),
    mut passed_on: impl io::Write,
    gone: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut from = connection.try_clone()?;
    let asking = std::thread::Builder::new().spawn(move || -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk)? {
                0 => {
                    gone();
                    return Ok(());
                }
                count => {
                    output.write_all(&chunk[..count])?;
                    output.flush()?;
                }
            }
        }
    })?;
    let mut to = connection;
    let (mut chunk, mut passed) = (vec![0; CHUNK], 0);
    loop {
        let count = input.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        to.write_all(&chunk[..count])?;
        passed += count;
        while passed >= ACKNOWLEDGED_BYTES {
            passed -= ACKNOWLEDGED_BYTES;
            passed_on.write_all(b".")?;
        }
    }
    to.shutdown(Shutdown::Write)?;
    asking.join().unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// An output that both sides of a test see.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_connection_is_handed_over_and_passed_on_with_acknowledgements() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        hand_over(&ours, &listener.accept().unwrap().0).unwrap();
        let connection = receive(&theirs).unwrap();
        let answer = vec![b'a'; 3 * ACKNOWLEDGED_BYTES + 1];
        let (asked, acknowledged) = (Shared::default(), Shared::default());
        std::thread::scope(|scope| {
            let passing =
                scope.spawn(|| pass(connection, (&answer[..], asked.clone()), acknowledged.clone(), || {}));
            client.write_all(b"question").unwrap();
            let mut heard = vec![0; answer.len()];
            client.read_exact(&mut heard).unwrap();
            assert!(heard == answer);
            client.shutdown(Shutdown::Write).unwrap();
            passing.join().unwrap().unwrap();
        });
        assert_eq!(*asked.0.lock().unwrap(), b"question");
        assert_eq!(*acknowledged.0.lock().unwrap(), b"...");
    }

    #[test]
    fn a_taker_without_a_connection_ends() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
