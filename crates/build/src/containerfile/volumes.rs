//! `VOLUME`: what a `RUN` writes below one. buildah before 1.37 takes it back after the `RUN`, later ones keep
//! it.

use edgewright_model::containerfile::instructions;
use serde_json::{Map, Value};

use super::buildah::Version;

/// The number of volumes that the warning names.
const NAMED: usize = 5;

/// A line for the log if writes below volumes get lost: those of the base and those of the Containerfile.
pub(super) fn warning(version: &Version, text: &str, base: &Map<String, Value>) -> Option<String> {
    let instructions = instructions(text);
    let runs = instructions.iter().any(|instruction| instruction.keyword == "RUN");
    if version.keeps_volumes() || !runs {
        return None;
    }
    let of_base = base.get("Volumes").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let mut volumes: Vec<String> = of_base.cloned().collect();
    for instruction in instructions.iter().filter(|instruction| instruction.keyword == "VOLUME") {
        let words = instruction.words.iter().map(|word| word.replace(['[', ']', '"', ','], ""));
        volumes.extend(words.filter(|word| !word.is_empty()));
    }
    if volumes.is_empty() {
        return None;
    }
    let shown: Vec<&str> = volumes.iter().take(NAMED).map(String::as_str).collect();
    Some(format!(
        "[warning: {version} drops what RUN writes below volumes ({}): write it before VOLUME, or use buildah 1.37 or later, as in \
         the tool image of sandboxes]",
        shown.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_old_buildah_warns_of_volumes() {
        let (old, new) = (Version::parse("buildah version 1.28.2"), Version::parse("buildah version 1.39.3"));
        let text = "FROM x\nVOLUME [\"/a\", \"/b\"]\nVOLUME /c $D\nRUN true";
        let base = map(r#"{"Volumes":{"/base":{}}}"#);
        let line = warning(&old, text, &base).unwrap();
        assert!(line.contains("(/base, /a, /b, /c, $D)"), "{line}");
        assert_eq!(warning(&new, text, &base), None);
        assert_eq!(warning(&old, "FROM x\nVOLUME /a\nCOPY a /a", &base), None);
        assert_eq!(warning(&old, "FROM x\nRUN true", &Map::new()), None);
    }
}
