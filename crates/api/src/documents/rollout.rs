//! The document of `rollout simulate`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of simulated rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutSimulation {
    /// The source.
    pub source: String,
    /// The channel whose devices took the release.
    pub channel: String,
    /// How many devices follow it.
    pub devices: u64,
    /// At how many sites.
    pub sites: u64,
    /// One entry for each failure rate.
    pub rates: Vec<SimulatedRate>,
}

/// Simulations of a release that fails on a share of devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SimulatedRate {
    /// How many devices in a hundred it fails on.
    pub failing_percent: f64,
    /// How many rollouts were simulated.
    pub runs: u64,
    /// How many of them the gate stopped.
    pub stopped: u64,
    /// How many reached all reachable devices. The others were still waiting after 90 days.
    pub completed: u64,
    /// The stages, in order; the last one is all other devices.
    pub stages: Vec<SimulatedStage>,
    /// The median time from the begin to the end; none if no rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_end_seconds: Option<u64>,
    /// The median of devices that were offered the release.
    pub median_offered: u64,
    /// The median of devices that failed.
    pub median_failed: u64,
    /// The most that was downloaded over the link of one site, in MiB.
    pub largest_site_mib: f64,
}

/// A stage of simulated rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SimulatedStage {
    /// Its name.
    pub stage: String,
    /// In how many rollouts it began.
    pub reached: u64,
    /// The median time from the begin of the rollout to that of the stage; none if it never began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_begin_seconds: Option<u64>,
}
