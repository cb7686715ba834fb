//! Events from callbacks into a bounded channel.
//!
//! Tools may print endlessly. Log lines are passed on at a limited rate and up to a limited amount; the log
//! states how many were omitted. Phases and progress are rare and always pass.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgewright_model::outcome::JobEvent;
use tokio::sync::mpsc;

/// The largest burst, in lines.
const BURST: u32 = 2000;
/// The sustained rate, in lines per second.
const RATE: u32 = 200;
/// The largest log of one job, in bytes.
const AMOUNT: usize = 16 * 1024 * 1024;

/// Passes on a job's events. Clones share the limits.
#[derive(Debug, Clone)]
pub struct Reporter {
    events: mpsc::Sender<JobEvent>,
    throttle: Arc<Mutex<Throttle>>,
}

impl Reporter {
    /// Reports into this channel.
    pub fn new(events: mpsc::Sender<JobEvent>) -> Self {
        Self { events, throttle: Arc::new(Mutex::new(Throttle::new(Instant::now()))) }
    }

    /// Passes an event on, unless it exceeds the limits of the log or the channel is full.
    pub fn report(&self, event: JobEvent) {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if let JobEvent::Log { line } = &event
            && !throttle.admit(line.len(), Instant::now())
        {
            return;
        }
        if throttle.left_out > 0 && self.events.try_send(left_out(throttle.left_out)).is_ok() {
            throttle.left_out = 0;
        }
        if self.events.try_send(event).is_err() {
            throttle.left_out += 1;
        }
    }

    /// Reports at the end how many lines were omitted.
    pub fn finish(&self) {
        let throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if throttle.left_out > 0 {
            // If the channel is still full, its reader is gone or stuck.
            let _ = self.events.try_send(left_out(throttle.left_out));
        }
    }
}

fn left_out(count: u64) -> JobEvent {
    JobEvent::Log { line: format!("[{count} lines omitted: the job prints too much]") }
}

/// A token bucket over lines, and a limit over bytes.
#[derive(Debug)]
struct Throttle {
    tokens: u32,
    filled: Instant,
    bytes: usize,
    left_out: u64,
}

impl Throttle {
    const fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, bytes: 0, left_out: 0 }
    }

    fn admit(&mut self, length: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled);
        let earned = u32::try_from(passed.as_millis() * u128::from(RATE) / 1000).unwrap_or(BURST);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            // Only the time of whole tokens, so that no fraction is lost.
            self.filled += Duration::from_millis(u64::from(earned) * 1000 / u64::from(RATE));
        }
        if self.tokens == 0 || self.bytes > AMOUNT {
            self.left_out += 1;
            return false;
        }
        self.tokens -= 1;
        self.bytes += length;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_floods_are_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let passed = (0..5000).filter(|_| throttle.admit(10, start)).count();
        assert_eq!((passed, throttle.left_out), (2000, 3000));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..5000).filter(|_| throttle.admit(10, later)).count(), 200);
        // A steady stream at the rate passes in full, in steps that do not divide the second.
        let mut steady = Throttle::new(start);
        steady.tokens = 1;
        let passed =
            (1..=300).filter(|step| steady.admit(10, start + Duration::from_millis(7 * step))).count();
        assert_eq!(passed, 300);
        let mut huge = Throttle::new(start);
        assert!(huge.admit(AMOUNT + 1, start) && !huge.admit(1, start));
    }

    #[tokio::test]
    async fn omitted_lines_are_reported() {
        let (sender, mut events) = mpsc::channel(4);
        let reporter = Reporter::new(sender);
        for number in 0..10 {
            reporter.report(JobEvent::Log { line: number.to_string() });
        }
        let mut lines = Vec::new();
        for _ in 0..4 {
            lines.push(events.recv().await);
        }
        reporter.report(JobEvent::Log { line: "last".to_owned() });
        assert_eq!(events.recv().await, Some(left_out(6)));
        assert_eq!(events.recv().await, Some(JobEvent::Log { line: "last".to_owned() }));
    }
}
