//! Why a unit failed: what `systemctl status` does not show.
//!
//! A unit whose process fails before its program starts (217/USER, 226/NAMESPACE, …) has its cause in the
//! journal as a message of the forked child, which `systemctl status` leaves out. Many of these causes are
//! capabilities that a machine of the container lane does not have: then the message names them.

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;

use super::super::Budget;
use crate::exec;

/// Maximum number of lines shown of each unit.
const MAX_CAUSES: usize = 3;
/// Maximum length of a line, in characters.
const MAX_CAUSE_LENGTH: usize = 300;
/// The priority of a warning; lower numbers are more severe.
const WARNING: u8 = 4;
const DENIED: &str = "Operation not permitted";
/// Capabilities by number.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];
/// Steps of the start of a process that need a capability, as systemd names them.
const STEPS: [(&str, &str); 9] = [
    ("step CGROUP ", "CAP_SYS_ADMIN"),
    ("step NAMESPACE ", "CAP_SYS_ADMIN"),
    ("step NETWORK ", "CAP_SYS_ADMIN"),
    ("step SECCOMP ", "CAP_SYS_ADMIN"),
    ("step NICE ", "CAP_SYS_NICE"),
    ("step SETSCHEDULER ", "CAP_SYS_NICE"),
    ("step LIMITS ", "CAP_SYS_RESOURCE"),
    ("step OOM_ADJUST ", "CAP_SYS_RESOURCE"),
    ("step STDIN ", "CAP_SYS_ADMIN"),
];

/// The causes of some units' failures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Causes {
    /// The first one with its unit, for the message.
    pub(super) headline: Option<String>,
    /// All of them, one a line.
    pub(super) lines: Vec<String>,
    /// What this machine does not give, as a sentence.
    pub(super) explanation: Option<String>,
}

impl Causes {
    /// The text after "UNIT failed".
    pub(super) fn suffix(&self) -> String {
        let parts = self.headline.iter().chain(&self.explanation);
        parts.fold(String::new(), |suffix, text| suffix + "; " + text)
    }
}

/// Reads the causes from the journal; nothing where there is none.
pub(super) fn of(units: &[&str], status: &[String], budget: Budget) -> Causes {
    let read = |unit: &&str| {
        let argv = ["journalctl", "--boot", "--no-pager", "--output=json", "--lines=200"];
        let own = [format!("UNIT={unit}"), "+".to_owned(), format!("_SYSTEMD_UNIT={unit}")];
        let argv: Vec<String> = argv.iter().map(ToString::to_string).chain(own).collect();
        let lines = exec::run(&argv, budget.one_look()).map(|ended| causes(&ended.text()));
        ((*unit).to_owned(), lines.unwrap_or_default())
    };
    let found: Vec<(String, Vec<String>)> = units.iter().map(read).collect();
    let missing = missing_capabilities(&fs::read_to_string("/proc/1/status").unwrap_or_default());
    summary(&found, status, &missing)
}

#[derive(Deserialize)]
struct Entry {
    /// A text, or a list of bytes if it is not UTF-8.
    #[serde(rename = "MESSAGE")]
    message: serde_json::Value,
    #[serde(rename = "_PID", default)]
    process: String,
    #[serde(rename = "PRIORITY", default)]
    priority: String,
}

/// The messages of a unit's own processes that are warnings or worse, or that something was not permitted;
/// the newest start only repeats them.
fn causes(json: &str) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for entry in json.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
        let Some(text) = entry.message.as_str() else { continue };
        // Process 1 only reports that the unit failed.
        if entry.process == "1" {
            continue;
        }
        let is_severe = entry.priority.parse().is_ok_and(|priority: u8| priority <= WARNING);
        if is_severe || text.contains(DENIED) {
            let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_CAUSE_LENGTH).collect();
            if !causes.contains(&text) {
                causes.push(text);
            }
        }
    }
    // The first one that was not permitted explains the others.
    causes.sort_by_key(|text| !text.contains(DENIED));
    causes.truncate(MAX_CAUSES);
    causes
}

