//! Whether this user may unpack operating systems: root, or a user with ranges of subordinate ids. The tools'
//! own messages about it are long and do not name the cause.

use std::fs;

use edgewright_model::outcome::{JobFailure, Phase};

use crate::failure;

/// How many subordinate user and group ids mmdebstrap and buildah need.
const IDS: u64 = 65_536;

/// Fails early, with what is missing, if bootstrap and containerfile steps cannot work for this user.
pub(crate) fn check() -> Result<(), JobFailure> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(());
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // With `subid:` another service has the ranges: then the tools find out by themselves.
    if read("/etc/nsswitch.conf").lines().any(|line| line.trim_start().starts_with("subid:")) {
        return Ok(());
    }
    let uid = uid.as_raw().to_string();
    let user = user_name(&read("/etc/passwd"), &uid).unwrap_or_else(|| uid.clone());
    let is_short = |path: &&str| granted(&read(path), [&user, &uid]) < IDS;
    let files: Vec<&str> = ["/etc/subuid", "/etc/subgid"].into_iter().filter(is_short).collect();
    if files.is_empty() { Ok(()) } else { Err(failure_of(&user, &files)) }
}

fn failure_of(user: &str, files: &[&str]) -> JobFailure {
    let message = format!(
        "cannot build as user `{user}`: no range of {IDS} subordinate ids in {}",
        files.join(" and ")
    );
    let hint = format!(
        "run edgewright as root, or add ranges: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`"
    );
    failure::infrastructure(Phase::Build, message, Some(&hint))
}

/// The name of a user id in the text of `/etc/passwd`.
fn user_name(passwd: &str, uid: &str) -> Option<String> {
    let mut users = passwd.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// The largest range of a user in the text of `/etc/subuid` or `/etc/subgid`.
fn granted(ranges: &str, user: [&str; 2]) -> u64 {
    let count = |line: &str| {
        let mut fields = line.trim().split(':');
        let is_ours = user.contains(&fields.next()?);
        is_ours.then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    ranges.lines().filter_map(count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_by_name_or_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(user_name(passwd, "1000").as_deref(), Some("alice"));
        assert_eq!(user_name(passwd, "1"), None);
        let cases = [
            ("", 0),
            ("bob:100000:65536\n", 0),
            ("alice:100000:65536\n", 65_536),
            ("1000:100000:65536\nalice:1:10\n", 65_536),
            ("alice:100000\nalice\n", 0),
        ];
        for (ranges, want) in cases {
            assert_eq!(granted(ranges, ["alice", "1000"]), want, "{ranges}");
        }
    }

    #[test]
    fn the_failure_names_the_files_and_the_command() {
        let failure = failure_of("alice", &["/etc/subuid", "/etc/subgid"]);
        let message =
            "cannot build as user `alice`: no range of 65536 subordinate ids in /etc/subuid and /etc/subgid";
        assert_eq!(failure.message, message);
        assert!(failure.hint.unwrap().contains("usermod --add-subuids"));
    }
}
