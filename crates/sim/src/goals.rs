//! What our gate must hold, as JSON for machines.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::fast::Runs;

/// The goals and their values.
#[derive(Default)]
pub(crate) struct Goals(Vec<Value>);

impl Goals {
    /// The goals of a failure rate. All values are better when they are smaller.
    pub(crate) fn rate(&mut self, rate: f64, is_healthy: bool, runs: &Runs) {
        let missed = f64::from(runs.count - runs.stopped) / f64::from(runs.count.max(1));
        if is_healthy {
            self.add("sim.false_stops_upper_bound", upper_bound(runs.stopped, runs.count), 0.01);
        } else if (rate - 0.01).abs() < 1e-9 {
            self.add("sim.one_percent.missed", missed, 0.05);
            self.add("sim.one_percent.median_failed", f64::from(runs.median_failed), 40.0);
        } else if (rate - 0.03).abs() < 1e-9 {
            self.add("sim.three_percent.missed", missed, 0.0);
            self.add("sim.three_percent.median_failed", f64::from(runs.median_failed), 10.0);
        }
    }

    fn add(&mut self, name: &str, value: f64, bound: f64) {
        self.0.push(json!({ "name": name, "value": value, "bound": bound, "met": value <= bound }));
    }

    /// Prints them, and writes them to a file.
    pub(crate) fn write(&self, out: Option<&str>) -> anyhow::Result<()> {
        println!();
        for goal in &self.0 {
            let word = if goal["met"] == true { "met" } else { "MISSED" };
            let name = goal["name"].as_str().unwrap_or_default();
            println!("{name:<40} {:>10} of {:>6}  {word}", goal["value"], goal["bound"]);
        }
        let Some(out) = out else { return Ok(()) };
        let text = serde_json::to_string_pretty(&json!({ "goals": self.0 }))? + "\n";
        std::fs::write(out, text).with_context(|| format!("cannot write {out}"))
    }
}

/// The upper end of the one-sided 95 % interval of a share, by Clopper and Pearson: the rate with which so
/// few would happen in 5 of 100 cases.
fn upper_bound(count: u32, of: u32) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(count, of, middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// The probability of at most `count` of `of` at a rate.
fn at_most(count: u32, of: u32, rate: f64) -> f64 {
    let (rate, rest) = (rate.ln(), (-rate).ln_1p());
    let mut choices = 0.0;
    let mut sum = 0.0;
    for number in 0..=count.min(of) {
        if number > 0 {
            choices += (f64::from(of - number + 1) / f64::from(number)).ln();
        }
        sum += (choices + f64::from(number) * rate + f64::from(of - number) * rest).exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_tables() {
        // "Rule of three": nothing in 1,000.
        assert!((upper_bound(0, 1_000) - 0.002_991).abs() < 1e-5, "{}", upper_bound(0, 1_000));
        assert!((upper_bound(5, 100) - 0.102_25).abs() < 1e-4, "{}", upper_bound(5, 100));
    }
}
