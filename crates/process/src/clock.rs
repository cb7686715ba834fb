//! The clock as a value: the system's, or one that tests set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// A source of the current time. Clones of a fixed clock share its time.
#[derive(Debug, Clone)]
pub struct Clock(Inner);

#[derive(Debug, Clone)]
enum Inner {
    System,
    Fixed(Arc<Mutex<Timestamp>>),
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(Inner::System)
    }

    /// A clock that does not move until [`Clock::advance`] is called.
    pub fn fixed(at: Timestamp) -> Self {
        Self(Inner::Fixed(Arc::new(Mutex::new(at))))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Inner::System => Timestamp::now(),
            Inner::Fixed(at) => *at.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a fixed clock forwards, up to the last representable time; the system's clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Inner::Fixed(at) = &self.0 {
            let mut at = at.lock().unwrap_or_else(PoisonError::into_inner);
            *at = at.checked_add(by).unwrap_or(Timestamp::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_by_advance() {
        let clock = Clock::fixed(Timestamp::UNIX_EPOCH);
        let twin = clock.clone();
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        twin.advance(Duration::from_secs(5));
        assert_eq!(clock.now().as_second(), 5);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
