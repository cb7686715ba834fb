//! A URL responds: a small HTTP/1.1 GET implementation, because a static runner has no TLS stack and an HTTP
//! library would be larger than the rest of the runner. One request per connection, bounded response, no
//! redirects, no proxies.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::response::{BODY, HEAD, Response, parse_response};
use super::{Budget, Finding, contains, net};
use crate::exec::last_lines;

/// Maximum number of bytes read from the connection; a chunked body is longer on the wire.
const WIRE: usize = HEAD + 2 * BODY;

pub(crate) fn look(url: &str, status: u16, body: Option<&str>, budget: Budget) -> Finding {
    let url = match Url::parse(url) {
        Ok(url) => url,
        Err(reason) => return Finding::check(format!("invalid URL `{url}`: {reason}")),
    };
    let Some(addresses) = net::addresses(&url.host) else { return net::unresolved(&url.host) };
    let limit = budget.one_look();
    let deadline = Instant::now() + limit;
    let answer = net::connect(&addresses, url.port, limit)
        .map_err(|error| format!("cannot be reached: {error}"))
        .and_then(|stream| get(stream, &url, deadline));
    let response = match answer {
        Ok(response) => response,
        Err(reason) => return Finding::image(format!("{} {reason}", url.text), Vec::new()),
    };
    let shown = || last_lines(&String::from_utf8_lossy(&response.body));
    if response.status != status {
        return Finding::image(
            format!("{} responded with {}, expected {status}", url.text, response.status),
            shown(),
        );
    }
    match body.filter(|text| !contains(&response.body, text)) {
        Some(text) => Finding::image(format!("{} responded without {text:?} in its body", url.text), shown()),
        None => Finding::Holds,
    }
}

/// A plain URL.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    text: &'a str,
    host: String,
    port: u16,
    authority: &'a str,
    target: String,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix("http://")
            .ok_or("not plain http://; for https use a `command` check with curl")?;
        if rest.contains(|c: char| c.is_whitespace() || c.is_control()) || !rest.is_ascii() {
            return Err("spaces, control or non-ASCII characters; write them as %XX");
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it has a user name");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').ok_or("its `[` is not closed")?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| "its port is not a number up to 65535")?,
            None if port.is_empty() => 80,
            None => return Err("its host is malformed"),
        };
        if host.is_empty() {
            return Err("it has no host");
        }
        let path = rest.split('#').next().unwrap_or_default();
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { text, host: host.to_owned(), port, authority, target })
    }
}

fn get(mut stream: TcpStream, url: &Url<'_>, deadline: Instant) -> Result<Response, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: edgewright-checks/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.target,
        url.authority,
        env!("CARGO_PKG_VERSION"),
    );
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "does not respond in time".to_owned(),
        _ => format!("does not respond: {error}"),
    };
    stream
        .set_write_timeout(Some(left()))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .map_err(failed)?;

    let mut wire = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if Instant::now() >= deadline {
            return Err("does not respond in time".to_owned());
        }
        let length = match stream.set_read_timeout(Some(left())).and_then(|()| stream.read(&mut chunk)) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        wire.extend_from_slice(&chunk[..length]);
        let ended = length == 0 || wire.len() >= WIRE;
        match parse_response(&wire, ended) {
            Ok(Some(response)) => return Ok(response),
            Ok(None) => {}
            Err(error) => return Err(format!("responds with invalid HTTP: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use edgewright_model::outcome::FailureKind;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls() {
        let parse = |text| Url::parse(text).map(|url| (url.host, url.port, url.target));
        let cases = [
            ("http://127.0.0.1:8080/healthz", ("127.0.0.1", 8080, "/healthz")),
            ("http://localhost", ("localhost", 80, "/")),
            ("http://localhost?a=b#c", ("localhost", 80, "/?a=b")),
            ("http://[::1]:81/x", ("::1", 81, "/x")),
        ];
        for (text, (host, port, target)) in cases {
            assert_eq!(parse(text), Ok((host.to_owned(), port, target.to_owned())), "{text}");
        }
        for bad in [
            "",
            "https://a/",
            "http://",
            "http:///x",
            "http://a:b/",
            "http://a:99999/",
            "http://[::1/",
            "http://u@a/",
            "http://a/b c",
            "http://a/\r\nX: y",
            "http://[::1]x/",
            "http://a/ä",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_url_makes_it_panic(url in ".{0,40}") {
            let _ = Url::parse(&url);
            let _ = Url::parse(&format!("http://{url}"));
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test joins it")]
    fn a_real_server_is_requested() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/healthz", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nnot ready").unwrap();
            }
        });
        let budget = Budget::new(Duration::from_secs(20), 1.0);
        assert_eq!(look(&url, 503, Some("ready"), budget), Finding::Holds);
        let Finding::Misses(miss) = look(&url, 200, None, budget) else { panic!("it holds") };
        assert_eq!(miss.message, format!("{url} responded with 503, expected 200"));
        assert_eq!(miss.output, ["not ready"]);
        assert!(
            matches!(look(&url, 503, Some("x"), budget), Finding::Misses(miss) if miss.kind == FailureKind::Image)
        );
        server.join().unwrap();
        assert!(matches!(look(&url, 200, None, budget), Finding::Misses(miss) if !miss.is_final));
        assert!(matches!(look("https://a/", 200, None, budget), Finding::Misses(miss) if miss.is_final));
        assert!(matches!(look("http://a/", 200, None, budget), Finding::Misses(miss) if miss.is_final));
    }
}
