//! Patterns over paths and variant names, shared by modes, ignore files and exceptions. `*` and `?` match
//! inside a path component, `**` matches across components, `[a-z]` and `[^a-z]` match one character, `\`
//! escapes the next character.
//!
//! Matching takes time in proportion to pattern × path, whatever the pattern.

use std::fmt;

/// A compiled pattern over whole paths (`/`-separated, relative).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`: any character but `/`.
    Any,
    /// `[…]`: a character in (or outside of) these ranges, never `/`.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// `*`: any number of characters but `/`.
    Star,
    /// `**/` or `**` before something: nothing, or any number of components with the `/` that ends them.
    Folders,
    /// `**` at the end: anything.
    Rest,
}

/// A text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern `{pattern}`: {fault}")]
pub struct InvalidGlob {
    pattern: String,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Class,
    Escape,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "missing `]` after `[`",
            Self::Escape => "no character after the last `\\`",
        })
    }
}

impl InvalidGlob {
    /// How to correct the pattern, in the imperative.
    pub const fn hint(&self) -> &'static str {
        match self.fault {
            Fault::Class => "add the `]`, or write `\\[` for the character itself",
            Fault::Escape => "remove it, or write `\\\\` for the character itself",
        }
    }
}

impl Glob {
    /// Compiles a pattern.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        let invalid = |fault| InvalidGlob {
            pattern: pattern.chars().take(160).flat_map(char::escape_debug).collect(),
            fault,
        };
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    // `***` means no more than `**`.
                    while rest.next_if_eq(&'*').is_some() {}
                    let _ = rest.next_if_eq(&'/');
                    if rest.peek().is_none() { Token::Rest } else { Token::Folders }
                }
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => class(&mut rest).ok_or_else(|| invalid(Fault::Class))?,
                '\\' => Token::Literal(rest.next().ok_or_else(|| invalid(Fault::Escape))?),
                c => Token::Literal(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        // reached[i]: the tokens so far can match path[..i].
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            reached = token.step(&path, &reached);
        }
        reached[path.len()]
    }
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if(|c| matches!(c, '^' | '!')).is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next()? {
            // A `]` that comes first is a member.
            ']' if !ranges.is_empty() => break,
            '\\' => rest.next()?,
            c => c,
        };
        let last = if rest.peek() == Some(&'-') && rest.clone().nth(1) != Some(']') {
            rest.next();
            match rest.next()? {
                '\\' => rest.next()?,
                c => c,
            }
        } else {
            first
        };
        if first > last {
            return None;
        }
        ranges.push((first, last));
    }
    Some(Token::Class { negated, ranges })
}

impl Token {
    /// From the ends that the tokens before can reach to those that this one can reach, too.
    fn step(&self, path: &[char], reached: &[bool]) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        let mut one = |is_match: &dyn Fn(char) -> bool| {
            for (at, c) in path.iter().enumerate() {
                next[at + 1] = reached[at] && is_match(*c);
            }
        };
        match self {
            Self::Literal(want) => one(&|c| c == *want),
            Self::Any => one(&|c| c != '/'),
            Self::Class { negated, ranges } => one(&|c| {
                c != '/' && ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }),
            Self::Star => {
                next[0] = reached[0];
                for (at, c) in path.iter().enumerate() {
                    next[at + 1] = reached[at + 1] || (next[at] && *c != '/');
                }
            }
            Self::Folders => {
                let mut before = false;
                for at in 0..reached.len() {
                    next[at] = reached[at] || (before && path[at - 1] == '/');
                    before |= reached[at];
                }
            }
            Self::Rest => {
                let mut before = false;
                for at in 0..reached.len() {
                    before |= reached[at];
                    next[at] = before;
                }
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_documented() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("usr/bin/*", &["usr/bin/x", "usr/bin/"], &["usr/bin/x/y", "usr/bin", "x/usr/bin/x"]),
            ("*", &["a", ".a"], &["a/b"]),
            ("a?c", &["abc", "aßc"], &["a/c", "ac"]),
            ("**", &["a", "a/b/c", ""], &[]),
            ("**/x", &["x", "a/x", "a/b/x"], &["ax", "x/a", "a/bx"]),
            ("a/**", &["a/", "a/b", "a/b/c"], &["a", "ab"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab"]),
            ("**.sh", &["x/.sh", ".sh"], &["a.sh", "x/a.sh"]),
            ("**/*.sh", &["a.sh", "x/a.sh"], &["a.shx"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "/x", "-x"]),
            ("[^a-c]x", &["dx", "-x"], &["ax", "/x"]),
            ("[]-]", &["]", "-"], &["a"]),
            (r"\*", &["*"], &["a"]),
            ("etc/*.d/*.conf", &["etc/a.d/b.conf", "etc/.d/.conf"], &["etc/a.d/x/b.conf"]),
        ];
        for (pattern, good, bad) in table {
            let glob = Glob::new(pattern).unwrap();
            for path in *good {
                assert!(glob.matches(path), "{pattern} should match {path}");
            }
            for path in *bad {
                assert!(!glob.matches(path), "{pattern} should not match {path}");
            }
        }
        for bad in ["[", "[a", "[z-a]", "a\\", "[]"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_and_path_is_safe(pattern in r"[a*?/\[\]^\\-]{0,24}", path in "[a/]{0,40}") {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches(&path);
            }
        }

        #[test]
        fn literals_match_themselves_only(path in "[a-z/.]{0,20}", other in "[a-z/.]{0,20}") {
            let glob = Glob::new(&path).unwrap();
            prop_assert!(glob.matches(&path));
            prop_assert_eq!(glob.matches(&other), path == other);
        }
    }
}
