//! Secrets that are read from files of one line, and never printed.

use std::fmt;
use std::path::Path;

use super::SettingsError;

/// The shortest secret that the server accepts for its own clients, in bytes: shorter ones can be guessed.
const SHORTEST_SECRET: usize = 16;
/// The largest file with a secret: tokens that contain claims have a few KiB.
const LONGEST_SECRET: u64 = 16 * 1024;

/// A secret that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// Reads a file with one line: a secret that this server's clients present, at least 16 characters long.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        Self::read_at_least(path, SHORTEST_SECRET)
    }

    /// As [`Secret::read`], for a secret of another service, which may be shorter.
    pub fn read_any(path: &Path) -> Result<Self, SettingsError> {
        Self::read_at_least(path, 1)
    }

    fn read_at_least(path: &Path, shortest: usize) -> Result<Self, SettingsError> {
        use std::io::Read as _;
        let fail = |source| SettingsError::Secret { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(LONGEST_SECRET).read_to_string(&mut text).map_err(fail)?;
        let secret = text.trim();
        if secret.len() < shortest || secret.contains(char::is_whitespace) {
            let reason = format!("expected at least {shortest} characters on one line");
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, reason)));
        }
        Ok(Self(secret.to_owned()))
    }

    /// The secret itself, for sending and comparing only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
