//! Whether the boot came to its end: checks may pass long before, or in a machine that never gets there.

use std::time::{Duration, Instant};

use edgewright_guest::frame::Program;
use edgewright_process::Stream;
use edgewright_vm::{Channel, ChannelError};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// The time limit of one look, before scaling.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How many jobs are named.
const MAX_JOBS: usize = 5;
/// The most that is kept of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How far a boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// At its end, or the init does not say.
    Finished,
    /// On its way.
    Starting,
    /// It ended where a person is waited for.
    Emergency,
    /// The guest does not answer.
    Silent,
}

/// Waits until systemd has started everything, or the deadline. Other inits do not say.
pub(super) async fn wait(channel: &Channel, deadline: Instant, scale: f64) -> Progress {
    let look = LOOK_TIMEOUT.mul_f64(scale);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // One program that waits costs less than many that look. It may miss an end in the emergency mode.
        let waits = ["systemctl", "is-system-running", "--wait"];
        let answer = ask(channel, &waits, left.min(look)).await;
        let progress = match answer.as_deref().map(str::trim) {
            Some("running" | "degraded") => Progress::Finished,
            _ => progress(channel, look).await,
        };
        let is_over = matches!(progress, Progress::Finished | Progress::Emergency);
        if is_over || Instant::now() >= deadline {
            return progress;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a boot did not come to its end, as a message.
pub(super) async fn unfinished(
    progress: Progress,
    channel: &Channel,
    since: Instant,
    scale: f64,
) -> Option<String> {
    let took = since.elapsed().as_secs();
    let message = format!("the machine did not reach its default target within {took}s");
    match progress {
        Progress::Finished => None,
        Progress::Emergency => Some(format!("{message}: it is in rescue or emergency mode")),
        Progress::Silent => Some(format!("{message}: it does not answer")),
        Progress::Starting => {
            let words = ["systemctl", "list-jobs", "--no-legend", "--no-pager"];
            let listed = ask(channel, &words, LOOK_TIMEOUT.mul_f64(scale)).await.unwrap_or_default();
            let running = listed.lines().filter(|line| line.contains("running"));
            let units: Vec<&str> = running.filter_map(unit).take(MAX_JOBS).collect();
            let waits =
                if units.is_empty() { String::new() } else { format!("; it waits for {}", units.join(", ")) };
            Some(format!("{message}{waits}"))
        }
    }
}

/// How far the boot is now.
async fn progress(channel: &Channel, within: Duration) -> Progress {
    let Some(state) = ask(channel, &["systemctl", "is-system-running"], within).await else {
        return Progress::Silent;
    };
    match state.trim() {
        "running" | "degraded" => return Progress::Finished,
        "maintenance" => return Progress::Emergency,
        // One that stops is gone soon.
        "initializing" | "starting" | "stopping" => return Progress::Starting,
        // Very early, there is no manager to ask yet.
        _ => {}
    }
    match ask(channel, &["readlink", "/proc/1/exe"], within).await {
        None => Progress::Silent,
        // Our own program is about to become the image's init.
        Some(program) if program.contains("systemd/systemd") || program.contains(edgewright_guest::GUEST) => {
            Progress::Starting
        }
        Some(_) => Progress::Finished,
    }
}

/// What a program in the guest writes, even if it fails; none if the guest does not answer.
async fn ask(channel: &Channel, words: &[&str], within: Duration) -> Option<String> {
    let mut bytes = Vec::new();
    let mut append = |_: Stream, piece: &[u8]| {
        let room = MAX_ANSWER_BYTES - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
    };
    let run = channel.run(Program::new(words.iter().copied()), b"", &mut append);
    match tokio::time::timeout(within, run).await {
        // A program that is missing is an answer, too.
        Ok(Ok(_) | Err(ChannelError::NotStarted { .. })) => {
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

/// The unit of a line `12 name.service start running`.
fn unit(line: &str) -> Option<&str> {
    line.split_whitespace().nth(1)
}
