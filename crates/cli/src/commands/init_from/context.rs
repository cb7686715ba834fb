//! The build context of a Containerfile: which folder was it built with?

use std::path::{Path, PathBuf};

use edgewright_model::containerfile::Instruction;

/// The folder, relative to the repository, in which most of what the Containerfile copies exists: its own
/// one, else one above it.
pub(super) fn choose(top: &Path, containerfile: &Path, instructions: &[Instruction]) -> PathBuf {
    let sources: Vec<String> = sources(instructions).map(|(_, source)| source).collect();
    let own = containerfile.parent().unwrap_or(Path::new(""));
    let missing = |folder: &Path| sources.iter().filter(|source| !exists(&top.join(folder), source)).count();
    // The first of equal ones is the nearest.
    own.ancestors().min_by_key(|folder| missing(folder)).unwrap_or(own).to_owned()
}

/// What an instruction takes from the build context, with its line. Patterns and variables are left out.
pub(super) fn sources(instructions: &[Instruction]) -> impl Iterator<Item = (usize, String)> + '_ {
    instructions.iter().flat_map(|instruction| {
        let words = match instruction.keyword.as_str() {
            "COPY" | "ADD" => copied(&instruction.words),
            "RUN" => instruction.words.iter().filter_map(|word| mounted(word)).collect(),
            _ => Vec::new(),
        };
        let is_plain = |word: &String| {
            !word.contains(['$', '*', '?', '[', '<']) && !word.contains("://") && !word.starts_with("git@")
        };
        words.into_iter().filter(is_plain).map(|word| (instruction.line, word)).collect::<Vec<_>>()
    })
}

fn copied(words: &[String]) -> Vec<String> {
    let is_flag = |word: &&String| word.starts_with("--");
    if words.iter().take_while(is_flag).any(|word| word.starts_with("--from=")) {
        return Vec::new();
    }
    let words: Vec<&String> = words.iter().skip_while(is_flag).collect();
    if let Some(list) = words.first().filter(|word| word.starts_with('[')).map(|_| &words) {
        let text = list.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
        let mut names: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
        names.pop();
        return names;
    }
    let count = words.len().saturating_sub(1);
    words[..count].iter().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect()
}

/// The source of a bind mount from the context.
fn mounted(word: &str) -> Option<String> {
    let options: Vec<(&str, &str)> = word
        .strip_prefix("--mount=")?
        .split(',')
        .map(|option| option.split_once('=').unwrap_or((option, "")))
        .collect();
    let option =
        |names: &[&str]| options.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value);
    let is_bind = option(&["type"]).is_none_or(|kind| kind == "bind");
    if !is_bind || option(&["from"]).is_some() {
        return None;
    }
    option(&["source", "src"]).map(|source| source.trim_matches('"').to_owned())
}

/// Whether a path of the context exists.
pub(super) fn exists(context: &Path, source: &str) -> bool {
    let parts = source.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.fold(context.to_owned(), |path, part| path.join(part));
    path.symlink_metadata().is_ok()
}
