//! Whether the boot came to its end: checks may pass long before, or in a machine that never gets there.

use std::time::{Duration, Instant};

use edgewright_vm::Channel;

use super::evidence::output;

/// How long a boot may take, before scaling.
const TARGET_TIMEOUT: Duration = Duration::from_secs(45);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// The time limit of one look, before scaling.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How many jobs are named.
const MAX_JOBS: usize = 5;

/// Waits until systemd has started everything; gives why it did not. Other inits do not say.
pub(super) async fn unfinished(
    channel: &Channel,
    since: Instant,
    scale: f64,
    left: Duration,
) -> Option<String> {
    let deadline = since + TARGET_TIMEOUT.mul_f64(scale);
    let deadline = deadline.min(Instant::now() + left);
    loop {
        let state = ask(channel, &["systemctl", "is-system-running"], scale).await;
        let state = state.trim();
        // Very early, there is no manager to ask yet.
        if matches!(state, "running" | "degraded" | "maintenance" | "stopping")
            || !(matches!(state, "initializing" | "starting") || is_systemd(channel, scale).await)
        {
            return None;
        }
        if Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let listed = ask(channel, &["systemctl", "list-jobs", "--no-legend", "--no-pager"], scale).await;
    let units: Vec<&str> =
        listed.lines().filter(|line| line.contains("running")).filter_map(unit).take(MAX_JOBS).collect();
    let waits = if units.is_empty() { String::new() } else { format!("; it waits for {}", units.join(", ")) };
    let took = since.elapsed().as_secs();
    Some(format!("the machine did not reach its default target within {took}s{waits}"))
}

/// Whether process 1 is systemd, or our own program that is about to become the image's init.
async fn is_systemd(channel: &Channel, scale: f64) -> bool {
    let program = ask(channel, &["readlink", "/proc/1/exe"], scale).await;
    program.contains("systemd/systemd") || program.contains(edgewright_guest::GUEST)
}

async fn ask(channel: &Channel, words: &[&str], scale: f64) -> String {
    String::from_utf8_lossy(&output(channel, words, LOOK_TIMEOUT.mul_f64(scale)).await).into_owned()
}

/// The unit of a line `12 name.service start running`.
fn unit(line: &str) -> Option<&str> {
    line.split_whitespace().nth(1)
}
