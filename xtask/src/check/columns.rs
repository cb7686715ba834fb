//! Lines of documents end at column 100, doc comments of Rust at column 110: both are read side by side with
//! code.

/// The last column of a document's line.
const DOCUMENT: usize = 100;
/// The last column of a doc comment's line, as for code (`rustfmt.toml`).
const DOC_COMMENT: usize = 110;

/// The numbers of lines that are too long in a Markdown document. Fenced code may be wider, and an address on
/// its own.
pub(super) fn wide_in_document(text: &str) -> Vec<usize> {
    let mut fence: Option<&str> = None;
    let mut wide = Vec::new();
    for (position, line) in text.lines().enumerate() {
        let mark = line.trim_start();
        let mark = &mark[..mark.len() - mark.trim_start_matches(['`', '~']).len()];
        if mark.len() >= 3 {
            fence = match fence {
                None => Some(mark),
                // A longer fence may contain shorter ones.
                Some(open) if mark.starts_with(open) => None,
                Some(open) => Some(open),
            };
        } else if fence.is_none() && is_wide(line, DOCUMENT) {
            wide.push(position + 1);
        }
    }
    wide
}

/// The numbers of doc comments that are too long.
pub(super) fn wide_in_doc_comments(text: &str) -> Vec<usize> {
    let is_comment = |line: &str| ["///", "//!"].iter().any(|start| line.trim_start().starts_with(start));
    let wide = text.lines().enumerate().filter(|(_, line)| is_comment(line) && is_wide(line, DOC_COMMENT));
    wide.map(|(position, _)| position + 1).collect()
}

fn is_wide(line: &str, limit: usize) -> bool {
    line.chars().count() > limit && !is_address(line)
}

/// Whether the line is an address, after the mark of a list, of a comment or of a link's definition.
fn is_address(line: &str) -> bool {
    let is_mark = |word: &&str| {
        matches!(*word, "-" | "*" | ">" | "///" | "//!") || (word.starts_with('[') && word.ends_with("]:"))
    };
    let mut words = line.split_whitespace().skip_while(is_mark);
    words.next().is_some_and(|word| word.contains("://")) && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_are_found_outside_of_code_and_addresses() {
        let wide = "é ".repeat(51);
        let fits = "é".repeat(100);
        let address = format!("https://example.org/{}", "a".repeat(100));
        let text = format!(
            "{wide}\n{fits}\n```sh\n{wide}\n```\n````md\n```\n{wide}\n```\n````\n{wide}\n[a]: {address}\n- {address}\nsee {address}\n| {wide} |\n"
        );
        assert_eq!(wide_in_document(&text), [1, 11, 14, 15]);
    }

    #[test]
    fn only_doc_comments_count_in_code() {
        let wide = "a ".repeat(60);
        let text = format!("//! {wide}\n// {wide}\n    /// {wide}\nlet a = \"{wide}\";\n/// a\n");
        assert_eq!(wide_in_doc_comments(&text), [1, 3]);
    }
}
