//! Wall and CPU seconds of a command with all that it waits for.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::command::Run;

/// Seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

/// Runs a command line with its output in `log`, by bash's `time`.
pub(super) fn cost(command: &str, environment: &[(&str, &str)], log: &Path) -> anyhow::Result<Cost> {
    let script = format!("TIMEFORMAT='%R %U %S'; time {{ {command} >>\"$LOG\" 2>&1; }}");
    // `time` reports on standard error, which joins standard output here.
    let mut run = Run::new("bash").args(["-c", &format!("exec 2>&1; {script}")]).env("LOG", log);
    for (name, value) in environment {
        run = run.env(name, value);
    }
    let text = run.output().with_context(|| format!("see {}", log.display()))?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [wall, user, system] => Ok(Cost { wall, cpu: user + system }),
        _ => bail!("unexpected output of bash's `time`: {text:?}"),
    }
}
