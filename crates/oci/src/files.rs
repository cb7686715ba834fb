//! `files` steps, assembled natively: entries + deletions + the base's [`Index`] → a layer. No container, milliseconds.
//!
//! Entries are laid where the *image* says: `bin/x` lands in `usr/bin/x` where the base has `/bin → usr/bin`; links are
//! resolved inside the root, as chroot would. Parent directories come with the base's own mode and owner, because a layer
//! that names a directory also sets its metadata. Planning is pure ([`plan`]); writing follows the plan ([`write`]).

mod planner;
mod resolve;

use std::io::{Read, Seek, SeekFrom};

use crate::index::Index;
use crate::layer::{Entry, LayerError, LayerWriter, read_entries};

pub use planner::{Operation, Plan, plan};

/// Why files cannot be laid over an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A file or link in the place of a directory.
    #[error("`{path}` is a {kind} here, but a directory in the image below (`/{found}`)")]
    ReplacesDirectory {
        /// The entry as declared.
        path: String,
        /// `file` or `link`.
        kind: &'static str,
        /// The directory.
        found: String,
    },
    /// A directory in the place of a file.
    #[error("`{path}` is a directory here, but not in the image below, where `/{found}` is a file")]
    ReplacesFile {
        /// The entry as declared.
        path: String,
        /// The file.
        found: String,
    },
    /// A link of the image that leads nowhere, or round in circles.
    #[error("`{path}` cannot be placed: the image's link `/{link}` {problem}")]
    BadLink {
        /// The entry as declared.
        path: String,
        /// The link.
        link: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A hard link to a file of another layer.
    #[error("`{path}` is a hard link to `{target}`, which is no earlier file of the same step")]
    HardLink {
        /// The entry as declared.
        path: String,
        /// Its target.
        target: String,
    },
    /// A name that means something else in a layer.
    #[error("`{path}` cannot be laid over: names that begin with `.wh.` mean deletions in image layers")]
    Reserved {
        /// The entry as declared.
        path: String,
    },
    /// A deletion of the root, or outside of it.
    #[error("`{path}` cannot be deleted: want a path inside the image without `..`")]
    BadDeletion {
        /// The path as declared.
        path: String,
    },
}

impl FilesError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ReplacesDirectory { .. } | Self::ReplacesFile { .. } => {
                "rename it, or add the image's path to `delete:` of this step first"
            }
            Self::BadLink { .. } => "write the path that the link should lead to instead",
            Self::HardLink { .. } => "use a symbolic link or a copy",
            Self::Reserved { .. } => "rename it; to delete a path of the image use `delete:`",
            Self::BadDeletion { .. } => "name a file or folder such as etc/motd",
        }
    }
}

/// Why a `files` layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The files do not fit the image.
    #[error("the files do not fit the image")]
    Files(#[from] FilesError),
    /// Reading or writing failed.
    #[error("the layer of files could not be made")]
    Layer(#[from] LayerError),
}

/// Writes a `files` step's layer: `entries` is its tar (read twice), `delete` its deletions, `base` what the layers below
/// hold. Gives notes for people: deletions of what is not there. Blocking.
pub fn write(
    entries: &mut (impl Read + Seek),
    delete: &[String],
    base: &Index,
    writer: &mut LayerWriter,
) -> Result<Vec<String>, WriteError> {
    let mut described = Vec::new();
    read_entries(&mut *entries, |entry, _| {
        described.push(entry);
        Ok(())
    })?;
    let plan = plan(&described, delete, base)?;
    entries.seek(SeekFrom::Start(0)).map_err(LayerError::Read)?;
    let mut operations = plan.operations.iter().peekable();
    let mut position = 0;
    read_entries(&mut *entries, |entry, content| {
        while let Some(operation) = operations.peek() {
            let ends = matches!(operation, Operation::Entry { source, .. } if *source > position);
            if ends {
                break;
            }
            write_operation(operation, &entry, content, writer)?;
            operations.next();
        }
        position += 1;
        Ok(())
    })?;
    // Without entries there are only deletions.
    for operation in operations {
        write_operation(
            operation,
            &Entry::new("", crate::layer::Kind::File, 0),
            &mut std::io::empty(),
            writer,
        )?;
    }
    Ok(plan.notes)
}

fn write_operation(
    operation: &Operation,
    source: &Entry,
    content: &mut dyn Read,
    writer: &mut LayerWriter,
) -> Result<(), LayerError> {
    match operation {
        Operation::Add(entry) => writer.append(entry, &mut std::io::empty()),
        Operation::Entry { path, link, .. } => {
            let mut entry = source.clone();
            entry.path = path.clone().into_bytes();
            if let Some(link) = link {
                entry.link = link.clone().into_bytes();
            }
            writer.append(&entry, content)
        }
    }
}

#[cfg(test)]
mod tests;
