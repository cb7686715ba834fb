//! What a Containerfile must look like to be a step: its final stage stands on `${BASE}`.

/// Why a Containerfile cannot be a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerfileError {
    /// There is no stage.
    #[error("the Containerfile has no FROM")]
    NoStage,
    /// The named stage is not there.
    #[error("the Containerfile has no stage `{0}`")]
    NoTarget(String),
    /// It starts from something else.
    #[error("the Containerfile's final stage is FROM {found} (line {line}), not FROM ${{BASE}}")]
    OtherBase {
        /// What it starts from.
        found: String,
        /// Where, counted from 1.
        line: usize,
    },
    /// `BASE` is used, but not declared before the first stage.
    #[error("the Containerfile uses ${{BASE}} without `ARG BASE` before its first FROM")]
    Undeclared,
}

impl ContainerfileError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoTarget(_) => "check `target:` of the step against the `AS` names",
            _ => {
                "begin with `ARG BASE` and make the final stage `FROM ${BASE}`: the image of the step before"
            }
        }
    }
}

struct Stage {
    from: String,
    name: Option<String>,
    line: usize,
}

/// Checks that the final stage (or `target`) stands on `${BASE}`, directly or through other stages.
pub fn check(text: &str, target: Option<&str>) -> Result<(), ContainerfileError> {
    let mut declared = false;
    let mut stages: Vec<Stage> = Vec::new();
    for (line, instruction) in instructions(text) {
        let mut words = instruction.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "ARG" if stages.is_empty() => {
                declared |= words.any(|word| word == "BASE" || word.starts_with("BASE="));
            }
            "FROM" => {
                let mut words = words.filter(|word| !word.starts_with("--"));
                let from = words.next().unwrap_or_default().trim_matches('"').to_owned();
                let named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"));
                let name = if named { words.next().map(str::to_owned) } else { None };
                stages.push(Stage { from, name, line });
            }
            _ => {}
        }
    }
    let same =
        |stage: &Stage, name: &str| stage.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name));
    let mut position = match target {
        None => stages.len().checked_sub(1).ok_or(ContainerfileError::NoStage)?,
        Some(target) => stages
            .iter()
            .position(|stage| same(stage, target))
            .or_else(|| target.parse().ok().filter(|number| *number < stages.len()))
            .ok_or_else(|| ContainerfileError::NoTarget(target.to_owned()))?,
    };
    loop {
        let stage = &stages[position];
        if matches!(stage.from.as_str(), "${BASE}" | "$BASE") {
            return if declared { Ok(()) } else { Err(ContainerfileError::Undeclared) };
        }
        match stages[..position].iter().rposition(|earlier| same(earlier, &stage.from)) {
            Some(earlier) => position = earlier,
            None => {
                return Err(ContainerfileError::OtherBase { found: stage.from.clone(), line: stage.line });
            }
        }
    }
}

/// Instructions with the number of their first line: comments left out, continued lines joined, here-documents skipped.
fn instructions(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut instruction = String::new();
        loop {
            if let Some(begun) = line.strip_suffix('\\') {
                instruction.push_str(begun);
                instruction.push(' ');
            } else {
                instruction.push_str(line);
                break;
            }
            // Comments inside a continued instruction do not end it.
            let next = lines.by_ref().map(|(_, line)| line.trim()).find(|line| !line.starts_with('#'));
            let Some(next) = next else { break };
            line = next;
        }
        let keyword = instruction.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            for word in here_documents(&instruction) {
                for (_, line) in lines.by_ref() {
                    if line.trim_start_matches('\t') == word {
                        break;
                    }
                }
            }
        }
        found.push((number + 1, instruction));
    }
    found
}

/// The end marks of an instruction's here-documents.
fn here_documents(instruction: &str) -> Vec<String> {
    instruction
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("<<"))
        .map(|word| word.trim_start_matches('-').trim_matches(['"', '\'']).to_owned())
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_final_stage_stands_on_base() {
        let other = |found: &str, line| Err(ContainerfileError::OtherBase { found: found.into(), line });
        let table = [
            ("ARG BASE\nFROM ${BASE}\nRUN true", None, Ok(())),
            ("# x\narg BASE=x OTHER\nfrom $BASE as b\n", None, Ok(())),
            ("ARG BASE\nFROM golang:1 AS build\nFROM --platform=linux/amd64 ${BASE}", None, Ok(())),
            ("ARG BASE\nFROM ${BASE} AS a\nFROM a AS b\nFROM b", None, Ok(())),
            ("ARG BASE\nFROM ${BASE} AS a\nFROM debian", Some("a"), Ok(())),
            ("ARG BASE\nFROM ${BASE} AS a\nFROM debian", Some("0"), Ok(())),
            ("ARG BASE\nFROM ${BASE} AS a\nFROM debian", None, other("debian", 3)),
            ("ARG BASE\nFROM \\\n  debian", None, other("debian", 2)),
            ("FROM ${BASE}", None, Err(ContainerfileError::Undeclared)),
            ("FROM x\nARG BASE\nFROM ${BASE}", None, Err(ContainerfileError::Undeclared)),
            ("RUN true", None, Err(ContainerfileError::NoStage)),
            ("ARG BASE\nFROM $BASE", Some("z"), Err(ContainerfileError::NoTarget("z".into()))),
            ("ARG BASE\nFROM $BASE\nRUN <<EOF\nFROM debian\nEOF\n", None, Ok(())),
            ("ARG BASE\nFROM $BASE\nRUN a \\\n# FROM x\n  b\n", None, Ok(())),
            ("ARG BASE\nFROM a AS a\n", None, other("a", 2)),
        ];
        for (text, target, expected) in table {
            assert_eq!(check(text, target), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(FROM|ARG|RUN|BASE|[ \\\\\n<#a$\"'{}])*", target in proptest::option::of(".*")) {
            let _ = check(&text, target.as_deref());
        }
    }
}
