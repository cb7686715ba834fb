//! Addresses of remotes, which are printed without credentials.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The address of a source's repository: `https://`, `http://`, `ssh://`, `file://`, `user@host:path` or an
/// absolute path.
///
/// `Display` and `Debug` omit the credentials; [`Remote::reveal`] includes them, for storing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Without credentials, except for an ssh user's name.
    address: String,
    /// `user:password`, percent-encoded as given; only http and https.
    credentials: Option<String>,
    /// The printed form in place of the address.
    shown: Option<String>,
}

/// A text that is not the address of a remote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid repository address: {reason}")]
pub struct InvalidRemote {
    reason: &'static str,
}

const SCHEMES: &str = "expected https://, http://, ssh:// or file://, user@host:path, or an absolute path";

impl Remote {
    /// The repository in a folder of this machine. The path must be absolute.
    pub fn from_path(path: &Path) -> Result<Self, InvalidRemote> {
        path.to_str().ok_or(InvalidRemote { reason: "the path is not UTF-8" })?.parse()
    }

    /// The same remote, printed as `other`: for a temporary repository that is made from a folder.
    #[must_use]
    pub fn displayed_as(self, other: &Self) -> Self {
        Self { shown: Some(other.address.clone()), ..self }
    }

    /// The address without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The whole address with credentials: for storing, never for printing. Parses to an equal value.
    pub fn reveal(&self) -> String {
        match (&self.credentials, self.address.split_once("://")) {
            (Some(credentials), Some((scheme, rest))) => format!("{scheme}://{credentials}@{rest}"),
            _ => self.address.clone(),
        }
    }

    /// The same address with other credentials; `None` for schemes other than http and https.
    pub fn with_credentials(&self, user: &str, password: &str) -> Option<Self> {
        if !self.address.starts_with("http") {
            return None;
        }
        let credentials = Some(format!("{}:{}", percent_encoded(user), percent_encoded(password)));
        Some(Self { credentials, ..self.clone() })
    }

    /// The folder of this machine that it is.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let path = String::from_utf8(percent_decoded(self.address.strip_prefix("file://")?)).ok()?;
        Some(PathBuf::from(path))
    }

    /// Whether it is printed as another one: it is a temporary repository that is made from a folder.
    pub(crate) const fn is_displayed(&self) -> bool {
        self.shown.is_some()
    }

    /// The same address without credentials.
    pub(crate) fn without_credentials(self) -> Self {
        Self { credentials: None, ..self }
    }

    /// The same address with the credentials of another one, if both have the same scheme, host and port.
    /// Credentials of its own stay.
    pub(crate) fn with_credentials_of(self, other: &Self) -> Self {
        let is_same = self.origin().is_some() && self.origin() == other.origin();
        if self.credentials.is_some() || !is_same {
            return self;
        }
        Self { credentials: other.credentials.clone(), ..self }
    }

    /// Scheme, host and port of http and https.
    fn origin(&self) -> Option<(String, String)> {
        let (scheme, rest) = self.address.split_once("://")?;
        let default = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let host = rest.split('/').next().unwrap_or_default().to_lowercase();
        Some((scheme.to_owned(), host.strip_suffix(default).map_or_else(|| host.clone(), str::to_owned)))
    }

    /// The value of the `Authorization` header, if there are credentials.
    pub(crate) fn authorization(&self) -> Option<String> {
        let credentials = self.credentials.as_deref()?;
        let decoded = percent_decoded(credentials);
        let separator: &[u8] = if decoded.contains(&b':') { b"" } else { b":" };
        Some(format!("Basic {}", BASE64_STANDARD.encode([&decoded, separator].concat())))
    }
}

impl FromStr for Remote {
    type Err = InvalidRemote;

