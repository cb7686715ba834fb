//! Process 1 of the machine: whether it is, or may still become, the service manager that a check asks.
//!
//! A command that is no init is noticed at once, instead of at the end of the check's time limit. A shell or
//! another wrapper gets a few seconds: it may prepare the machine and then execute its init.

use std::fs;
use std::time::Duration;

/// The age from which process 1 counts as what it is: the container engine executes the image's command
/// shortly after it reports the start.
const SETTLED: Duration = Duration::from_secs(1);
/// The age from which a wrapper that is still process 1 counts as no init, and an init that is not systemd
/// counts as another one.
const WRAPPER_SETTLED: Duration = Duration::from_secs(5);
/// Clock ticks of `/proc/1/stat`, in a second: the same on every architecture with Debian or Fedora.
const TICKS: u32 = 100;

/// The names of inits, as the kernel reports them of process 1.
const INITS: [&str; 10] = [
    "init",
    "systemd",
    "openrc-init",
    "openrc",
    "runit",
    "runit-init",
    "s6-svscan",
    "dinit",
    "finit",
    "shepherd",
];
/// Programs that run scripts, which may end with the execution of an init.
const WRAPPERS: [&str; 13] =
    ["sh", "bash", "dash", "ash", "ksh", "zsh", "fish", "busybox", "perl", "env", "sudo", "su", "catatonit"];

/// Why no service manager will respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Absent {
    /// Process 1 is no init: why, in a few words.
    NoInit(String),
    /// Process 1 is another init: its name.
    OtherInit(String),
}

/// What is known of process 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct First<'a> {
    name: &'a str,
    /// Its user, as a number.
    user: u32,
    /// None where it cannot be read.
    age: Option<Duration>,
}

/// Why systemd will not respond on this machine, if that is certain. `scale` slows the time down.
pub(super) fn absent(scale: f64) -> Option<Absent> {
    let status = fs::read_to_string("/proc/1/status").ok()?;
    let stat = fs::read_to_string("/proc/1/stat").ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    judge(&read(&status, &stat, &uptime)?, scale)
}

fn read<'a>(status: &'a str, stat: &str, uptime: &str) -> Option<First<'a>> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let name = field("Name:")?;
    let user = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    Some(First { name, user, age: age(stat, uptime) })
}

fn age(stat: &str, uptime: &str) -> Option<Duration> {
    // The name in parentheses may have spaces; the start is the 22nd field, the 20th after the name.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let up = Duration::try_from_secs_f64(uptime.split_whitespace().next()?.parse().ok()?).ok()?;
    up.checked_sub(Duration::from_millis(ticks.saturating_mul(1000) / u64::from(TICKS)))
}

fn judge(first: &First<'_>, scale: f64) -> Option<Absent> {
    let First { name, user, age } = *first;
    let is_older = |than: Duration| age.is_some_and(|age| age >= than.mul_f64(scale));
    if name == "systemd" && user == 0 {
        return None;
    }
    if user != 0 {
        // It can neither be the system's manager nor execute one.
        return is_older(SETTLED)
            .then(|| Absent::NoInit(format!("process 1 is `{name}`, without root's rights")));
    }
    if INITS.contains(&name) {
        return is_older(WRAPPER_SETTLED).then(|| Absent::OtherInit(name.to_owned()));
    }
    let is_wrapper = WRAPPERS.contains(&name) || name.starts_with("python") || name.contains('.');
    let settled = if is_wrapper { WRAPPER_SETTLED } else { SETTLED };
    is_older(settled).then(|| Absent::NoInit(format!("process 1 is `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_1_is_read() {
        let status = "Name:\tentry point\nUmask:\t0022\nUid:\t0\t1\t1\t1\n";
        let stat = "1 (entry point) x) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 100 200\n";
        let first = read(status, stat, "130.45 99.0\n").unwrap();
        assert_eq!(first, First { name: "entry point", user: 1, age: Some(Duration::from_secs(7)) });
        assert_eq!(age(stat, "1.0 1.0"), None, "a start in the future");
        assert_eq!((read("", stat, "1 1"), age("", "1 1"), age(stat, "NaN")), (None, None, None));
    }

    #[test]
    fn only_a_process_that_cannot_become_an_init_is_none() {
        let no_init = |text: &str| Some(Absent::NoInit(text.to_owned()));
        let cases = [
            ("systemd", 0, 900, None),
            ("systemd", 7, 2, no_init("process 1 is `systemd`, without root's rights")),
            ("sleep", 0, 0, None),
            ("sleep", 0, 2, no_init("process 1 is `sleep`")),
            ("sleep", 1, 2, no_init("process 1 is `sleep`, without root's rights")),
            // It may execute an init.
            ("sh", 0, 2, None),
            ("entrypoint.sh", 0, 2, None),
            ("python3", 0, 2, None),
            ("sh", 0, 6, no_init("process 1 is `sh`")),
            ("init", 0, 2, None),
            ("init", 0, 6, Some(Absent::OtherInit("init".to_owned()))),
            ("openrc-init", 0, 6, Some(Absent::OtherInit("openrc-init".to_owned()))),
        ];
        for (name, user, seconds, want) in cases {
            let first = First { name, user, age: Some(Duration::from_secs(seconds)) };
            assert_eq!(judge(&first, 1.0), want, "{name} of {user} after {seconds} s");
            assert_eq!(judge(&First { age: None, ..first }, 1.0), None, "{name}: no one knows since when");
        }
        let slow = First { name: "sleep", user: 0, age: Some(Duration::from_secs(2)) };
        assert_eq!(judge(&slow, 4.0), None, "an emulated processor");
    }
}
