//! The demo's output: numbered steps, each with the time since the start.

use std::time::Instant;

/// Prints the steps.
#[derive(Debug)]
pub(crate) struct Story {
    started: Instant,
    step: u32,
}

impl Story {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), step: 0 }
    }

    /// Begins the next step.
    pub(crate) fn step(&mut self, what: &str) {
        self.step += 1;
        println!("\n[{}] {}. {what}", self.elapsed(), self.step);
    }

    /// A line with the time, for what takes a while.
    pub(crate) fn progress(&self, what: &str) {
        println!("[{}]   {what}", self.elapsed());
    }

    /// Minutes and seconds since the start.
    pub(crate) fn elapsed(&self) -> String {
        let seconds = self.started.elapsed().as_secs();
        format!("{:2}:{:02}", seconds / 60, seconds % 60)
    }
}

/// Lines of the current step.
pub(crate) fn say(what: &str) {
    for line in what.trim_end().lines() {
        println!("        {line}");
    }
}
