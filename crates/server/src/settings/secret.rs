//! Secrets out of files: a line each, never printed.

use std::fmt;
use std::path::Path;

use super::SettingsError;

/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;
/// A file of secrets is not longer: tokens that say much of themselves have some KiB.
const LONGEST_SECRET: u64 = 16 * 1024;

/// A secret that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// Reads a file with one line: a secret of ours, which nobody should guess.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        Self::read_of(path, SHORTEST_SECRET)
    }

    /// As [`Secret::read`], for a secret that others made: it is as it is.
    pub fn read_any(path: &Path) -> Result<Self, SettingsError> {
        Self::read_of(path, 1)
    }

    fn read_of(path: &Path, shortest: usize) -> Result<Self, SettingsError> {
        use std::io::Read as _;
        let fail = |source| SettingsError::Secret { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(LONGEST_SECRET).read_to_string(&mut text).map_err(fail)?;
        let secret = text.trim();
        if secret.len() < shortest || secret.contains(char::is_whitespace) {
            let why = format!("want at least {shortest} characters on one line");
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, why)));
        }
        Ok(Self(secret.to_owned()))
    }

    /// The secret itself: for sending and comparing only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
