//! Warnings about files that are secrets by their place and that every user of the image could read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgewright_model::format::{Diagnostic, MAX_DIAGNOSTICS};
use edgewright_model::sensitive::is_readable_by_all;
use edgewright_model::tree::{Tree, TreePath};

use super::GraphBase;
use crate::step::{GraphStep, PlannedStep};
use crate::template::SUFFIX;

/// Files that most operating systems have: a replacement keeps their mode.
const COMMON: [&str; 3] = ["etc/gshadow", "etc/shadow", "etc/sudoers"];

/// The warnings of all variants, each once.
#[derive(Debug, Default)]
pub(super) struct Exposed {
    seen: BTreeSet<(TreePath, TreePath)>,
    warnings: Vec<Diagnostic>,
}

impl Exposed {
    /// Follows the sensitive files of a path from step to step: a file without a declared mode has the mode
    /// of the one that it replaces.
    pub(super) fn follow(&mut self, base: &GraphBase, path: &[Arc<GraphStep>], tree: &Tree) {
        let mut is_known = *base == GraphBase::Scratch;
        let mut readable: BTreeMap<&TreePath, bool> = BTreeMap::new();
        for step in path {
            let PlannedStep::Files { folder, listing, delete } = &*step.work else {
                is_known = false;
                continue;
            };
            let is_in = |path: &TreePath, gone: &String| {
                let rest = path.as_str().strip_prefix(gone.trim_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            readable.retain(|path, _| !delete.iter().any(|gone| is_in(path, gone)));
            for (path, mode) in listing.sensitive() {
                let is_new = is_known || !COMMON.contains(&path.as_str());
                let is_readable = match mode {
                    Some(mode) => is_readable_by_all(*mode),
                    None => readable.get(path).copied().unwrap_or(is_new),
                };
                readable.insert(path, is_readable);
                if is_readable {
                    self.warn(folder, path, *mode, tree);
                }
            }
        }
    }

    fn warn(&mut self, folder: &TreePath, path: &TreePath, mode: Option<u32>, tree: &Tree) {
        if self.warnings.len() >= MAX_DIAGNOSTICS || !self.seen.insert((folder.clone(), path.clone())) {
            return;
        }
        let plain = folder.join(path);
        let template = format!("{plain}{SUFFIX}").parse().ok().filter(|file| tree.entry(file).is_some());
        let why = match mode {
            Some(mode) => format!("mode {mode:04o} is declared"),
            None => "no mode is declared, so it has 0644 unless it replaces a file".to_owned(),
        };
        let hint = format!(
            "declare its mode, in the files step or below `files:` of site.yaml: modes: {{\"{path}\": \"0600\"}}"
        );
        self.warnings.push(Diagnostic {
            file: Some(template.unwrap_or(plain)),
            place: None,
            message: format!("every user of the image can read `/{path}`: {why}"),
            hint: Some(hint),
        });
    }

    pub(super) fn into_warnings(mut self) -> Vec<Diagnostic> {
        self.warnings.sort_by(|a, b| a.file.cmp(&b.file));
        self.warnings
    }
}
