//! YAML 1.2 core schema as a tree of values with their places.
//!
//! Rejected, each with its place, without ending the file: duplicate keys, anchors and aliases, tags, further
//! documents, nesting deeper than [`MAX_DEPTH`]. Only a syntax error ends a file.

use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::Place;
use super::report::MAX_DIAGNOSTICS_PER_FILE;

/// Deeper values are rejected: definitions need about 8 levels, and reading recurses.
pub(super) const MAX_DEPTH: usize = 32;

const NO_ALIASES: &str = "aliases are not allowed";
const WRITE_OUT: &str = "write the value instead of the alias";

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) data: Data,
    pub(super) place: Place,
}

/// A key of a map with its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

/// A value, by the core schema.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Rejected and reported: the decoder reports nothing more.
    Refused,
    Null,
    Boolean(bool),
    Integer(i64),
    /// A number that is not a 64-bit integer, as written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Data {
    /// The kind of the value, for messages.
    pub(super) const fn describe(&self) -> &'static str {
        match self {
            Self::Refused => "a rejected value",
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The entries of a map; none for other values.
    pub(super) fn entries(&self) -> &[(Key, Self)] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }

    /// The value of a key, or this value itself. Finds the place of a decoded value and never fails.
    pub(super) fn at(&self, key: &str) -> &Self {
        self.entries().iter().find(|(it, _)| it.text == key).map_or(self, |(_, value)| value)
    }

    /// The place of a key, or of this value.
    pub(super) fn key(&self, key: &str) -> Place {
        self.entries().iter().find(|(it, _)| it.text == key).map_or(self.place, |(it, _)| it.place)
    }

    /// The items of a list; none for other values.
    pub(super) fn items(&self) -> &[Self] {
        if let Data::List(items) = &self.data { items } else { &[] }
    }

    /// The item of a list whose key has this text, or this value itself.
    pub(super) fn item(&self, key: &str, text: &str) -> &Self {
        self.items().iter().find(|item| item.at(key).is_text(text)).unwrap_or(self)
    }

    fn is_text(&self, wanted: &str) -> bool {
        matches!(&self.data, Data::Text(text) if text == wanted)
    }
}

/// A rejected value.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: String,
}

/// The characters of every line, so that places can be kept within the file.
pub(super) struct Lines(Vec<u32>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(lines(text).map(|line| clip(line.chars().count())).collect())
    }

    fn place(&self, start: Marker, end: Marker) -> Place {
        let last = clip(self.0.len()).max(1);
        let line = clip(start.line()).clamp(1, last);
        let width = self.0.get(line as usize - 1).copied().unwrap_or(0);
        let column = clip(start.col()).saturating_add(1).min(width + 1);
        let length = if start.line() == end.line() {
            clip(end.index().saturating_sub(start.index()))
        } else {
            width.saturating_sub(column - 1)
        };
        Place { line, column, length: length.clamp(1, (width + 1 - column).max(1)) }
    }
}

fn clip(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The lines of a text as YAML counts them: ended by LF, CR LF or CR.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line).split('\r')
    })
}

/// The place after the end of a text.
pub(super) fn end(text: &str) -> Place {
    let (mut line, mut column) = (0, 0);
    for (index, text) in lines(text).enumerate() {
        (line, column) = (index, text.chars().count());
    }
    if text.ends_with(['\n', '\r']) {
        (line, column) = (line + 1, 0);
    }
    Place { line: clip(line + 1), column: clip(column + 1), length: 1 }
}

/// The hint for a syntax error, by the parser's message.
fn syntax_hint(info: &str) -> &'static str {
    if info.contains("tab") {
        "indent with spaces: YAML takes no tabs"
    } else if info.contains("mapping values are not allowed") {
        "put a string that contains `: ` into quotes, or correct the indentation: keys of one map start in one column"
    } else if info.contains("expected ',' or") {
        "close the open bracket, separate its entries by commas, and put strings that contain `: ` into quotes"
    } else {
        "correct the YAML here; often the indentation or a quote before it is wrong"
    }
}

/// Reads a file: its value, if it has one, and all faults.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(fault) = control(text) {
        return (None, vec![fault]);
    }
    let mut reader =
        Reader { parser: Parser::new_from_str(text), lines: Lines::of(text), faults: Vec::new() };
    let root = reader.document();
    (root, reader.faults)
}

