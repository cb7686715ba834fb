//! Priorities of jobs, so that the server that started them stays responsive.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use edgewright_process::which;

/// The `oom_score_adj` of a job, from -1000 to 1000: when memory runs out, the kernel kills jobs before the
/// server.
const OOM_SCORE_ADJ: &str = "500";
/// The lowest I/O priority of the best-effort class: the idle class might never be served.
const DISK: [&str; 5] = ["-t", "-c", "2", "-n", "7"];

/// Lowers the priority of this process and all that it starts: CPU by `nice` (0 to 19), and memory. Ignores
/// what the system does not permit.
pub fn lower_priority(nice: u8) {
    if nice > 0
        && let Err(error) = rustix::process::nice(nice.min(19).into())
    {
        tracing::debug!(%error, "cannot lower the job's CPU priority");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ) {
        tracing::debug!(%error, "cannot raise the job's oom_score_adj");
    }
}

/// The program and arguments that start a job with a low I/O priority, if the host has `ionice`.
pub(crate) fn with_io_priority(program: &Path, nice: u8) -> (OsString, Vec<OsString>) {
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
    fn a_job_at_normal_priority_is_started_directly() {
        assert_eq!(with_io_priority(Path::new("/bin/true"), 0), ("/bin/true".into(), Vec::new()));
        let (program, arguments) = with_io_priority(Path::new("/bin/true"), 10);
        let last = arguments.last().unwrap_or(&program);
        assert_eq!(last, "/bin/true");
    }
}
