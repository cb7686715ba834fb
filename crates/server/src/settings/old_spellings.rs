//! Spellings of earlier releases: they work for one more release, with a warning that names the new one.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::described::Setting;

/// A key of a settings file that has a new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldSpelling {
    /// The settings file; none if the text has another origin.
    pub file: Option<PathBuf>,
    /// The line, from 1.
    pub line: usize,
    /// As written, such as `jobs.within`.
    pub old: String,
    /// As it should be written, such as `jobs.timeout`.
    pub new: String,
}

impl fmt::Display for OldSpelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or(Path::new("settings"));
        write!(f, "{}:{}: `{}` is now `{}`", file.display(), self.line, self.old, self.new)
    }
}

impl OldSpelling {
    /// Writes a warning to the log.
    pub(crate) fn warn(&self) {
        let file = self.file.as_deref().unwrap_or(Path::new("settings"));
        tracing::warn!(
            file.path = %file.display(),
            file.line = self.line,
            setting.old = self.old,
            setting.new = self.new,
            "deprecated setting; the old name will be removed in the next release"
        );
    }
}

/// The old spellings in a settings file that decodes; none in one that does not.
pub(super) fn find(text: &str, file: Option<&Path>, rows: &[Setting]) -> Vec<OldSpelling> {
    let Ok(document) = DeTable::parse(text) else { return Vec::new() };
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| !row.was.is_empty()) {
        for table in tables(document.get_ref(), row.table) {
            let Some((key, _)) = table.iter().find(|(key, _)| key.get_ref() == row.was) else { continue };
            let path = |name| {
                if row.table.is_empty() { String::from(name) } else { format!("{}.{name}", row.table) }
            };
            found.push(OldSpelling {
                file: file.map(Path::to_owned),
                line: line_at(text, key.span().start),
                old: path(row.was),
                new: path(row.key),
            });
        }
    }
    found.sort_by_key(|spelling| spelling.line);
    found
}

/// The tables at a path of keys; an array of tables counts as all of them.
fn tables<'d, 't>(root: &'d DeTable<'t>, path: &str) -> Vec<&'d DeTable<'t>> {
    let mut tables = vec![root];
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let values = tables.iter().filter_map(|table| table.get(name));
        tables = values
            .flat_map(|value| match value.get_ref() {
                DeValue::Table(table) => vec![table],
                DeValue::Array(values) => {
                    values.iter().filter_map(|value| value.get_ref().as_table()).collect()
                }
                _ => Vec::new(),
            })
            .collect();
    }
    tables
}

/// The line of a byte, from 1.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

/// The row of the key at a byte of a settings file that may be incomplete; none if that is not known.
pub(super) fn row_at<'r>(text: &str, byte: usize, rows: &'r [Setting]) -> Option<&'r Setting> {
    let start = text.get(..byte)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next()?;
    let key = line.split('=').next()?.trim().trim_matches('"');
    let header = text[..start].lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let table =
        header.map_or("", |line| line.split(']').next().unwrap_or(line).trim_start_matches('[').trim());
    rows.iter().find(|row| row.table == table && (row.key == key || row.was == key))
}
