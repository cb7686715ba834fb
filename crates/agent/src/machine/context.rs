//! What a step depends on besides record and event.

use std::time::Duration;

use edgewright_model::window::Windows;
use jiff::{SignedDuration, Timestamp};

use crate::policy::Policy;

/// The configuration that steps use.
#[derive(Debug, Clone)]
pub struct Rules {
    /// When a staged image is applied.
    pub policy: Policy,
    /// The maintenance windows.
    pub windows: Windows,
    /// The time between two checks.
    pub interval: Duration,
    /// The largest random delay.
    pub jitter: Duration,
}

/// The moment of a step.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time now.
    pub now: Timestamp,
    /// A random delay for this step, so that devices do not act at the same moment.
    pub jitter: Duration,
    /// The configuration.
    pub rules: &'a Rules,
}

impl Context<'_> {
    /// A time after now, up to the last representable one.
    pub(super) fn after(&self, pause: Duration) -> Timestamp {
        let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
        self.now.checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// The time of the next regular check.
    pub(super) fn next_check(&self) -> Timestamp {
        self.after(self.rules.interval.saturating_add(self.jitter))
    }

    /// Whether a stored time is reached. One that is further away than any that the agent sets comes from a
    /// clock that was wrong, and counts as reached.
    pub(super) fn is_due(&self, at: Timestamp) -> bool {
        let longest = self.rules.interval.saturating_add(self.rules.jitter);
        let furthest = self.after(longest.saturating_mul(2).saturating_add(Duration::from_hours(1)));
        at <= self.now || at > furthest
    }

    /// When a staged image is applied: now, later, or only on command.
    pub(super) fn apply_at(&self) -> ApplyAt {
        match self.rules.policy {
            Policy::Immediately => ApplyAt::Now,
            Policy::Download => ApplyAt::OnCommand,
            Policy::Window if self.rules.windows.is_open(self.now) => ApplyAt::Now,
            Policy::Window => ApplyAt::Later(self.rules.windows.next(self.now, self.jitter)),
        }
    }
}

/// When a staged image is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApplyAt {
    Now,
    Later(Option<Timestamp>),
    OnCommand,
}
