//! The service manager's notification protocol (sd_notify).

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if it asked for notifications.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<OsString>,
}

impl ServiceManager {
    /// The one that started this process.
    #[expect(clippy::disallowed_methods, reason = "the protocol is an environment variable")]
    pub fn of_environment() -> Self {
        Self { socket: std::env::var_os("NOTIFY_SOCKET") }
    }

    /// Sends a message such as `READY=1`. A failure is logged: updates do not depend on it.
    pub fn notify(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, message) {
            tracing::debug!(%error, "cannot notify the service manager");
        }
    }
}

fn send(socket: &OsString, message: &str) -> io::Result<()> {
    // A leading `@` means the zero byte of an abstract address.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A full queue of the service manager must not block the agent.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_a_missing_manager_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        ServiceManager { socket: Some(path.into_os_string()) }.notify("READY=1");
        let mut buffer = [0; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        ServiceManager::default().notify("READY=1");
        ServiceManager { socket: Some(folder.path().join("gone").into_os_string()) }.notify("READY=1");
    }

    #[test]
    fn the_unit_of_the_image_parts_is_that_of_the_agent() {
        let agent = include_str!("../../../packaging/agent/edgewright-agent.service");
        let parts = include_str!(
            "../../../packaging/image-parts/files/usr/lib/systemd/system/edgewright-agent.service"
        );
        assert_eq!(parts, agent, "copy packaging/agent/edgewright-agent.service to the image parts");
    }
}