/// The first control character that YAML forbids; the parser would take a NUL for the end of the file.
fn control(text: &str) -> Option<Fault> {
    let bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let (index, line) = lines(text).enumerate().find(|(_, line)| line.contains(bad))?;
    let column = line.chars().take_while(|c| !bad(*c)).count();
    Some(Fault {
        place: Place { line: clip(index + 1), column: clip(column + 1), length: 1 },
        message: "invalid control character".to_owned(),
        hint: "remove it; in a double-quoted string, write an escape such as \\x00".to_owned(),
    })
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    lines: Lines,
    faults: Vec<Fault>,
}

impl<'t> Reader<'t> {
    fn refuse(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        let place = self.lines.place(span.start, span.end);
        // One more than is shown, so that the report can count them.
        if self.faults.len() <= MAX_DIAGNOSTICS_PER_FILE {
            self.faults.push(Fault { place, message: message.into(), hint: hint.into() });
        }
    }

    /// The next event; none after a syntax error, which is reported.
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        match self.parser.next_event()? {
            Ok(next) => Some(next),
            Err(error) if error.info().contains("unknown anchor") => {
                self.refuse(Span::empty(*error.marker()), NO_ALIASES, WRITE_OUT);
                None
            }
            Err(error) => {
                let hint = syntax_hint(error.info());
                self.refuse(Span::empty(*error.marker()), format!("invalid YAML: {}", error.info()), hint);
                None
            }
        }
    }

    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return root,
                Event::DocumentStart(_) if root.is_some() => {
                    let hint = "remove this document, or move it into a separate file";
                    self.refuse(span, "more than one YAML document", hint);
                    return root;
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            let hint = "close all brackets: definitions need far fewer levels";
            self.refuse(span, format!("more than {MAX_DEPTH} nested levels"), hint);
            return None;
        }
        let place = self.lines.place(span.start, span.end);
        let data = match event {
            Event::Alias(_) => {
                self.refuse(span, NO_ALIASES, WRITE_OUT);
                Data::Refused
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.bare(span, anchor, tag.is_some());
                if style == ScalarStyle::Plain { plain(&text) } else { Data::Text(text.into_owned()) }
            }
            Event::SequenceStart(anchor, tag) => {
                self.bare(span, anchor, tag.is_some());
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Data::List(items),
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(anchor, tag) => {
                self.bare(span, anchor, tag.is_some());
                self.map(depth)?
            }
            _ => Data::Refused,
        };
        Some(Node { data, place })
    }

    fn map(&mut self, depth: usize) -> Option<Data> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Some(Data::Map(entries)),
                Event::Scalar(text, _, anchor, tag) => {
                    self.bare(span, anchor, tag.is_some());
                    Some(text.into_owned())
                }
                event => {
                    self.refuse(span, "invalid key: not a string", "write a plain word before the colon");
                    self.node(event, span, depth + 1)?;
                    None
                }
            };
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            let Some(text) = key else { continue };
            if seen.insert(text.clone()) {
                entries.push((Key { text, place: self.lines.place(span.start, span.end) }, value));
            } else {
                self.refuse(span, format!("duplicate key `{text}`"), "keep one of the two");
            }
        }
    }

    /// Rejects anchors and tags.
    fn bare(&mut self, span: Span, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.refuse(
                span,
                "anchors are not allowed",
                "remove `&NAME` and write the values where they are used",
            );
        }
        if tagged {
            self.refuse(
                span,
                "tags are not allowed",
                "remove the `!` tag; to write a string, put it into quotes",
            );
        }
    }
}

/// A plain scalar by the YAML 1.2 core schema (section 10.3.2).
fn plain(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Boolean(true),
        "false" | "False" | "FALSE" => return Data::Boolean(false),
        _ => {}
    }
    let radix = |digits: &str, radix: u32| {
        (!digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))).then(|| {
            i64::from_str_radix(digits, radix).map_or_else(|_| Data::Number(text.to_owned()), Data::Integer)
        })
    };
    let number = text
        .strip_prefix("0o")
        .and_then(|digits| radix(digits, 8))
        .or_else(|| text.strip_prefix("0x").and_then(|digits| radix(digits, 16)));
    if let Some(number) = number {
        return number;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or_else(|_| Data::Number(text.to_owned()), Data::Integer);
    }
    if is_float(unsigned) { Data::Number(text.to_owned()) } else { Data::Text(text.to_owned()) }
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, `.inf` or `.nan`; the sign is off
/// already.
fn is_float(text: &str) -> bool {
    if matches!(text, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent_fits && digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}
