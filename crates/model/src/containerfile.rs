//! Containerfiles: the one reader of their text.
//!
//! ```text
//! text ─▶ read: instructions ─▶ resolve: stages, and what each one uses ─▶ rewrite: text for buildah
//! ```
//!
//! `format` reports the faults, `plan` locks the images, and the job gives buildah a text without anything
//! that buildah would have to look up. All three read with the same code, so they agree about which lines are
//! instructions. Where Docker and buildah read differently, the reader follows buildah, which runs it.
//!
//! Own code, because the parsers on crates.io know here-documents only at the beginning of an instruction
//! (`parse-dockerfile`), with the mark `EOF` (`dockerfile-parser-rs`), or not at all (`dockerfile-parser`).

mod expand;
mod lines;
mod preprocessed;
mod reference;
mod resolve;
mod rewrite;
mod scope;
mod sources;
mod stage;
mod words;

pub use lines::{Containerfile, HereDocument, Instruction, read};
pub use preprocessed::{PREPROCESSED, is_preprocessed, preprocess_hint};
pub use reference::ForeignImage;
pub use resolve::{MAX_FOREIGN_IMAGES, Resolved, resolve, stage_image};
pub use rewrite::rewrite;
pub use sources::context_sources;
pub use stage::{Inputs, Origin, Stage, Use, root, stages};

/// The argument that names the image of the step before.
pub const BASE: &str = "BASE";

/// Why a Containerfile cannot be a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// The next action, in the imperative.
    pub hint: String,
}

impl Fault {
    pub(crate) fn new(line: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { line, message: message.into(), hint: hint.into() }
    }
}

/// Every instruction, in order.
pub fn instructions(text: &str) -> Vec<Instruction> {
    read(text).instructions
}

#[cfg(test)]
mod tests;
