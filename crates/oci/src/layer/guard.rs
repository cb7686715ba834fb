//! A reader of unpacked layers that ends: a few kilobytes may unpack to petabytes.

use std::io::{self, Read};

/// Maximum number of unpacked bytes of an image whose layers are read: the largest distributions have a tenth
/// of it.
pub const MAX_UNPACKED_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// The error of a reader beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the layers unpack to more than 64 GiB")]
pub struct TooLarge;

/// Reads at most a number of bytes, and only as long as someone waits for them: work on a blocking thread is
/// not cancelled by dropping its future.
pub struct Guard<R, S> {
    inner: R,
    left: u64,
    is_over: S,
}

impl<R, S> std::fmt::Debug for Guard<R, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<R: Read, S: Fn() -> bool> Guard<R, S> {
    /// A reader of at most `limit` bytes, which ends when `is_over` is true: it is asked before every read.
    pub fn new(inner: R, limit: u64, is_over: S) -> Self {
        Self { inner, left: limit, is_over }
    }

    /// What is left of the limit, in bytes.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<R: Read, S: Fn() -> bool> Read for Guard<R, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_over)() {
            // Not `Interrupted`: readers repeat that.
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(TooLarge))?;
        Ok(count)
    }
}

/// Whether an error is that of a reader beyond its limit.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<TooLarge>())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn endless_layers_end() {
        let mut endless = Guard::new(io::repeat(7), 100_000, || false);
        let error = io::copy(&mut endless, &mut io::sink()).unwrap_err();
        assert!(is_too_large(&error), "{error:?}");
        let error = super::super::LayerError::Read(error);
        assert!(error.is_content(), "it is a fault of the image");

        let over = Cell::new(false);
        let mut cancelled = Guard::new(io::repeat(7), u64::MAX, || over.get());
        assert_eq!(cancelled.read(&mut [0; 8]).unwrap(), 8);
        over.set(true);
        let error = io::copy(&mut cancelled, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!is_too_large(&error));
    }
}
