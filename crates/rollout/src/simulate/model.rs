//! How devices, sites and a release behave in a simulation.

use std::time::Duration;

/// A fleet and its networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// How often a device asks for its image, and how much longer it may wait each time.
    pub poll: (Duration, Duration),
    /// What a site's link carries, in bytes per second, for all of its devices.
    pub bandwidth: f64,
    /// What one device downloads, in bytes.
    pub bytes: f64,
    /// From the download to the running image.
    pub boot: Duration,
    /// From the running image to its confirmation.
    pub checks: Duration,
    /// The probability that a device does not keep a release that is good.
    pub failing: f64,
    /// The probability that a device is never heard of again after its boot.
    pub dying: f64,
    /// The probability that a report is lost. It is sent again with the next poll.
    pub lost: f64,
    /// The probability that a report arrives twice, and how late it may be.
    pub repeated: f64,
    /// How late a report may be.
    pub delay: Duration,
    /// The share of devices that report the opposite.
    pub lying: f64,
    /// The share of devices that are switched off for the whole time.
    pub off: f64,
    /// Time between two outages of a site, and their length, on average.
    pub outages: (Duration, Duration),
}

impl Default for Model {
    /// Industrial PCs behind the links of their plants.
    fn default() -> Self {
        Self {
            poll: (Duration::from_mins(15), Duration::from_mins(2)),
            bandwidth: 5e6,
            bytes: 40e6,
            boot: Duration::from_mins(3),
            checks: Duration::from_mins(1),
            failing: 0.005,
            dying: 0.0005,
            lost: 0.02,
            repeated: 0.02,
            delay: Duration::from_secs(30),
            lying: 0.0,
            off: 0.02,
            outages: (Duration::from_hours(24 * 14), Duration::from_hours(1)),
        }
    }
}

impl Model {
    /// How long a device takes from its offer to its confirmation, in 99 of 100 cases: what a server learns
    /// from earlier releases. `sharing`: devices of a site that download at the same time.
    pub fn patience(&self, sharing: u32) -> Duration {
        let download = Duration::from_secs_f64(self.bytes / self.bandwidth * f64::from(sharing.max(1)));
        let (poll, jitter) = self.poll;
        download + self.boot + self.checks + self.delay + 2 * (poll + jitter)
    }
}

/// A release that is rolled out.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The probability that a device does not keep it, by variant; the last one counts for all others.
    pub failing: Vec<f64>,
}

impl Release {
    /// With the same probability for all variants.
    pub fn failing(probability: f64) -> Self {
        Self { failing: vec![probability] }
    }

    pub(super) fn of(&self, variant: u32) -> f64 {
        self.failing.get(variant as usize).or(self.failing.last()).copied().unwrap_or_default()
    }
}
