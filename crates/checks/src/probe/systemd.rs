//! The service manager's state, as `systemctl` reports it.
//!
//! While a machine boots, `systemctl` may not respond yet; that counts as a miss until the time limit is
//! over.

mod cause;

use std::collections::BTreeMap;

use super::init::{self, Absent};
use super::{Budget, Finding};
use crate::exec::{self, Ended, last_lines};
use cause::Causes;

/// Maximum number of failed units whose status is shown.
const SHOWN_UNITS: usize = 5;
const LIST_JOBS: [&str; 4] = ["list-jobs", "--no-legend", "--no-pager", "--plain"];

pub(crate) fn look_at_state(allow_failed: &[String], budget: Budget) -> Finding {
    let ended = match systemctl(&["is-system-running"], budget) {
        Ok(ended) => ended,
        Err(finding) => return finding,
    };
    match ended.text().trim() {
        "running" => check_restarting_units(allow_failed, budget),
        "degraded" => check_failed_units(allow_failed, budget),
        "" => never_responds(budget).unwrap_or_else(|| {
            let message = format!("the service manager does not respond: {}", ended.tail.join(" ").trim());
            Finding::image(message, ended.tail.clone())
        }),
        "offline" => never_responds(budget).unwrap_or_else(|| unexpected("offline", Vec::new())),
        // `starting`, `initializing`, `maintenance`, `stopping`.
        state => {
            let jobs = systemctl(&LIST_JOBS, budget);
            let jobs = jobs.map_or_else(|_| None, |jobs| Some(jobs.text()));
            let finding = unexpected(state, last_lines(jobs.as_deref().unwrap_or_default()));
            // The emergency shell waits for a person.
            let is_stuck = state == "maintenance" && jobs.is_some_and(|jobs| !has_jobs(&jobs));
            if is_stuck { finding.for_good() } else { finding }
        }
    }
}

fn unexpected(state: &str, output: Vec<String>) -> Finding {
    Finding::image(format!("the system is `{}`, expected `running`", short(state)), output)
}

/// The finding where the service manager will never respond, because process 1 is another program.
fn never_responds(budget: Budget) -> Option<Finding> {
    Some(match init::absent(budget.scale())? {
        Absent::NoInit(why) => Finding::no_init(format!(
            "{why}, and no service manager runs; start an init as root (`/sbin/init`), or remove this check"
        )),
        Absent::OtherInit(name) => {
            let message = format!("the init is `{name}`, not systemd: use checks that do not ask systemd");
            Finding::image(message, Vec::new()).for_good()
        }
    })
}

/// A unit that crashes and is restarted is `activating` in between: the system counts as `running` although
/// the unit fails.
fn check_restarting_units(allow_failed: &[String], budget: Budget) -> Finding {
    let list = [
        "list-units",
        "--state=auto-restart,auto-restart-queued",
        "--plain",
        "--full",
        "--no-legend",
        "--no-pager",
    ];
    let restarting = match systemctl(&list, budget) {
        Ok(ended) => failed_units(&ended.text()),
        Err(finding) => return finding,
    };
    let refused: Vec<&str> =
        restarting.iter().map(String::as_str).filter(|unit| !is_allowed(unit, allow_failed)).collect();
    if refused.is_empty() {
        return Finding::Holds;
    }
    let (causes, status) = status(&refused, budget);
    let names = refused.join(", ");
    let causes = causes.suffix();
    let message = format!("the system is not stable: {names} ended and is waiting for a restart{causes}");
    Finding::image(message, status)
}

fn check_failed_units(allow_failed: &[String], budget: Budget) -> Finding {
    let list = ["list-units", "--state=failed", "--all", "--plain", "--full", "--no-legend", "--no-pager"];
    let failed = match systemctl(&list, budget) {
        Ok(ended) => failed_units(&ended.text()),
        Err(finding) => return finding,
    };
    if failed.is_empty() {
        // A unit recovered between the two questions: ask again.
        return Finding::image("the system is `degraded`, but no unit is failed any more", Vec::new());
    }
    let refused: Vec<&str> =
        failed.iter().map(String::as_str).filter(|unit| !is_allowed(unit, allow_failed)).collect();
    if refused.is_empty() {
        return Finding::Holds;
    }
    let (causes, status) = status(&refused, budget);
    let message = format!("the system is degraded: {} failed{}", refused.join(", "), causes.suffix());
    let finding = Finding::image(message, status);
    if is_settled(&refused, budget) { finding.for_good() } else { finding }
}

