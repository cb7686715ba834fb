//! Events from callbacks into a bounded channel.
//!
//! Tools may print without end. Log lines are let through at a bounded rate and up to a bounded amount; how many were
//! left out is said in the log itself. Phases and progress are rare and pass.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgewright_model::outcome::JobEvent;
use tokio::sync::mpsc;

/// Lines that may come at once.
const BURST: u32 = 2000;
/// Lines in a second that may come for long.
const RATE: u32 = 200;
/// Log of one job in all; in bytes.
const AMOUNT: usize = 16 * 1024 * 1024;

/// Passes on a job's events. Clones share the bounds.
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

    /// Passes an event on, unless it is a log line too many or nobody takes events up in time.
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

    /// Says at the end what was left out.
    pub fn finish(&self) {
        let throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if throttle.left_out > 0 {
            // Where the channel is still full, nobody reads.
            let _ = self.events.try_send(left_out(throttle.left_out));
        }
    }
}

fn left_out(count: u64) -> JobEvent {
    JobEvent::Log { line: format!("[{count} lines left out: the job prints too much]") }
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
            // Only what was paid for, so that no fraction is lost.
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
        // A steady stream at the rate passes in whole, in steps that do not divide the second.
        let mut steady = Throttle::new(start);
        steady.tokens = 1;
        let passed =
            (1..=300).filter(|step| steady.admit(10, start + Duration::from_millis(7 * step))).count();
        assert_eq!(passed, 300);
        let mut huge = Throttle::new(start);
        assert!(huge.admit(AMOUNT + 1, start) && !huge.admit(1, start));
    }

    #[tokio::test]
    async fn what_is_left_out_is_said() {
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
