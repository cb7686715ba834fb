//! Requests to a server of ours, as HTTP/1.0: the answer ends with the connection. A client process for each
//! would cost more than what is asked for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A server, and the token to ask it with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    /// `HOST:PORT`.
    pub(crate) address: &'a str,
    /// The file with the operator's token; versions before tokens have none.
    pub(crate) token: &'a Path,
}

impl Peer<'_> {
    /// Sends a request without a body; its response can be read for this long.
    pub(crate) fn send(self, method: &str, path: &str, within: Duration) -> anyhow::Result<TcpStream> {
        self.send_with(method, path, ("", ""), within)
    }

    /// The same with more header lines, and a body.
    fn send_with(
        self,
        method: &str,
        path: &str,
        (headers, body): (&str, &str),
        within: Duration,
    ) -> anyhow::Result<TcpStream> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(within))?;
        let token = std::fs::read_to_string(self.token).unwrap_or_default();
        let authorization = match token.trim() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        // In one piece: a server may respond to the first part, and close.
        let head =
            format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n{authorization}{headers}\r\n", self.address);
        let request = head + body;
        connection.write_all(request.as_bytes())?;
        Ok(connection)
    }

    /// The body of a response; an error with it if the request was not done.
    pub(crate) fn ask(self, method: &str, path: &str, within: Duration) -> anyhow::Result<String> {
        response_to(self.send(method, path, within)?, method, path)
    }

    /// The same for a request with more header lines, each with its end, and a JSON body.
    pub(crate) fn post_json(
        self,
        path: &str,
        (headers, body): (&str, &str),
        within: Duration,
    ) -> anyhow::Result<String> {
        let length = body.len();
        let headers = format!("{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n");
        response_to(self.send_with("POST", path, (&headers, body), within)?, "POST", path)
    }
}

fn response_to(mut connection: TcpStream, method: &str, path: &str) -> anyhow::Result<String> {
    let mut response = Vec::new();
    connection.read_to_end(&mut response).with_context(|| format!("no response to {method} {path}"))?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").context("the response has no head")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{method} {path}: {status}: {body}");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Answers one request, which `ask` sends to an address; gives the request, and what `ask` gave.
    fn answered<T>(text: &str, ask: impl FnOnce(&str) -> T) -> (String, T) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::scope(|scope| {
            let served = scope.spawn(move || {
                let (mut connection, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = connection.read(&mut request).unwrap();
                connection.write_all(text.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            let asked = ask(&address);
            (served.join().unwrap(), asked)
        })
    }

    #[test]
    fn a_body_is_read_and_an_error_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "ewop_1\n").unwrap();
        let within = Duration::from_mins(1);
        let (request, body) = answered("HTTP/1.0 200 OK\r\n\r\n{}", |address| {
            Peer { address, token: &token }.ask("GET", "/api/v1/status", within)
        });
        assert_eq!(body.unwrap(), "{}");
        assert!(request.starts_with("GET /api/v1/status HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("Authorization: Bearer ewop_1\r\n"), "{request}");
        let none = folder.path().join("none");
        let (request, error) = answered("HTTP/1.0 404 Not Found\r\n\r\nno such run", |address| {
            Peer { address, token: &none }.ask("GET", "/x", within)
        });
        assert_eq!(error.unwrap_err().to_string(), "GET /x: 404: no such run");
        assert!(!request.contains("Authorization"));
        let (request, body) = answered("HTTP/1.0 201 Created\r\n\r\nmade", |address| {
            Peer { address, token: &none }.post_json("/x", ("A: b\r\n", "{}"), within)
        });
        assert_eq!(body.unwrap(), "made");
        assert!(request.contains("\r\nA: b\r\n") && request.contains("Content-Length: 2\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{}"), "{request}");
    }
}
