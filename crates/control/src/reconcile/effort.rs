//! A reconciler that is woken without end rests as long as it works, beyond a burst.

use std::time::Duration;

use tokio::time::Instant;

/// How long a reconciler may work in a row, however often it is woken.
const BURST: Duration = Duration::from_secs(1);

/// Webhooks of a busy repository do not poll its remote without end: see the module.
#[derive(Debug)]
pub(super) struct Effort {
    /// Work that no rest made up for yet.
    spent: Duration,
    at: Instant,
}

impl Effort {
    pub(super) const fn new(now: Instant) -> Self {
        Self { spent: Duration::ZERO, at: now }
    }

    /// Adds work from `began` to `ended`, after a rest.
    pub(super) fn add(&mut self, began: Instant, ended: Instant) {
        self.spent = self.spent.saturating_sub(began - self.at) + (ended - began);
        self.at = ended;
    }

    /// When work may continue.
    pub(super) fn rested(&self) -> Instant {
        self.at + self.spent.saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_woken_all_the_time_rests_as_long_as_it_works() {
        let start = Instant::now();
        let mut effort = Effort::new(start);
        let work = Duration::from_millis(100);
        let mut now = start;
        let mut passes = Vec::new();
        for _ in 0..40 {
            passes.push(now - start);
            effort.add(now, now + work);
            now = effort.rested();
        }
        // The first ones follow each other at once.
        assert_eq!(passes[9], work * 9);
        // Then it works half of the time.
        assert_eq!(passes[39], passes[19] + work * 40);
        // And an hour later it may work in a row again.
        now += Duration::from_hours(1);
        effort.add(now, now + work);
        assert_eq!(effort.rested(), now + work);
    }
}
