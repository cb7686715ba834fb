//! The service manager's notification protocol (sd_notify), so that `systemctl start` returns once the server
//! answers.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A state of the server that is reported to the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceState {
    /// It answers requests.
    Ready,
    /// It is ending its jobs.
    Stopping,
}

/// Reports a state where a service manager asked for it by `NOTIFY_SOCKET`. A failure is logged: it must not
/// end the server.
pub(crate) fn notify(socket: Option<&OsString>, state: ServiceState) {
    let Some(socket) = socket else { return };
    let message = match state {
        ServiceState::Ready => "READY=1",
        ServiceState::Stopping => "STOPPING=1",
    };
    if let Err(error) = send(socket, message) {
        tracing::warn!(%error, socket = %socket.display(), "cannot notify the service manager");
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    // A leading `@` means the zero byte of an abstract address.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A full queue of the service manager must not block the server.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive_at_paths_and_abstract_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("edgewright-test-{}", std::process::id());
        let sockets = [
            (path.clone().into_os_string(), SocketAddr::from_pathname(&path).unwrap()),
            (format!("@{name}").into(), SocketAddr::from_abstract_name(&name).unwrap()),
        ];
        for (socket, address) in sockets {
            let receiver = UnixDatagram::bind_addr(&address).unwrap();
            for (state, want) in [(ServiceState::Ready, "READY=1"), (ServiceState::Stopping, "STOPPING=1")] {
                notify(Some(&socket), state);
                let mut buffer = [0; 64];
                let length = receiver.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], want.as_bytes());
            }
        }
        // Neither a missing manager nor one that is gone is an error.
        notify(None, ServiceState::Ready);
        notify(Some(&folder.path().join("gone").into_os_string()), ServiceState::Ready);
    }
}
