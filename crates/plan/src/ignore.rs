//! `.containerignore`, `.dockerignore`: which entries are not part of a build context.
//!
//! The rules are Docker's, which podman and buildah share: one pattern per line, relative to the context's
//! top (a leading `/` changes nothing); a pattern that matches a folder matches everything below it; `!`
//! includes entries again; the last matching line wins; empty lines and lines that start with `#` are
//! ignored.

use edgewright_model::glob::{Glob, InvalidGlob};

/// Compiled ignore rules. Without rules nothing is ignored.
#[derive(Debug, Clone, Default)]
pub struct Ignore(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    glob: Glob,
    /// Whether it includes entries again (`!`).
    back: bool,
}

/// A line that is not a valid rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid ignore rule")]
pub struct InvalidRule {
    /// Its line, from 1.
    pub line: u32,
    /// The cause.
    #[source]
    pub source: InvalidGlob,
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (line, rule) in (1..).zip(text.lines()) {
            if rule.starts_with('#') {
                continue;
            }
            let rule = rule.trim();
            let (back, pattern) = match rule.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, rule),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            let glob = Glob::new(&pattern).map_err(|source| InvalidRule { line, source })?;
            rules.push(Rule { glob, back });
        }
        Ok(Self(rules))
    }

    /// Whether a file or link of the context is ignored.
    pub fn ignores(&self, path: &str) -> bool {
        let with_parents = || {
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            parents.chain([path])
        };
        let last = self.0.iter().rev().find(|rule| with_parents().any(|part| rule.glob.matches(part)));
        last.is_some_and(|rule| !rule.back)
    }
}

/// The pattern without empty, `.` and `..` components; may be empty.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ignore file, what stays out, what stays in. The first rows are the examples of Docker's reference on
    /// `.dockerignore`.
    #[test]
    fn rules_are_dockers() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "# comment\n*/temp*",
                &["a/temp", "a/temporary.txt", "a/temp/x"],
                &["temp", "a/b/temp", "# comment"],
            ),
            ("*/*/temp*", &["a/b/temporary.txt"], &["a/temp"]),
            ("temp?", &["tempa", "tempb", "tempa/x"], &["temp", "tempab"]),
            ("**/*.go", &["a.go", "x/y/a.go"], &["a.gox"]),
            ("*.md\n!README.md", &["a.md"], &["README.md", "x/a.md"]),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                &["a.md", "README-secret.md"],
                &["README.md", "README-x.md"],
            ),
            ("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README.md", "README-secret.md"]),
            ("*\n!src/**", &["a", "a/b"], &["src/a", "src/b/c"]),
            ("*\n!src", &["a"], &["src/a"]),
            ("src\n!src/keep", &["src/a", "src/x/keep"], &["src/keep", "src/keep/deep"]),
            ("/a/", &["a/b", "a"], &["b/a"]),
            ("./a//b/../c", &["a/c"], &["a/b"]),
            ("  x  \n\n \n! y ", &["x"], &["y", " "]),
            ("\u{feff}x\r\ny\r\n", &["x", "y"], &["xy"]),
            (" # not a comment", &["# not a comment"], &["x"]),
            ("", &[], &["a"]),
            ("!\n/\n.", &[], &["a"]),
        ];
        for (file, ignored, kept) in table {
            let ignore = Ignore::parse(file).unwrap();
            for path in *ignored {
                assert!(ignore.ignores(path), "{file:?} should ignore {path}");
            }
            for path in *kept {
                assert!(!ignore.ignores(path), "{file:?} should keep {path}");
            }
        }
        assert_eq!(Ignore::parse("a\n\n[").unwrap_err().line, 3);
    }

    proptest! {
        #[test]
        fn the_last_rule_decides(file in "([a-c*!/?]{0,6}\n){0,4}", path in "[a-c]{1,2}(/[a-c]{1,2}){0,2}") {
            let Ok(ignore) = Ignore::parse(&file) else { return Ok(()) };
            let _ = ignore.ignores(&path);
            let out = Ignore::parse(&format!("{file}{path}")).unwrap();
            prop_assert!(out.ignores(&path));
            let back = Ignore::parse(&format!("{file}!{path}")).unwrap();
            prop_assert!(!back.ignores(&path));
        }
    }
}