fn summary(found: &[(String, Vec<String>)], status: &[String], missing: &[&'static str]) -> Causes {
    // systemd's own messages name the unit already.
    let line = |unit: &str, text: &str| {
        let text = text.strip_prefix(&format!("{unit}: ")).unwrap_or(text);
        format!("{unit}: {text}")
    };
    let lines: Vec<String> =
        found.iter().flat_map(|(unit, texts)| texts.iter().map(|text| line(unit, text))).collect();
    let texts: Vec<&str> = lines.iter().chain(status).map(String::as_str).collect();
    Causes { headline: lines.first().cloned(), explanation: explain(&texts, missing), lines }
}

/// The sentence on capabilities; none if this machine has all, or nothing was denied.
fn explain(texts: &[&str], missing: &[&'static str]) -> Option<String> {
    if missing.is_empty() {
        return None;
    }
    let denied = || texts.iter().filter(|text| text.contains(DENIED));
    let named = denied().flat_map(|text| text.split(|c: char| !(c.is_ascii_uppercase() || c == '_')));
    let steps =
        denied().flat_map(|text| STEPS.iter().filter(|(step, _)| text.contains(step)).map(|(_, cap)| *cap));
    let mut wanted: BTreeSet<&str> = named.filter(|word| missing.contains(word)).collect();
    if wanted.is_empty() {
        wanted = steps.filter(|name| missing.contains(name)).collect();
    }
    let what = if !wanted.is_empty() {
        let capabilities: Vec<&str> = wanted.into_iter().collect();
        format!("does not give {}", capabilities.join(", "))
    } else if denied().next().is_some() && missing.contains(&"CAP_SYS_ADMIN") {
        "gives few capabilities (no CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_TIME, …)".to_owned()
    } else {
        return None;
    };
    Some(format!("the lane container {what}: name the unit in `allow_failed`, or test it with `lanes: [vm]`"))
}

/// The capabilities that no process of the machine can have, from `/proc/1/status`.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let bound = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let Some(bound) = bound.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else {
        return Vec::new();
    };
    CAPABILITIES.iter().enumerate().filter(|(bit, _)| bound >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Debian trixie's systemd-resolved in a container, shortened to the fields that are read.
    const RESOLVED: &str = r#"{"MESSAGE":"Starting systemd-resolved.service - Network Name Resolution...","_PID":"1","PRIORITY":"6"}
{"MESSAGE":"systemd-resolved.service: Failed to keep CAP_SYS_ADMIN: Operation not permitted","_PID":"62","PRIORITY":"3"}
{"MESSAGE":"systemd-resolved.service: Failed at step USER spawning /usr/lib/systemd/systemd-resolved: Operation not permitted","_PID":"62","PRIORITY":"3"}
{"MESSAGE":"systemd-resolved.service: Main process exited, code=exited, status=217/USER","_PID":"1","PRIORITY":"5"}
{"MESSAGE":"systemd-resolved.service: Failed to keep CAP_SYS_ADMIN: Operation not permitted","_PID":"70","PRIORITY":"3"}
{"MESSAGE":[1,2],"_PID":"70","PRIORITY":"3"}
not json
"#;
    /// podman's default set.
    const BOUND: &str = "CapPrm:\t00000000800405fb\nCapBnd:\t00000000800405fb\n";

    #[test]
    fn the_forked_childs_cause_is_found_and_the_capability_explained() {
        let found = [("systemd-resolved.service".to_owned(), causes(RESOLVED))];
        let missing = missing_capabilities(BOUND);
        let causes = summary(&found, &[], &missing);
        assert_eq!(
            causes.suffix(),
            "; systemd-resolved.service: Failed to keep CAP_SYS_ADMIN: Operation not permitted; \
             the lane container does not give CAP_SYS_ADMIN: name the unit in `allow_failed`, or test it with \
             `lanes: [vm]`"
        );
        assert_eq!(causes.lines.len(), 2, "{:?}", causes.lines);
    }

    #[test]
    fn only_what_was_denied_is_explained_by_capabilities() {
        let missing = missing_capabilities(BOUND);
        assert!(missing.contains(&"CAP_SYS_ADMIN") && !missing.contains(&"CAP_CHOWN"), "{missing:?}");
        let of = |texts: &[&str]| explain(texts, &missing).unwrap_or_default();
        for (text, expected) in [
            ("x: Failed at step NAMESPACE spawning /bin/x: Operation not permitted", "CAP_SYS_ADMIN:"),
            ("adjtimex(0x8001) failed : Operation not permitted", "few capabilities"),
            ("needs CAP_SYS_TIME: Operation not permitted", "CAP_SYS_TIME:"),
        ] {
            assert!(of(&[text]).contains(expected), "{text}: {}", of(&[text]));
        }
        assert_eq!(of(&["x: exit status 1", "CAP_SYS_ADMIN is nice"]), "");
        assert_eq!(of(&["chown: CAP_CHOWN: x"]), "");
        assert_eq!(explain(&["Operation not permitted"], &[]), None, "a machine with all capabilities");
        assert!(missing_capabilities("CapBnd:\tx").is_empty() && missing_capabilities("").is_empty());
    }
}
