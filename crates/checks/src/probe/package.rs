//! A package is installed, according to the image's own package manager.

use std::io::ErrorKind;

use super::{Budget, Finding};
use crate::exec::{self, Ended};

/// The prefix of dpkg's line for a package that is installed and configured.
const INSTALLED: &str = "ii ";

pub(crate) fn look(name: &str, version: Option<&str>, budget: Budget) -> Finding {
    if name.is_empty()
        || name.starts_with('-')
        || name.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Finding::check(format!("invalid package name `{name}`"));
    }
    let dpkg = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}|${Version}\\n", "--", name];
    let rpm =
        ["rpm", "--query", "--queryformat", "ii |%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n", "--", name];
    for argv in [dpkg.as_slice(), rpm.as_slice()] {
        let words: Vec<String> = argv.iter().map(ToString::to_string).collect();
        return match exec::run(&words, budget.one_look()) {
            Ok(ended) => judge(name, version, argv[0], &ended),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => Finding::not_started(argv[0], &error),
        };
    }
    Finding::image("the image has neither dpkg nor rpm", Vec::new())
}

fn judge(name: &str, version: Option<&str>, manager: &str, ended: &Ended) -> Finding {
    if ended.status.is_none() {
        return Finding::image(format!("`{manager}` did not respond in time"), ended.tail.clone());
    }
    let text = if ended.code() == Some(0) { ended.text() } else { String::new() };
    let found: Vec<&str> = versions(&text);
    let is_match = |found: &&str| version.is_none_or(|want| matches(found, want));
    if found.iter().any(is_match) {
        return Finding::Holds;
    }
    match (found.as_slice(), version) {
        ([_, ..], Some(want)) => Finding::image(
            format!("package {name} has version {}, expected {want}", found.join(" and ")),
            Vec::new(),
        ),
        _ => Finding::image(format!("package {name} is not installed"), ended.tail.clone()),
    }
}

/// The installed versions, one per architecture.
fn versions(text: &str) -> Vec<&str> {
    let line = |line: &'_ str| line.strip_prefix(INSTALLED).is_some();
    text.lines()
        .filter(|it| line(it))
        .filter_map(|it| it.split_once('|'))
        .map(|(_, version)| version)
        .collect()
}

/// Whether a version matches; a `*` at the end matches any suffix.
fn matches(found: &str, want: &str) -> bool {
    want.strip_suffix('*').map_or(found == want, |start| found.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_matched() {
        let cases = [
            ("ii |1.2-3\n", None, true),
            ("ii |1.2-3\n", Some("1.2-3"), true),
            ("ii |1:1.2-3\nii |1:1.2-3\n", Some("1:1.*"), true),
            ("ii |1.2-3\n", Some("1.2"), false),
            ("rc |1.2-3\n", None, false),
            ("un |\n", None, false),
            ("", None, false),
        ];
        for (text, want, holds) in cases {
            let found = versions(text);
            assert_eq!(
                found.iter().any(|it| want.is_none_or(|want| matches(it, want))),
                holds,
                "{text} {want:?}"
            );
        }
    }

    #[test]
    fn packages_of_this_machine_are_found() {
        let budget = Budget::new(std::time::Duration::from_mins(1), 1.0);
        if std::path::Path::new("/usr/bin/dpkg-query").exists() {
            assert_eq!(look("dpkg", None, budget), Finding::Holds);
            assert_eq!(look("dpkg", Some("1.*"), budget), Finding::Holds);
            for (name, version, want) in
                [("dpkg", Some("0"), "expected 0"), ("no-such-package", None, "is not installed")]
            {
                let found = look(name, version, budget);
                assert!(matches!(&found, Finding::Misses(miss) if miss.message.contains(want)), "{found:?}");
            }
        }
        assert!(matches!(look("-x", None, budget), Finding::Misses(miss) if miss.is_final));
    }
}
