//! The smallest web server that git can read a repository from.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

/// Serves files of a folder over HTTP, or answers everything with one status. Ends with the process.
#[expect(clippy::disallowed_methods, reason = "these threads end with the process of the tests")]
pub(crate) fn serve(root: &Path, status: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let root = root.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let root = root.clone();
            // A client that disconnects does not matter for the test.
            std::thread::spawn(move || answer(stream, &root, status).is_ok());
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, root: &Path, status: Option<&str>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut authorised = false;
    for line in lines.by_ref() {
        let line = line?;
        authorised |= line == "Authorization: Basic Ym9iOnMzY3JldA==";
        if line.is_empty() {
            break;
        }
    }
    let target = request.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    let found = std::fs::read(root.join(target.trim_start_matches('/')));
    let (status, body) = match (status, found) {
        (Some("401 Unauthorized"), Ok(body)) if authorised => ("200 OK", body),
        (Some(status), _) => (status, Vec::new()),
        (None, Ok(body)) => ("200 OK", body),
        (None, Err(_)) => ("404 Not Found", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}
