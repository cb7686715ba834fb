//! Variables in words.

use std::iter::Peekable;
use std::str::Chars;

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("a `${{` is not closed")]
    OpenBrace,
    #[error("`{0}` is not supported in `${{…}}` when planning")]
    Modifier(String),
    #[error("`${{…}}` are nested too deeply")]
    Depth,
    #[error("the variable `{0}` has no value")]
    Missing(String),
    #[error("the values of the arguments are too long together")]
    Length,
}

/// Maximum depth of `${A:-${B:-…}}` in a Containerfile.
const MAX_EXPANSION_DEPTH: usize = 16;

/// Replaces variables in a word and removes its quotes; unset ones are empty, as in a shell. The result has
/// at most `limit` bytes.
pub(super) fn expand(
    word: &str,
    escape: char,
    limit: usize,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expansion = Expansion { chars: word.chars().peekable(), escape, limit, value };
    expansion.until(None, 0)
}

struct Expansion<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    limit: usize,
    value: &'a dyn Fn(&str) -> Option<String>,
}

impl Expansion<'_> {
    /// Expands up to a closing brace that is not quoted, or to the end.
    fn until(&mut self, close: Option<char>, depth: usize) -> Result<String, ExpandError> {
        let mut out = String::new();
        let mut is_quoted = false;
        loop {
            if out.len() > self.limit {
                return Err(ExpandError::Length);
            }
            let Some(c) = self.chars.next() else {
                return match (is_quoted, close) {
                    (true, _) => Err(ExpandError::OpenQuote),
                    (false, Some(_)) => Err(ExpandError::OpenBrace),
                    (false, None) => Ok(out),
                };
            };
            match c {
                _ if Some(c) == close && !is_quoted => return Ok(out),
                '"' => is_quoted = !is_quoted,
                '\'' if !is_quoted => self.literal(&mut out)?,
                '$' => out.push_str(&self.variable(depth)?),
                _ if c == self.escape => self.escaped(is_quoted, &mut out),
                _ => out.push(c),
            }
        }
    }

    fn literal(&mut self, out: &mut String) -> Result<(), ExpandError> {
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            out.push(c);
        }
        Err(ExpandError::OpenQuote)
    }

    fn escaped(&mut self, is_quoted: bool, out: &mut String) {
        let Some(next) = self.chars.next() else { return };
        if is_quoted && !(matches!(next, '"' | '$') || next == self.escape) {
            out.push(self.escape);
        }
        out.push(next);
    }

    /// A variable behind its `$`.
    fn variable(&mut self, depth: usize) -> Result<String, ExpandError> {
        if depth >= MAX_EXPANSION_DEPTH {
            return Err(ExpandError::Depth);
        }
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                (self.value)(&name).unwrap_or_default()
            });
        }
        let name = self.name();
        let mut operator = String::new();
        operator.extend(self.chars.next_if_eq(&':'));
        operator.extend(self.chars.next());
        let value = (self.value)(&name);
        if operator == "}" && !name.is_empty() {
            return Ok(value.unwrap_or_default());
        }
        if name.is_empty() || !matches!(operator.trim_start_matches(':'), "-" | "+" | "?") {
            return Err(ExpandError::Modifier(format!("${{{name}{operator}")));
        }
        // With a colon, an empty value counts as none.
        let value = value.filter(|value| !(operator.starts_with(':') && value.is_empty()));
        let word = self.until(Some('}'), depth + 1)?;
        match (value, operator.ends_with('+'), operator.ends_with('?')) {
            (Some(_), true, _) | (None, false, false) => Ok(word),
            (None, true, _) => Ok(String::new()),
            (Some(value), false, _) => Ok(value),
            (None, false, true) => Err(ExpandError::Missing(name)),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let is_first_digit = self.chars.peek().is_some_and(char::is_ascii_digit);
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
            if is_first_digit {
                break;
            }
        }
        name
    }
}