/// Whether failed units stay failed: no job is queued, no unit is between two states, and no timer, path or
/// socket starts one of them again. If in doubt, they may recover.
fn is_settled(failed: &[&str], budget: Budget) -> bool {
    let answer = |arguments: &[&str]| {
        let ended = systemctl(arguments, budget).ok()?;
        (ended.code() == Some(0)).then(|| ended.text())
    };
    let changing =
        ["list-units", "--state=activating,deactivating,reloading,maintenance", "--plain", "--full"];
    let mut triggers = vec!["show", "--property=TriggeredBy", "--property=ExecMainStatus", "--"];
    triggers.extend(failed);
    answer(&LIST_JOBS).is_some_and(|jobs| !has_jobs(&jobs))
        && answer(&[&changing[..], &["--no-legend", "--no-pager"]].concat())
            .is_some_and(|units| failed_units(&units).is_empty())
        && answer(&triggers).is_some_and(|shown| !has_triggers(&shown))
}

/// Whether a list of jobs has any: every line of one begins with its number.
fn has_jobs(list: &str) -> bool {
    list.lines().any(|line| line.split_whitespace().next().is_some_and(|word| word.parse::<u64>().is_ok()))
}

/// Whether something starts one of the units again and may get further: a process that systemd cannot set up
/// (217/USER, 226/NAMESPACE, …) fails in the same way each time. The units are separated by empty lines.
fn has_triggers(shown: &str) -> bool {
    /// The exit statuses of systemd itself, before it executes the unit's program.
    const OF_SYSTEMD: std::ops::RangeInclusive<u8> = 200..=245;
    shown.split("\n\n").any(|unit| {
        let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let is_set_up = value("ExecMainStatus=")
            .and_then(|status| status.parse().ok())
            .is_none_or(|status: u8| !OF_SYSTEMD.contains(&status));
        is_set_up && value("TriggeredBy=").is_some_and(|units| !units.is_empty())
    })
}

pub(crate) fn look_at_unit(name: &str, budget: Budget) -> Finding {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Finding::check(format!("invalid unit name `{name}`"));
    }
    let show = [
        "show",
        "--property=LoadState",
        "--property=ActiveState",
        "--property=SubState",
        "--property=Result",
        "--",
        name,
    ];
    let ended = match systemctl(&show, budget) {
        Ok(ended) => ended,
        Err(finding) => return finding,
    };
    match judge_unit(name, &ended.text()) {
        None => Finding::Holds,
        Some(message) if ended.text().trim().is_empty() => {
            never_responds(budget).unwrap_or_else(|| Finding::image(message, ended.tail))
        }
        Some(message) => {
            let has = |line: &str| ended.text().lines().any(|of| of == line);
            let (causes, status) = status(&[name], budget);
            let finding = Finding::image(message + &causes.suffix(), status);
            let is_lost =
                has("ActiveState=failed") || NEVER_LOADED.iter().any(|state| has(state)) && is_booted(budget);
            if is_lost && is_settled(&[name], budget) { finding.for_good() } else { finding }
        }
    }
}

/// States of a unit that no job changes. Before the end of the boot something may still add the unit.
const NEVER_LOADED: [&str; 4] =
    ["LoadState=not-found", "LoadState=masked", "LoadState=bad-setting", "LoadState=error"];

/// Whether the boot is over.
fn is_booted(budget: Budget) -> bool {
    systemctl(&["is-system-running"], budget)
        .is_ok_and(|ended| matches!(ended.text().trim(), "running" | "degraded"))
}

/// What is wrong with a unit, by the output of `systemctl show`.
fn judge_unit(name: &str, shown: &str) -> Option<String> {
    let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let get = |key: &str| properties.get(key).copied().unwrap_or_default();
    let (load, active, sub, result) = (get("LoadState"), get("ActiveState"), get("SubState"), get("Result"));
    match (load, active) {
        ("", "") => Some("the service manager does not respond yet".to_owned()),
        ("not-found", _) => Some(format!("unit {name} not found: the image has no such unit")),
        (_, "active" | "reloading" | "refreshing") => None,
        ("masked", _) => Some(format!("unit {name} is masked")),
        ("loaded", "inactive") if result == "success" || result.is_empty() => {
            Some(format!("unit {name} is inactive ({}), expected active", short(sub)))
        }
        ("loaded", _) => Some(format!(
            "unit {name} is {} ({}, result {}), expected active",
            short(active),
            short(sub),
            short(result)
        )),
        _ => Some(format!("unit {name} cannot be loaded: {}", short(load))),
    }
}

/// The names in a list of units, one unit per line, possibly after a coloured dot.
fn failed_units(list: &str) -> Vec<String> {
    let is_name = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_alphanumeric());
    list.lines().filter_map(|line| line.split_whitespace().find(is_name)).map(str::to_owned).collect()
}

fn is_allowed(unit: &str, allow_failed: &[String]) -> bool {
    allow_failed.iter().any(|allowed| {
        allowed == unit || (!allowed.contains('.') && unit.strip_suffix(".service") == Some(allowed))
    })
}

