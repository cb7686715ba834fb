//! An HTTP/1.1 response (RFC 9112), parsed from the bytes received so far. Pure, and bounded for any input.

/// Maximum length of a response's head, in bytes.
pub(crate) const HEAD: usize = 64 * 1024;
/// Maximum number of bytes of a body that are read and searched.
pub(crate) const BODY: usize = 1024 * 1024;

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The body, cut at 1 MiB.
    pub(crate) body: Vec<u8>,
}

/// Why bytes are not a valid response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// No status line.
    #[error("the response does not start with a status line")]
    StatusLine,
    /// The head does not end.
    #[error("the response's head is longer than 64 KiB")]
    Head,
    /// The connection ended within the response.
    #[error("the connection ended within the response")]
    Truncated,
    /// A chunk has an invalid length.
    #[error("a chunk of the response has an invalid length")]
    Chunk,
    /// A length that is not a number.
    #[error("the response's length is not a number")]
    Length,
}

/// Parses a response from all bytes received so far; `None` if it is incomplete. `ended`: no more bytes will
/// come.
pub(crate) fn parse_response(wire: &[u8], ended: bool) -> Result<Option<Response>, ParseError> {
    let mut rest = wire;
    loop {
        let Some((head, body)) = split_head(rest) else {
            return match rest {
                _ if rest.len() > HEAD => Err(ParseError::Head),
                _ if !b"HTTP/1.".starts_with(&rest[..rest.len().min(7)]) => Err(ParseError::StatusLine),
                _ if ended => Err(ParseError::Truncated),
                _ => Ok(None),
            };
        };
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = parse_status(lines.next().unwrap_or_default()).ok_or(ParseError::StatusLine)?;
        match status {
            // Interim responses (1xx) precede the final one.
            100..=199 => rest = body,
            204 | 304 => return Ok(Some(Response { status, body: Vec::new() })),
            _ => {
                let body = match framing(lines)? {
                    Framing::Chunked => decode_chunks(body, ended)?,
                    Framing::Length(length) if body.len() as u64 >= length.min(BODY as u64) => {
                        // The comparison bounds it by the available bytes.
                        let length = usize::try_from(length).unwrap_or(usize::MAX).min(body.len());
                        Some(body[..length].to_vec())
                    }
                    Framing::Length(_) if ended => return Err(ParseError::Truncated),
                    Framing::UntilEnd if ended || body.len() >= BODY => Some(body.to_vec()),
                    Framing::Length(_) | Framing::UntilEnd => None,
                };
                return Ok(body.map(|mut body| {
                    body.truncate(BODY);
                    Response { status, body }
                }));
            }
        }
    }
}

/// Splits at the first empty line; bare line feeds are accepted, as RFC 9112 allows.
fn split_head(wire: &[u8]) -> Option<(&[u8], &[u8])> {
    let window = &wire[..wire.len().min(HEAD)];
    let crlf = window.windows(4).position(|four| four == b"\r\n\r\n").map(|at| (at, at + 4));
    let lf = window.windows(2).position(|two| two == b"\n\n").map(|at| (at, at + 2));
    let (end, start) = [crlf, lf].into_iter().flatten().min()?;
    Some((&wire[..end], &wire[start..]))
}

fn parse_status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let code = rest.split(' ').nth(1)?;
    let status: u16 = code.parse().ok()?;
    (code.len() == 3 && (100..=599).contains(&status)).then_some(status)
}

enum Framing {
    Chunked,
    Length(u64),
    UntilEnd,
}

fn framing<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Framing, ParseError> {
    let mut framing = Framing::UntilEnd;
    for (name, value) in headers.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().contains("chunked") {
            return Ok(Framing::Chunked);
        }
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.trim().parse().map_err(|_| ParseError::Length)?);
        }
    }
    Ok(framing)
}

fn decode_chunks(mut wire: &[u8], ended: bool) -> Result<Option<Vec<u8>>, ParseError> {
    /// Maximum length of a line with a chunk's length and its extensions.
    const LONGEST_LINE: usize = 4 * 1024;
    let more = if ended { Err(ParseError::Truncated) } else { Ok(None) };
    let mut body = Vec::new();
    while body.len() < BODY {
        let Some(end) = wire.iter().position(|&byte| byte == b'\n') else {
            return if wire.len() > LONGEST_LINE { Err(ParseError::Chunk) } else { more };
        };
        let line = String::from_utf8_lossy(&wire[..end]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).map_err(|_| ParseError::Chunk)?;
        wire = &wire[end + 1..];
        if length == 0 {
            break;
        }
        body.extend_from_slice(&wire[..length.min(wire.len())]);
        match wire.get(length..) {
            // The line end after the chunk's bytes.
            Some(rest) if rest.starts_with(b"\r\n") => wire = &rest[2..],
            Some(rest) if rest.starts_with(b"\n") => wire = &rest[1..],
            Some([] | [b'\r']) | None if body.len() < BODY => return more,
            Some([] | [b'\r']) | None => break,
            Some(_) => return Err(ParseError::Chunk),
        }
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn responses_are_parsed_in_every_framing() {
        let complete: [(&str, bool, u16, &str); 9] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", false, 200, "ok"),
            ("HTTP/1.0 404 No\n\ngone", true, 404, "gone"),
            ("HTTP/1.1 204 \r\n\r\n", false, 204, ""),
            ("HTTP/1.1 200\r\n\r\nall", true, 200, "all"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 E\r\ncontent-length: 0\r\n\r\n", false, 500, ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                false,
                200,
                "abcde",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n",
                false,
                200,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\n0123456789\n0\n\n",
                false,
                200,
                "0123456789",
            ),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", false, 304, ""),
        ];
        for (wire, ended, status, body) in complete {
            let want = Response { status, body: body.as_bytes().to_vec() };
            assert_eq!(parse_response(wire.as_bytes(), ended), Ok(Some(want)), "{wire}");
            // A truncated response with a known length is never taken as complete.
            if !ended && !body.is_empty() {
                for length in 0..wire.find(body).unwrap_or(wire.len() - 3) {
                    assert_eq!(
                        parse_response(&wire.as_bytes()[..length], false),
                        Ok(None),
                        "{length} of {wire}"
                    );
                }
            }
        }
        for (wire, ended, want) in [
            ("SSH-2.0-x\r\n", false, ParseError::StatusLine),
            ("HTTP/1.1 2000 OK\r\n\r\n", false, ParseError::StatusLine),
            ("", true, ParseError::Truncated),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", true, ParseError::Truncated),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab", true, ParseError::Length),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, ParseError::Chunk),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", true, ParseError::Truncated),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", false, ParseError::Chunk),
        ] {
            assert_eq!(parse_response(wire.as_bytes(), ended), Err(want), "{wire}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(wire: Vec<u8>, ended: bool) {
            let _ = parse_response(&wire, ended);
        }

        #[test]
        fn no_chunks_make_it_panic(tail in "[0-9a-fA-F\r\n;x]{0,80}", ended: bool) {
            let wire = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{tail}");
            let _ = parse_response(wire.as_bytes(), ended);
        }

        #[test]
        fn chunks_give_back_what_was_sent(parts in proptest::collection::vec("[a-z]{1,20}", 0..8)) {
            let mut wire = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for part in &parts {
                let _ = write!(wire, "{:x}\r\n{part}\r\n", part.len());
            }
            wire.push_str("0\r\n\r\n");
            let want = Response { status: 200, body: parts.concat().into_bytes() };
            prop_assert_eq!(parse_response(wire.as_bytes(), false), Ok(Some(want)));
        }
    }
}
