//! Lines become instructions: directives, comments, continued lines and here-documents.

use super::Fault;
use super::words::{WordError, flags, here_document, split};

/// A text as instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containerfile {
    /// The character that continues lines and takes a special meaning from the next character: `\`, or
    /// `` ` `` by `# escape=`.
    pub escape: char,
    /// Every instruction, in order.
    pub instructions: Vec<Instruction>,
    /// What buildah would reject.
    pub faults: Vec<Fault>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its first line, from 1.
    pub line: usize,
    /// Its last line, without the here-documents behind it.
    pub last: usize,
    /// Its first word, in capitals.
    pub keyword: String,
    /// The rest, continued lines joined.
    pub arguments: String,
    /// The words of the rest, with their quotes.
    pub words: Vec<String>,
    /// The here-documents behind it, in order.
    pub here_documents: Vec<HereDocument>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HereDocument {
    /// Its mark, without quotes.
    pub mark: String,
    /// Its lines and the line of its mark, each with `\n`.
    pub text: String,
    /// The byte of the arguments behind its mark where a word follows at once: `<<EOF>/etc/file`.
    pub attached: Option<usize>,
}

/// The instructions that Containerfiles know.
const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a text. Never fails: what is wrong is in [`Containerfile::faults`].
pub fn read(text: &str) -> Containerfile {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut faults = Vec::new();
    let escape = escape(text, &mut faults);
    let mut reader = Reader { lines: text.lines().enumerate(), escape };
    let mut instructions = Vec::new();
    while let Some(instruction) = reader.next(&mut faults) {
        instructions.push(instruction);
    }
    Containerfile { escape, instructions, faults }
}

/// The escape character of the directives, which are the comments at the top.
fn escape(text: &str, faults: &mut Vec<Fault>) -> char {
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            break;
        }
        if !name.eq_ignore_ascii_case("escape") {
            continue;
        }
        return match value.trim() {
            "\\" => '\\',
            "`" => '`',
            other => {
                let message = format!("invalid escape character `{}`", other.escape_debug());
                faults.push(Fault::new(
                    index + 1,
                    message,
                    "write `# escape=\\` or `# escape=` and a backtick",
                ));
                '\\'
            }
        };
    }
    '\\'
}

struct Reader<'t> {
    lines: std::iter::Enumerate<std::str::Lines<'t>>,
    escape: char,
}

impl Reader<'_> {
    fn next(&mut self, faults: &mut Vec<Fault>) -> Option<Instruction> {
        let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let (first, line) = self.lines.by_ref().find(|(_, line)| is_content(line))?;
        let mut joined = String::new();
        let (mut last, mut line) = (first, line.trim_start());
        loop {
            let trimmed = line.trim_end_matches([' ', '\t', '\r']);
            let Some(begun) = trimmed.strip_suffix(self.escape) else {
                joined.push_str(line.trim_end());
                break;
            };
            joined.push_str(begun);
            // Comments and empty lines inside a continued instruction do not end it.
            let Some(next) = self.lines.by_ref().find(|(_, line)| is_content(line)) else { break };
            (last, line) = next;
        }
        // At the end of the file, or before a space that Containerfiles do not know, an escape continues
        // nothing. It would when the instruction is written with usual spaces.
        let joined = joined.trim_start().trim_end_matches(|c: char| c == self.escape || c.is_whitespace());
        let (keyword, arguments) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
        let (keyword, arguments) = (keyword.to_ascii_uppercase(), arguments.trim().to_owned());
        if !KNOWN.contains(&keyword.as_str()) {
            let shown: String = keyword.chars().take(40).collect();
            let message = format!("unknown instruction `{}`", shown.escape_debug());
            let hint = "begin the line with an instruction such as RUN, or end the line before with the escape character";
            faults.push(Fault::new(first + 1, message, hint));
        }
        let words = split(&arguments, self.escape).unwrap_or_else(|WordError::OpenQuote| {
            arguments.split_whitespace().map(|word| (0, word)).collect()
        });
        let words = words.into_iter().map(|(_, word)| word.to_owned()).collect();
        let here_documents = self.here_documents(first + 1, &keyword, &arguments, faults);
        Some(Instruction { line: first + 1, last: last + 1, keyword, arguments, words, here_documents })
    }

    fn here_documents(
        &mut self,
        line: usize,
        keyword: &str,
        arguments: &str,
        faults: &mut Vec<Fault>,
    ) -> Vec<HereDocument> {
        let mut inner = arguments.split_whitespace().next().unwrap_or_default();
        if keyword != "ONBUILD" {
            inner = keyword;
        }
        let takes_any = ["RUN", "COPY", "ADD"].iter().any(|known| inner.eq_ignore_ascii_case(known));
        if takes_any && is_mark_in_flags(arguments, self.escape) {
            let message = "a flag contains `<<`, which begins a here-document";
            faults.push(Fault::new(line, message, "write the flag without `<<`"));
        }
        if !takes_any || !arguments.contains("<<") {
            return Vec::new();
        }
        // As in a shell, `\` quotes in them, whatever the escape character of the file is.
        let words = split(arguments, '\\').unwrap_or_default();
        let mut found = Vec::new();
        for mark in words.into_iter().filter_map(|(at, word)| here_document(at, word)) {
            let mut text = String::new();
            let mut is_closed = false;
            for (_, line) in self.lines.by_ref() {
                text.extend([line, "\n"]);
                let line = if mark.strips_tabs { line.trim_start_matches('\t') } else { line };
                is_closed = line == mark.name;
                if is_closed {
                    break;
                }
            }
            if !is_closed {
                let message = format!("the here-document `<<{}` has no end", mark.name.escape_debug());
                let hint = format!("end it with a line that holds only {}", mark.name.escape_debug());
                faults.push(Fault::new(line, message, hint));
            }
            found.push(HereDocument { mark: mark.name, text, attached: mark.attached });
        }
        found
    }
}

/// Whether flags contain what may be the mark of a here-document for a shell, which reads quotes and escapes
/// in another way: as it is written, or without them, as it is rewritten.
fn is_mark_in_flags(arguments: &str, escape: char) -> bool {
    let (flags, behind) = flags(arguments, escape);
    arguments[..behind].contains("<<")
        || flags.iter().any(|flag| flag.name.contains("<<") || flag.value.contains("<<"))
}
