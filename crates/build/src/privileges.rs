//! Whether this user may unpack operating systems: root, or a user with ranges of subordinate ids. The tools'
//! own messages about it are long and do not name the cause.

use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_process::subordinate::{self, User};

use crate::failure;

/// How many subordinate user and group ids mmdebstrap and buildah need.
const IDS: u32 = 65_536;

/// Fails early, with what is missing, if bootstrap and containerfile steps cannot work for this user.
pub(crate) fn check() -> Result<(), JobFailure> {
    let user = User::current();
    // Where another service has the ranges, the tools find out by themselves.
    if user.id == 0 || subordinate::are_elsewhere() {
        return Ok(());
    }
    let is_short = |path: &&str| user.largest_range(path).is_none_or(|range| range.count < IDS);
    let files: Vec<&str> = ["/etc/subuid", "/etc/subgid"].into_iter().filter(is_short).collect();
    if files.is_empty() { Ok(()) } else { Err(failure_of(&user.name, &files)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_names_the_files_and_the_command() {
        let failure = failure_of("alice", &["/etc/subuid", "/etc/subgid"]);
        let message =
            "cannot build as user `alice`: no range of 65536 subordinate ids in /etc/subuid and /etc/subgid";
        assert_eq!(failure.message, message);
        assert!(failure.hint.unwrap().contains("usermod --add-subuids"));
    }
}
