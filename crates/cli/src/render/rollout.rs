//! The outcome of simulated rollouts.

use edgewright_api::documents::{RolloutSimulation, SimulatedRate};

use super::table::Table;
use super::units::duration;

/// The table of failure rates, and when stages begin with the lowest of them.
pub(crate) fn simulation(report: &RolloutSimulation) -> String {
    let RolloutSimulation { source, channel, devices, sites, rates } = report;
    let mut table = Table::new(["fails on", "stopped", "completed", "after", "offered", "failed"]);
    for rate in rates {
        table.row([
            format!("{} %", rate.failing_percent),
            format!("{} of {}", rate.stopped, rate.runs),
            format!("{} of {}", rate.completed, rate.runs),
            rate.median_end_seconds.map_or_else(|| "-".to_owned(), seconds),
            rate.median_offered.to_string(),
            rate.median_failed.to_string(),
        ]);
    }
    let mut text = format!(
        "{source}, channel {channel}: {devices} devices at {sites} sites\n\n{}",
        table.text("no failure rate")
    );
    if let Some(rate) = rates.first() {
        text.push_str(&below(rate));
    }
    text
}

fn below(rate: &SimulatedRate) -> String {
    format!(
        "\nStages, if it fails on {} %:\n\n{}\nAt most {:.0} MiB over the link of one site.\n\
         Medians. Approvals are given at once.\n",
        rate.failing_percent,
        stages(rate).text("no stages"),
        rate.largest_site_mib
    )
}

fn stages(rate: &SimulatedRate) -> Table {
    let mut table = Table::new(["stage", "begins after", "reached"]);
    for stage in &rate.stages {
        table.row([
            stage.stage.clone(),
            stage.median_begin_seconds.map_or_else(|| "-".to_owned(), seconds),
            format!("{} of {}", stage.reached, rate.runs),
        ]);
    }
    table
}

fn seconds(seconds: u64) -> String {
    match seconds {
        0 => "at once".to_owned(),
        seconds => duration(seconds * 1_000),
    }
}
