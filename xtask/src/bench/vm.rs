//! `bench vm`: how long from a digest to a virtual machine that is tested.
//!
//! A lane with ten checks on a digest that is new, by the lab's own test `a_measured_lane`, whose log has the
//! times; and `bench/vm/baseline.sh`, the same system by hand, interleaved. Then the lanes `upgrade` and
//! `rollback` of a device whose disk is installed, once, by `e2e lanes`. All of this is compiled without
//! optimisation, so that what is ours in the times is an upper bound. Last, a device with the agent as it is
//! shipped: what it needs while it is idle, and what it receives for one changed layer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::report::{self, Goal, median};
use crate::command::Run;
use crate::{e2e, setup, workspace};

/// Interleaved rounds.
const ROUNDS: usize = 3;

/// The times of a round, in seconds.
struct Round {
    root_image: f64,
    multi_user: f64,
    lane: f64,
    by_hand: (f64, f64),
}

pub(super) fn run() -> anyhow::Result<()> {
    setup::run()?;
    // It only makes the tool image.
    Run::new("cargo").args(["build", "--locked", "-p", "edgewright"]).run()?;
    let tools = setup::tool_image(&workspace::target().join("debug/edgewright"))?;
    let rounds: Vec<Round> = (1..=ROUNDS).map(|number| round(&tools, number)).collect::<Result<_, _>>()?;
    let column = |pick: fn(&Round) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>());
    let (disk, boot) = (column(|round| round.by_hand.0), column(|round| round.by_hand.1));
    println!("\nmedians of {ROUNDS} rounds, seconds         edgewright    by hand");
    println!("{:<36} {:>12.2} {disk:>10.2}", "root file system", column(|round| round.root_image));
    println!("{:<36} {:>12.2} {boot:>10.2}", "multi-user", column(|round| round.multi_user));
    let ratio = |round: &Round| round.multi_user / round.by_hand.1;
    let mut goals = vec![
        Goal { name: "vm.multi_user_s", value: column(|round| round.multi_user), bound: 20.0 },
        Goal { name: "vm.root_image_s", value: column(|round| round.root_image), bound: 5.0 },
        Goal { name: "vm.lane_ten_checks_s", value: column(|round| round.lane), bound: 35.0 },
        Goal { name: "vm.multi_user_ratio", value: column(ratio), bound: 0.8 },
    ];
    if let Some(lanes) = e2e::lane_times()? {
        goals.extend([
            Goal { name: "vm.lane_upgrade_s", value: lanes.upgrade, bound: 180.0 },
            Goal { name: "vm.lane_rollback_s", value: lanes.rollback, bound: 240.0 },
        ]);
    }
    if let Some(device) = e2e::device_figures()? {
        goals.extend([
            Goal { name: "vm.changed_layer_ratio", value: device.changed_layer_ratio, bound: 1.05 },
            Goal { name: "vm.agent_idle_mib", value: device.idle_mib, bound: 12.0 },
            Goal { name: "vm.agent_idle_cpu_percent", value: device.idle_cpu_percent, bound: 1.0 },
        ]);
    }
    report::write("vm", &goals)
}

fn round(tools: &Path, number: usize) -> anyhow::Result<Round> {
    let (root_image, multi_user, lane) = ours(tools)?;
    let by_hand = by_hand(tools)?;
    println!(
        "round {number}: root {root_image:.1} s, multi-user {multi_user:.1} s, lane {lane:.1} s; by hand {:.1} s and {:.1} s",
        by_hand.0, by_hand.1
    );
    Ok(Round { root_image, multi_user, lane, by_hand })
}

/// Our lane: root file system, multi-user since the machine's start, all.
fn ours(tools: &Path) -> anyhow::Result<(f64, f64, f64)> {
    let selection = ["test", "--quiet", "--locked", "-p", "edgewright-lab", "--test", "vm"];
    let choice = ["--", "--exact", "a_measured_lane", "--ignored", "--nocapture"];
    let words = selection.iter().chain(&choice).copied().collect::<Vec<_>>().join(" ");
    let text = Run::new("bash")
        .args(["-c", &format!("cargo {words} 2>&1")])
        .env("EDGEWRIGHT_TOOLS", tools)
        .output()?;
    let lines = text.lines().skip_while(|line| *line != "MEASURED");
    times(&lines.collect::<Vec<_>>()).with_context(|| format!("unexpected output of the lane:\n{text}"))
}

/// The times in a lane's log, whose lines begin with the seconds since its start.
fn times(lines: &[&str]) -> Option<(f64, f64, f64)> {
    let after = |words: &str| {
        let line = lines.iter().find(|line| line.contains(words))?;
        let value = line.split(" after ").nth(1)?.split(' ').next()?;
        value.parse::<f64>().ok()
    };
    let last = lines.iter().rev().find(|line| line.trim_end().ends_with("Passed"))?;
    let lane = last.split_whitespace().next()?.parse().ok()?;
    Some((after("root file system")?, after("its boot is at its end")?, lane))
}

fn by_hand(tools: &Path) -> anyhow::Result<(f64, f64)> {
    let script = workspace::root().join("bench/vm/baseline.sh");
    let text = Run::new("bash").arg(script).arg(system()?).arg(tools.join("root")).output()?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [disk, boot] => Ok((disk, boot)),
        _ => bail!("unexpected output of the baseline: {text:?}"),
    }
}

/// The system that the tests keep (`edgewright_testkit::system`), the newest version.
fn system() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?;
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_system = |name: &str| {
        let version = name.strip_prefix("vm-trixie-").and_then(|rest| rest.strip_suffix(".tar"));
        version.is_some_and(|version| !version.contains('.'))
    };
    found.retain(|path| is_system(&name(path)));
    found.sort();
    found.pop().context("the tests have made no system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_lanes_log() {
        let log = "     1.7 root file system after 1.6 s\n    14.1 the guest answers after 7.5 s (tcg)\n    22.4 its boot is \
                   at its end after 20.7 s\n    24.7 check `up` passed after 1.25s\n  26.6 Passed";
        let lines: Vec<&str> = log.lines().collect();
        let (root, up, lane) = times(&lines).unwrap();
        assert!((root - 1.6).abs() < 1e-9 && (up - 20.7).abs() < 1e-9 && (lane - 26.6).abs() < 1e-9);
        assert_eq!(times(&["nothing"]), None);
    }
}
