//! Checks that a Containerfile can be a step: its final stage is based on `${BASE}`.

use edgewright_model::containerfile::{instructions, root, stages};

/// Why a Containerfile cannot be a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerfileError {
    /// There is no stage.
    #[error("the Containerfile has no FROM")]
    NoStage,
    /// There is no such stage.
    #[error("the Containerfile has no stage `{0}`")]
    NoTarget(String),
    /// The final stage has another base.
    #[error("the Containerfile's final stage is FROM {found} (line {line}), not FROM ${{BASE}}")]
    OtherBase {
        /// Its base.
        found: String,
        /// Its line, from 1.
        line: usize,
    },
    /// `BASE` is used, but not declared before the first stage.
    #[error("the Containerfile uses ${{BASE}} without `ARG BASE` before its first FROM")]
    Undeclared,
}

impl ContainerfileError {
    /// The next action, in the imperative.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoTarget(_) => "check `target:` of the step against the `AS` names",
            _ => {
                "begin with `ARG BASE` and make the final stage `FROM ${BASE}`: the image of the step before"
            }
        }
    }
}

/// Checks that the final stage (or `target`) is based on `${BASE}`, directly or through other stages.
pub fn check(text: &str, target: Option<&str>) -> Result<(), ContainerfileError> {
    let instructions = instructions(text);
    let stages = stages(&instructions);
    let before = instructions.iter().take_while(|instruction| instruction.keyword != "FROM");
    let mut declared = before.filter(|instruction| instruction.keyword == "ARG").flat_map(|it| &it.words);
    let is_declared = declared.any(|word| word == "BASE" || word.starts_with("BASE="));
    let position = match target {
        None => stages.len().checked_sub(1).ok_or(ContainerfileError::NoStage)?,
        Some(target) => stages
            .iter()
            .position(|stage| stage.is_named(target))
            .or_else(|| target.parse().ok().filter(|number| *number < stages.len()))
            .ok_or_else(|| ContainerfileError::NoTarget(target.to_owned()))?,
    };
    let stage = root(&stages, position).ok_or(ContainerfileError::NoStage)?;
    if !matches!(stage.from.as_str(), "${BASE}" | "$BASE") {
        return Err(ContainerfileError::OtherBase { found: stage.from.clone(), line: stage.line });
    }
    if is_declared { Ok(()) } else { Err(ContainerfileError::Undeclared) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_final_stage_must_be_based_on_base() {
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