    fn from_str(text: &str) -> Result<Self, InvalidRemote> {
        let refuse = |reason| Err(InvalidRemote { reason });
        let local = text.starts_with('/') || text.starts_with("file://");
        let is_forbidden = |c: char| c.is_control() || (c.is_whitespace() && !local);
        if text.is_empty() || text.len() > 2048 || text.chars().any(is_forbidden) {
            return refuse("empty, too long, or with spaces or control characters");
        }
        let plain = |address: String| Ok(Self { address, credentials: None, shown: None });
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.split_once(':') {
                // Git decodes percent signs in addresses.
                _ if local => plain(format!("file://{}", text.replace('%', "%25"))),
                Some((host, path)) if !host.contains('/') && is_ssh_host(host) && is_scp_path(path) => {
                    plain(text.to_owned())
                }
                _ => refuse(SCHEMES),
            };
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme {
            "file" if authority.is_empty() && !path.is_empty() => plain(text.to_owned()),
            "file" => refuse("file:// needs an absolute path, such as file:///srv/git/plant-os.git"),
            "ssh" if is_ssh_host(authority) && !path.is_empty() => plain(text.to_owned()),
            "ssh" => refuse("expected ssh://[user@]host[:port]/path, without a password"),
            "http" | "https" => {
                let (credentials, host) = match authority.rsplit_once('@') {
                    Some((credentials, host)) => (Some(credentials.to_owned()), host),
                    None => (None, authority),
                };
                if host.is_empty() || host.starts_with(['-', ':']) {
                    return refuse("no host");
                }
                Ok(Self {
                    address: format!("{scheme}://{host}/{path}"),
                    credentials: credentials.filter(|some| !some.is_empty()),
                    shown: None,
                })
            }
            _ => refuse(SCHEMES),
        }
    }
}

/// `host`, `host:port` or `user@host`, without a password, and nothing that ssh could parse as an option.
fn is_ssh_host(text: &str) -> bool {
    let is_host = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.chars().all(|c| c.is_alphanumeric() || "-_.:[]".contains(c))
    };
    match text.split_once('@') {
        Some((user, host)) => is_host(user) && !user.contains(':') && is_host(host),
        None => is_host(text),
    }
}

/// The path after `host:`; `::` would select a transport helper such as `ext::`.
fn is_scp_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with([':', '-'])
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.shown.as_deref().unwrap_or(&self.address))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.address)
    }
}

fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print_without_credentials() {
        for (text, shown) in [
            ("/srv/git/a.git", "file:///srv/git/a.git"),
            ("/srv/c:d/a.git", "file:///srv/c:d/a.git"),
            ("file:///srv/a", "file:///srv/a"),
            ("/srv/my 100%/a", "file:///srv/my 100%25/a"),
            ("https://example.org/a.git", "https://example.org/a.git"),
            ("https://bob:s3cret@example.org:8443/a.git", "https://example.org:8443/a.git"),
            ("http://token@h/a", "http://h/a"),
            ("ssh://git@h:2222/a.git", "ssh://git@h:2222/a.git"),
            ("git@github.com:o/a.git", "git@github.com:o/a.git"),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!(remote.to_string(), shown);
            assert!(!format!("{remote:?} {remote}").contains("s3cret"));
            assert_eq!(remote.reveal().parse::<Remote>().unwrap(), remote);
        }
    }

    #[test]
    fn dangerous_and_unknown_addresses_are_rejected() {
        for text in [
            "",
            "a b",
            "relative/path",
            "--upload-pack=x",
            "ext::sh -c x",
            "ext::sh",
            "-oProxyCommand=x:y",
            "ssh://-oProxyCommand=x/y",
            "ssh://u:p@h/x",
            "ftp://h/x",
            "file://host/x",
            "https:///x",
            "fd::7",
            "https://-h/x",
        ] {
            let refused = text.parse::<Remote>().unwrap_err();
            assert!(!refused.to_string().contains("u:p"), "{text}");
        }
    }

    #[test]
    fn credentials_become_a_header() {
        let header = |text: &str| text.parse::<Remote>().unwrap().authorization();
        assert_eq!(header("https://h/x"), None);
        assert_eq!(
            header("https://Aladdin:open%20sesame@h/x").as_deref(),
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
        );
        assert_eq!(header("https://t@h/x").as_deref(), Some("Basic dDo="));
        let plain: Remote = "https://h/x".parse().unwrap();
        let with = plain.with_credentials("Aladdin", "open sesame").unwrap();
        assert_eq!(with.authorization().as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(with.reveal().parse::<Remote>().unwrap(), with);
        assert_eq!("git@h:x".parse::<Remote>().unwrap().with_credentials("a", "b"), None);
    }
}