/// The status of some units with their last journal lines, and the causes that it leaves out, for messages.
fn status(units: &[&str], budget: Budget) -> (Causes, Vec<String>) {
    let shown = &units[..units.len().min(SHOWN_UNITS)];
    let mut arguments = vec!["status", "--no-pager", "--full", "--lines=8", "--"];
    arguments.extend(shown);
    let mut lines = systemctl(&arguments, budget).map(|ended| last_lines(&ended.text())).unwrap_or_default();
    let causes = cause::of(shown, &lines, budget);
    let is_shown = |cause: &&String| {
        let text = cause.split_once(": ").map_or(cause.as_str(), |(_, text)| text);
        lines.iter().any(|line| line.contains(text))
    };
    let more: Vec<String> = causes.lines.iter().filter(|cause| !is_shown(cause)).cloned().collect();
    lines.extend(more);
    (causes, lines)
}

fn without_systemctl(error: &std::io::Error, budget: Budget) -> Finding {
    let finding = Finding::not_started("systemctl", error);
    if error.kind() != std::io::ErrorKind::NotFound {
        return finding;
    }
    never_responds(budget).unwrap_or(finding)
}

fn systemctl(arguments: &[&str], budget: Budget) -> Result<Ended, Finding> {
    let argv: Vec<String> = ["systemctl"].iter().chain(arguments).map(ToString::to_string).collect();
    let ended = exec::run(&argv, budget.one_look()).map_err(|error| without_systemctl(&error, budget))?;
    if ended.status.is_some() {
        Ok(ended)
    } else {
        let message = format!("`systemctl {}` did not respond in time", arguments[0]);
        Err(Finding::image(message, ended.tail))
    }
}

fn short(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_judged_by_systemctl_show() {
        let shown = |load: &str, active: &str, sub: &str, result: &str| {
            format!("Result={result}\nLoadState={load}\nActiveState={active}\nSubState={sub}\n")
        };
        let cases = [
            (shown("loaded", "active", "running", "success"), None),
            (shown("loaded", "reloading", "reload", "success"), None),
            ("LoadState=loaded\nActiveState=active\nSubState=mounted\n".to_owned(), None),
            (
                shown("loaded", "inactive", "dead", "success"),
                Some("unit a.service is inactive (dead), expected active"),
            ),
            (
                shown("loaded", "failed", "failed", "exit-code"),
                Some("unit a.service is failed (failed, result exit-code), expected active"),
            ),
            (
                shown("loaded", "activating", "auto-restart", "exit-code"),
                Some("unit a.service is activating (auto-restart, result exit-code), expected active"),
            ),
            (
                shown("not-found", "inactive", "dead", "success"),
                Some("unit a.service not found: the image has no such unit"),
            ),
            (shown("masked", "inactive", "dead", "success"), Some("unit a.service is masked")),
            (
                shown("bad-setting", "inactive", "dead", ""),
                Some("unit a.service cannot be loaded: bad-setting"),
            ),
            (String::new(), Some("the service manager does not respond yet")),
        ];
        for (text, want) in cases {
            assert_eq!(judge_unit("a.service", &text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn failed_units_of_every_systemd_are_read() {
        // systemd 252 and 257 print the first form with --plain, 245 the second.
        let list = "bad.service       loaded failed failed A service that fails\n\
                    ● dev-sda1.device loaded failed failed Disk\n\
                    * getty@tty1.service loaded failed failed Getty on tty1\n\n";
        assert_eq!(failed_units(list), ["bad.service", "dev-sda1.device", "getty@tty1.service"]);
        assert!(failed_units("").is_empty());
        assert!(failed_units("Failed to connect to bus").is_empty());
    }

    #[test]
    fn jobs_and_triggers_are_read() {
        assert!(has_jobs("123 a.service start waiting\n"));
        assert!(!has_jobs("") && !has_jobs("No jobs running.\n"));
        assert!(has_triggers("TriggeredBy=\n\nTriggeredBy=a.timer\n"));
        assert!(has_triggers("ExecMainStatus=217\n\nExecMainStatus=1\nTriggeredBy=a.timer\n"));
        assert!(!has_triggers("TriggeredBy=\n"));
        assert!(!has_triggers("TriggeredBy=a.socket\nExecMainStatus=217\n"), "it fails each time");
    }

    #[test]
    fn failures_are_allowed_by_name_only() {
        let allowed = ["gpu".to_owned(), "disk.mount".to_owned()];
        for (unit, want) in
            [("gpu.service", true), ("disk.mount", true), ("gpu.mount", false), ("x.service", false)]
        {
            assert_eq!(is_allowed(unit, &allowed), want, "{unit}");
        }
    }

    #[test]
    fn an_invalid_unit_name_is_a_failure_of_the_check() {
        let budget = Budget::new(std::time::Duration::from_secs(1), 1.0);
        for bad in ["", "a b.service", "a\n.service"] {
            assert!(matches!(look_at_unit(bad, budget), Finding::Misses(miss) if miss.is_final), "{bad:?}");
        }
    }
}
