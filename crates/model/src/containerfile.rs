//! The text of a Containerfile as instructions: comments left out, continued lines joined, here-documents
//! skipped.
//!
//! Parses only what is needed to find the stages. Variables are not expanded and nothing is rejected: buildah
//! does that.

mod preprocessed;

pub use preprocessed::{PREPROCESSED, is_preprocessed, preprocess_hint};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its first line, from 1.
    pub line: usize,
    /// Its last line, without the here-documents behind it.
    pub last: usize,
    /// Its first word, in capitals.
    pub keyword: String,
    /// The words behind it.
    pub words: Vec<String>,
}

/// A stage: a `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The line of its `FROM`, from 1.
    pub line: usize,
    /// The last line of its `FROM`.
    pub last: usize,
    /// What it starts from, as written, quotes left out.
    pub from: String,
    /// Its name, where it has one.
    pub name: Option<String>,
}

impl Stage {
    /// Whether the stage has this name (case-insensitive).
    pub fn is_named(&self, name: &str) -> bool {
        self.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Every instruction, in order.
pub fn instructions(text: &str) -> Vec<Instruction> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((first, line)) = lines.next() {
        let (mut last, mut line) = (first, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut joined = String::new();
        loop {
            let Some(begun) = line.strip_suffix('\\') else {
                joined.push_str(line);
                break;
            };
            joined.push_str(begun);
            joined.push(' ');
            // Comments inside a continued instruction do not end it.
            let mut further = lines.by_ref().map(|(number, line)| (number, line.trim()));
            let Some(next) = further.find(|(_, line)| !line.starts_with('#')) else { break };
            (last, line) = next;
        }
        let mut words = joined.split_whitespace().map(str::to_owned);
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        let words: Vec<String> = words.collect();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            for mark in words.iter().filter_map(|word| here_document(word)) {
                let _ = lines.by_ref().find(|(_, line)| line.trim_start_matches('\t') == mark);
            }
        }
        found.push(Instruction { line: first, last, keyword, words });
    }
    found
}

/// Every stage, in order.
pub fn stages(instructions: &[Instruction]) -> Vec<Stage> {
    let froms = instructions.iter().filter(|instruction| instruction.keyword == "FROM");
    froms
        .map(|instruction| {
            let mut words = instruction.words.iter().filter(|word| !word.starts_with("--"));
            let from = words.next().map(|word| word.trim_matches('"').to_owned()).unwrap_or_default();
            let is_named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"));
            let name = if is_named { words.next().cloned() } else { None };
            Stage { line: instruction.line, last: instruction.last, from, name }
        })
        .collect()
}

/// The stage at the root of a stage's chain of `FROM`s: the stage itself, or an earlier one whose base is no
/// other stage.
pub fn root(stages: &[Stage], position: usize) -> Option<&Stage> {
    let mut position = position;
    let mut stage = stages.get(position)?;
    // A stage can only start from an earlier one, so this ends.
    while let Some(earlier) = stages[..position].iter().rposition(|earlier| earlier.is_named(&stage.from)) {
        (position, stage) = (earlier, &stages[earlier]);
    }
    Some(stage)
}

/// The end mark of the here-document that a word begins.
fn here_document(word: &str) -> Option<String> {
    let mark = word.strip_prefix("<<")?.trim_start_matches('-').trim_matches(['"', '\'']);
    mark.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then(|| mark.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_joined_and_here_documents_skipped() {
        let text = "# syntax=x\nARG V=1\nrun a \\\n# not here\n  b\n\nRUN <<EOF cat <<-'X Y'\nFROM no\nEOF\nFROM \\\n  \"a\" as One\nCOPY <<<x /y\nFROM one";
        let all = instructions(text);
        let shown: Vec<String> = all
            .iter()
            .map(|it| format!("{}-{} {} {}", it.line, it.last, it.keyword, it.words.join(" ")))
            .collect();
        assert_eq!(
            shown,
            ["2-2 ARG V=1", "3-5 RUN a b", "7-7 RUN <<EOF cat <<-'X Y'"],
            "an end mark that never comes takes the rest"
        );
        let all = instructions(&text.replace("cat <<-'X Y'", "cat"));
        let stages = stages(&all);
        assert_eq!((stages[0].line, stages[0].last, stages[0].from.as_str()), (10, 11, "a"));
        assert_eq!(root(&stages, 1), Some(&stages[0]));
        assert_eq!(root(&stages, 2), None);
    }
}
