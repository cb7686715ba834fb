//! The values of `ARG` and `ENV` while a Containerfile is read.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::expand::{ExpandError, expand};
use super::stage::Inputs;
use super::{BASE, Instruction};
use crate::names::Platform;

/// Maximum length of all values of a Containerfile's arguments together, expanded, in bytes.
const MAX_CONTAINERFILE_VALUES: usize = 1024 * 1024;

/// The value of `BASE`: no text of a file gives an image this name.
pub(super) const BASE_VALUE: &str = "\0BASE";

/// Variables of the part before the first `FROM`, or of a stage.
pub(super) struct Scope<'a> {
    escape: char,
    inputs: &'a Inputs<'a>,
    /// Whether `BASE` is the step before; else it is an argument like others.
    is_step: bool,
    /// What variables outside of this scope an `ARG` takes over.
    outer: Option<&'a Scope<'a>>,
    values: BTreeMap<String, String>,
    /// How many bytes all values may still have; shared by all scopes of a file.
    left: &'a Cell<usize>,
}

impl<'a> Scope<'a> {
    /// The part before the first `FROM`: platforms are known there without `ARG`.
    pub(super) fn global(escape: char, inputs: &'a Inputs<'a>, left: &'a Cell<usize>) -> Self {
        Self::before_stages(escape, inputs, true, left)
    }

    /// The part before the first `FROM` of a file that is not a step: `BASE` means nothing there.
    pub(super) fn of_whole_image(escape: char, inputs: &'a Inputs<'a>, left: &'a Cell<usize>) -> Self {
        Self::before_stages(escape, inputs, false, left)
    }

    fn before_stages(escape: char, inputs: &'a Inputs<'a>, is_step: bool, left: &'a Cell<usize>) -> Self {
        let mut scope = Self { escape, inputs, is_step, outer: None, values: BTreeMap::new(), left };
        for side in ["TARGET", "BUILD"] {
            for part in ["PLATFORM", "OS", "ARCH", "VARIANT"] {
                let name = format!("{side}{part}");
                if let Some(value) = scope.given(&name) {
                    scope.values.insert(name, value);
                }
            }
        }
        scope
    }

    pub(super) fn of_stage(global: &'a Scope<'a>) -> Self {
        Self {
            escape: global.escape,
            inputs: global.inputs,
            is_step: global.is_step,
            outer: Some(global),
            values: BTreeMap::new(),
            left: global.left,
        }
    }

    /// The bytes that all values may have.
    pub(super) const fn budget() -> Cell<usize> {
        Cell::new(MAX_CONTAINERFILE_VALUES)
    }

    /// The platform of the image.
    pub(super) const fn platform(&self) -> &Platform {
        self.inputs.platform
    }

    /// Expands a word.
    pub(super) fn expand(&self, word: &str) -> Result<String, ExpandError> {
        let value = |name: &str| self.values.get(name).cloned();
        let text = expand(word, self.escape, self.left.get(), &value)?;
        self.left.set(self.left.get().saturating_sub(text.len()));
        Ok(text)
    }

    /// The value that does not come from the file. Stages run on the variant's platform, so it is the build's
    /// platform as well.
    fn given(&self, name: &str) -> Option<String> {
        if self.is_step && name == BASE {
            return Some(BASE_VALUE.to_owned());
        }
        if let Some(value) = self.inputs.args.get(name) {
            return Some(value.clone());
        }
        let platform = self.inputs.platform;
        match name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"))? {
            "PLATFORM" => Some(platform.to_string()),
            "OS" => Some(platform.os.clone()),
            "ARCH" => Some(platform.architecture.clone()),
            "VARIANT" => Some(platform.variant.clone().unwrap_or_default()),
            _ => None,
        }
    }

    /// Takes over an `ARG` or `ENV`. A value that cannot be expanded is left out: only a name of an image
    /// that needs it is a fault.
    pub(super) fn apply(&mut self, instruction: &Instruction) {
        match instruction.keyword.as_str() {
            "ARG" => instruction.words.iter().for_each(|word| self.declare(word)),
            "ENV" => self.environment(instruction),
            _ => {}
        }
    }

    fn declare(&mut self, word: &str) {
        let (name, default) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let name = name.trim_matches(['"', '\'']);
        let own = || default.and_then(|default| self.expand(default).ok());
        let outer = || self.outer.and_then(|outer| outer.values.get(name).cloned());
        match self.given(name).or_else(own).or_else(outer) {
            Some(value) => drop(self.values.insert(name.to_owned(), value)),
            None => drop(self.values.remove(name)),
        }
    }

    fn environment(&mut self, instruction: &Instruction) {
        let Some(first) = instruction.words.first() else { return };
        // `ENV NAME VALUE` is the old form.
        if !first.contains('=') {
            let value = instruction.arguments.get(first.len()..).map(str::trim).unwrap_or_default();
            self.set(first, value);
            return;
        }
        for (name, value) in instruction.words.iter().filter_map(|word| word.split_once('=')) {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.expand(value) {
            Ok(value) => drop(self.values.insert(name.to_owned(), value)),
            Err(_) => drop(self.values.remove(name)),
        }
    }
}
