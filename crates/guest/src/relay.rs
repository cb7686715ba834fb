//! A connection that goes on in a socket file: standard input and output are one end of it. QEMU starts this
//! on the host for each connection of a guest to the one address that it reaches.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Passes bytes both ways until both ends are done.
pub fn relay(socket: Option<String>) -> ExitCode {
    match socket.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput)).and_then(|socket| pass(&socket))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "edgewright-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pass(socket: &str) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let mut to = stream.try_clone()?;
    let asking = std::thread::Builder::new().spawn(move || {
        // An end of what is asked is told to the other side; errors show there, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut to);
        let _ = to.shutdown(Shutdown::Write);
    })?;
    let mut from = stream;
    let mut out = io::stdout().lock();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match io::Read::read(&mut from, &mut chunk)? {
            // Nobody answers any more: who still asks is not waited for.
            0 => break,
            count => {
                out.write_all(&chunk[..count])?;
                out.flush()?;
            }
        }
    }
    drop(asking);
    Ok(())
}
