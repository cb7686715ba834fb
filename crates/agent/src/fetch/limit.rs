//! The bandwidth limit of a device.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that may arrive at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);

/// Delays a reader, so that it reads no more than so many bytes per second on average. The sender notices by
/// TCP's flow control.
#[derive(Debug)]
pub struct Limiter {
    rate: Option<u64>,
    free_at: Option<Instant>,
}

impl Limiter {
    /// A limit in bytes per second, or none.
    pub const fn new(rate: Option<u64>) -> Self {
        Self { rate, free_at: None }
    }

    /// Waits until these bytes fit.
    pub async fn take(&mut self, bytes: usize) {
        if let Some(pause) = self.pause(bytes, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait after having read these bytes.
    fn pause(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let rate = self.rate.filter(|rate| *rate > 0)?;
        let free_at = self.free_at.filter(|at| *at > now).unwrap_or(now);
        // Neither a chunk nor a rate comes near the limits of a double.
        #[expect(clippy::cast_precision_loss, reason = "a pause needs no more than the digits of a double")]
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let free_at = free_at + cost;
        self.free_at = Some(free_at);
        free_at.saturating_duration_since(now).checked_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_time() {
        let now = Instant::now();
        assert_eq!(Limiter::new(None).pause(1 << 30, now), None);
        let mut limiter = Limiter::new(Some(1000));
        assert_eq!(limiter.pause(250, now), Some(Duration::ZERO));
        assert_eq!(limiter.pause(1000, now), Some(Duration::from_secs(1)));
        // The time that passed counts, but unused time is not saved up.
        assert_eq!(limiter.pause(0, now + Duration::from_secs(100)), None);
        assert_eq!(limiter.pause(1000, now + Duration::from_secs(100)), Some(Duration::from_millis(750)));
    }
}
