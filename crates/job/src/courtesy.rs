//! A job gives way: the server that started it answers others meanwhile.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use edgewright_process::which;

/// How much rather the kernel ends a job than the server where memory is short: from -1000 to 1000.
const SOONER: &str = "500";
/// The lowest priority at the disk of those that are not idle: idle ones may wait for ever.
const DISK: [&str; 5] = ["-t", "-c", "2", "-n", "7"];

/// Gives way, in this process and all that it starts: processor by `nice` (0 to 19), and memory. What the system does not
/// permit stays as it is.
pub fn give_way(nice: u8) {
    if nice > 0
        && let Err(error) = rustix::process::nice(nice.min(19).into())
    {
        tracing::debug!(%error, "the job's priority stays as it is");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", SOONER) {
        tracing::debug!(%error, "the kernel ends this job no sooner than others");
    }
}

/// The program and arguments that start a job with a low priority at the disk, where the host has `ionice`.
pub(crate) fn gently(program: &Path, nice: u8) -> (OsString, Vec<OsString>) {
    match which("ionice") {
        Some(ionice) if nice > 0 => {
            let arguments = DISK.iter().map(OsStr::new).chain([program.as_os_str()]);
            (ionice.into(), arguments.map(OsStr::to_owned).collect())
        }
        _ => (program.into(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_need_not_give_way_is_started_as_it_is() {
        assert_eq!(gently(Path::new("/bin/true"), 0), ("/bin/true".into(), Vec::new()));
        let (program, arguments) = gently(Path::new("/bin/true"), 10);
        let last = arguments.last().unwrap_or(&program);
        assert_eq!(last, "/bin/true");
    }
}
