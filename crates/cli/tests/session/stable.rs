//! What differs from one session to the next gets a value that does not: digests, commits, times.

use std::collections::BTreeMap;

use edgewright_model::Digest;

/// How long things take in the picture.
const SHORT: &str = "0.3 s";
const LONG: &str = "1.2 s";
const CREATED: &str = "now";
/// The column whose values are durations, and its width.
const TOOK: &str = "TOOK";
const WIDTH: usize = 8;

/// The session with values that are always the same.
pub(crate) fn stable(session: &str) -> String {
    let mut names = Names::default();
    let mut took = None;
    let mut lines = Vec::new();
    for line in session.lines() {
        if let Some(start) = line.find(TOOK) {
            let width = line[start..].len() - line[start + TOOK.len()..].trim_start().len();
            took = Some((start, width));
        } else if line.is_empty() || line.starts_with('$') {
            took = None;
        }
        let line = match took {
            Some((start, width)) => column(line, start, width),
            None => sentence(line),
        };
        lines.push(names.replace(&line).trim_end().to_owned());
    }
    lines.join("\n")
}

/// A table's line whose duration has a fixed text and width.
fn column(line: &str, start: usize, width: usize) -> String {
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= start {
        return line.to_owned();
    }
    let part = |from: usize, to: usize| {
        characters[from.min(characters.len())..to.min(characters.len())].iter().collect::<String>()
    };
    let cell = match part(start, start + width).trim() {
        "" => String::new(),
        TOOK => TOOK.to_owned(),
        _ => SHORT.to_owned(),
    };
    format!("{}{cell:WIDTH$}{}", part(0, start), part(start + width, characters.len()))
}

/// A line of text whose duration or time is fixed.
fn sentence(line: &str) -> String {
    if let Some((before, _)) = line.split_once(" after ") {
        return format!("{before} after {LONG}");
    }
    match line.strip_prefix("created") {
        Some(rest) => {
            let space = rest.len() - rest.trim_start().len();
            format!("created{}{CREATED}", &rest[..space])
        }
        None => line.to_owned(),
    }
}

/// Replacements of abbreviated digests and commits: the same for the same, in the order in which they appear.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn replace(&mut self, line: &str) -> String {
        let mut replaced = String::new();
        let mut rest = line;
        while !rest.is_empty() {
            let is_word = rest.starts_with(|first: char| first.is_ascii_alphanumeric());
            let end = rest.find(|one: char| one.is_ascii_alphanumeric() != is_word).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            replaced.push_str(&self.of(word));
            rest = after;
        }
        replaced
    }

    fn of(&mut self, word: &str) -> String {
        let is_hex = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !(10..=12).contains(&word.len()) || !is_hex {
            return word.to_owned();
        }
        let count = self.0.len();
        let new = || Digest::of(format!("name {count}").as_bytes()).short()[..word.len()].to_owned();
        self.0.entry(word.to_owned()).or_insert_with(new).clone()
    }
}

#[test]
fn times_and_digests_are_always_the_same() {
    let session = |digest: &str, took: &str, pad: &str, after: &str| {
        format!(
            "state    passed after {after}\ncreated  now ({after})\n\nNODE     TOOK  {pad}REASON\nbase     {took}  new\nx                {pad}unchanged\n\n$ images\nbase {digest} {digest}"
        )
    };
    let one = stable(&session("0123456789ab", "10 ms ", "  ", "2.3 s"));
    let other = stable(&session("ba9876543210", "8.1 s", " ", "400 ms"));
    assert_eq!(one, other);
    assert!(one.contains("base     0.3 s   new") && one.contains("passed after 1.2 s"), "{one}");
}
