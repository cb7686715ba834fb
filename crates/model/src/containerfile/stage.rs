//! Stages, and where they come from.

use std::collections::BTreeMap;
use std::ops::Range;

use super::words::flags;
use super::{ForeignImage, Instruction};
use crate::names::Platform;

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
    /// The place of its `FROM` among all instructions, from 0.
    pub position: usize,
    /// The value of `--platform`, as written.
    pub platform: Option<String>,
}

impl Stage {
    /// Whether the stage has this name (case-insensitive).
    pub fn is_named(&self, name: &str) -> bool {
        self.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

/// What a Containerfile is read for.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The platform of the image.
    pub platform: &'a Platform,
    /// Build arguments, `BASE` excluded.
    pub args: &'a BTreeMap<String, String>,
    /// The stage to build; `None`: the last one.
    pub target: Option<&'a str>,
}

/// What a `FROM`, a `--from` or a `from=` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The image of the step before.
    Base,
    /// Nothing.
    Scratch,
    /// An earlier stage, by its place among the stages.
    Stage(usize),
    /// An image of a registry.
    Image(ForeignImage),
}

/// One mention of an image or a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The line of its instruction, from 1.
    pub line: usize,
    /// What is named.
    pub origin: Origin,
    /// The place of its instruction among all, from 0.
    pub(super) instruction: usize,
    /// The place in the instruction.
    pub(super) place: UsePlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UsePlace {
    /// The whole `FROM`.
    From,
    /// The bytes of the flag of a `COPY`.
    Copy(Range<usize>),
    /// The bytes of the flag of a `RUN`, and the options of the mount without `from`.
    Mount(Range<usize>, String),
}

/// Every stage, in order.
pub fn stages(instructions: &[Instruction]) -> Vec<Stage> {
    stages_with(instructions, '\\')
}

pub(super) fn stages_with(instructions: &[Instruction], escape: char) -> Vec<Stage> {
    let all = instructions.iter().enumerate();
    let froms = all.filter(|(_, instruction)| instruction.keyword == "FROM");
    froms
        .map(|(position, instruction)| {
            let (flags, behind) = flags(&instruction.arguments, escape);
            let platform = flags.into_iter().find(|flag| flag.name == "platform").map(|flag| flag.value);
            let mut words = instruction.arguments[behind..].split_whitespace();
            let from = words.next().map(|word| word.trim_matches('"').to_owned()).unwrap_or_default();
            let is_named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"));
            let name = if is_named { words.next().map(str::to_owned) } else { None };
            Stage { line: instruction.line, last: instruction.last, from, name, position, platform }
        })
        .collect()
}

/// The stage at the root of a stage's chain of `FROM`s: the stage itself, or an earlier one whose base is no
/// other stage. Variables are not expanded.
pub fn root(stages: &[Stage], position: usize) -> Option<&Stage> {
    let mut position = position;
    let mut stage = stages.get(position)?;
    // A stage can only start from an earlier one, so this ends.
    while let Some(earlier) = stages[..position].iter().rposition(|earlier| earlier.is_named(&stage.from)) {
        (position, stage) = (earlier, &stages[earlier]);
    }
    Some(stage)
}
