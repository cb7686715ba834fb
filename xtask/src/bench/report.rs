//! The result of a bench: a table for people, goals as JSON for machines.

use anyhow::Context as _;
use serde_json::json;

use crate::workspace;

/// A bound on a measured value; smaller is better.
pub(super) struct Goal {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) bound: f64,
}

/// Prints the goals and writes `target/bench/NAME.json`. A missed goal is reported, not hidden and not an
/// error.
pub(super) fn write(name: &str, goals: &[Goal]) -> anyhow::Result<()> {
    println!("\n{:<58} {:>10} {:>10}", "goal", "value", "bound");
    for goal in goals {
        let met = if goal.value <= goal.bound { "met" } else { "MISSED" };
        println!("{:<58} {:>10.3} {:>10.3}  {met}", goal.name, goal.value, goal.bound);
    }
    let goals: Vec<_> = goals
        .iter()
        .map(|goal| json!({"name": goal.name, "value": goal.value, "bound": goal.bound, "met": goal.value <= goal.bound}))
        .collect();
    let folder = workspace::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&json!({ "goals": goals }))? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}

/// The middle value; of an even number the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
