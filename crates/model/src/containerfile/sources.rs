//! Paths of the build context that instructions name.

use super::words::{flags, here_document, split};
use super::{Containerfile, Instruction, Resolved};

/// The paths of the build context that a Containerfile copies or mounts, with their lines. Paths with variables
/// are left out.
pub fn context_sources(file: &Containerfile, resolved: &Resolved) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for instruction in resolved.instructions(file) {
        let paths = match instruction.keyword.as_str() {
            "COPY" | "ADD" => copied(instruction, file.escape),
            "RUN" => mounted(instruction, file.escape),
            _ => continue,
        };
        let is_plain = |path: &String| !path.is_empty() && !path.contains(['$', '"', '\'']);
        found.extend(paths.into_iter().filter(is_plain).map(|path| (instruction.line, path)));
    }
    found
}

fn copied(instruction: &Instruction, escape: char) -> Vec<String> {
    let (flags, behind) = flags(&instruction.arguments, escape);
    if flags.iter().any(|flag| flag.name == "from") {
        return Vec::new();
    }
    let words = &instruction.arguments[behind..];
    let mut paths: Vec<String> = match serde_json::from_str(words) {
        Ok(list) => list,
        Err(_) => {
            let words = split(words, escape).unwrap_or_default();
            let words = words.into_iter().filter(|(_, word)| here_document(0, word).is_none());
            words.map(|(_, word)| word.to_owned()).collect()
        }
    };
    // The last one is in the image.
    paths.pop();
    paths.retain(|path| !path.contains("://"));
    paths
}

fn mounted(instruction: &Instruction, escape: char) -> Vec<String> {
    let (flags, _) = flags(&instruction.arguments, escape);
    let source = |value: &str| {
        let mut source = None;
        for option in value.split(',') {
            match option.split_once('=').unwrap_or((option, "")) {
                ("from", _) => return None,
                ("type", kind) if kind != "bind" => return None,
                ("source" | "src", path) => source = Some(path.to_owned()),
                _ => {}
            }
        }
        source
    };
    flags.iter().filter(|flag| flag.name == "mount").filter_map(|flag| source(&flag.value)).collect()
}
