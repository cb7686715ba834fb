//! `files` steps, assembled natively: entries + deletions + the base's [`Index`] → a layer. No container,
//! milliseconds.
//!
//! Entries follow the links of the *image*: `bin/x` becomes `usr/bin/x` if the base has `/bin → usr/bin`;
//! links are resolved inside the root, as chroot would. Parent directories come with the base's own mode and
//! owner, because a layer that names a directory also sets its metadata. So do entries that replace others,
//! unless their mode and owner are declared. Planning is pure ([`plan`]); writing
//! follows the plan ([`write`]).

mod planner;
mod replaced;
mod resolve;

use std::io::{Read, Seek, SeekFrom};

use crate::index::Index;
use crate::layer::{Entry, LayerError, LayerWriter, read_entries};

pub use planner::{Operation, Plan, plan};

/// Why files cannot be copied into an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A file or link in the place of a directory.
    #[error("cannot copy `{path}`: it is a {kind}, but the image has a directory at `/{found}`")]
    ReplacesDirectory {
        /// The entry as declared.
        path: String,
        /// `file` or `link`.
        kind: &'static str,
        /// The directory.
        found: String,
    },
    /// A file in the place of a link to a directory, such as /lib.
    #[error(
        "cannot copy `{path}`: it is a file, but the image has a link at `/{link}` to the directory `/{found}`"
    )]
    ReplacesLink {
        /// The entry as declared.
        path: String,
        /// The link.
        link: String,
        /// The directory.
        found: String,
    },
    /// A directory in the place of a file.
    #[error("cannot copy `{path}`: the image has a file at `/{found}`, not a directory")]
    ReplacesFile {
        /// The entry as declared.
        path: String,
        /// The file.
        found: String,
    },
    /// A link of the image with an unusable target, or a circular one.
    #[error("cannot copy `{path}`: the image's link `/{link}` {problem}")]
    BadLink {
        /// The entry as declared.
        path: String,
        /// The link.
        link: String,
        /// The link's fault.
        problem: &'static str,
    },
    /// A hard link to a file of another layer.
    #[error(
        "cannot copy `{path}`: it is a hard link to `{target}`, which is not an earlier file of the same step"
    )]
    HardLink {
        /// The entry as declared.
        path: String,
        /// Its target.
        target: String,
    },
    /// A name with a special meaning in layers (image-spec, `layer.md`, "Whiteouts").
    #[error("cannot copy `{path}`: names that start with `.wh.` mark deletions in image layers")]
    Reserved {
        /// The entry as declared.
        path: String,
    },
    /// A deletion of the root, or outside of it.
    #[error("cannot delete `{path}`: expected a path inside the image without `..`")]
    BadDeletion {
        /// The path as declared.
        path: String,
    },
}

impl FilesError {
    /// The next action, in the imperative.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ReplacesDirectory { .. } | Self::ReplacesLink { .. } | Self::ReplacesFile { .. } => {
                "rename it, or add the image's path to `delete:` of this step"
            }
            Self::BadLink { .. } => "write the path that the link should point to",
            Self::HardLink { .. } => "use a symbolic link or a copy",
            Self::Reserved { .. } => "rename it; to delete a path of the image, use `delete:`",
            Self::BadDeletion { .. } => "write the path of a file or folder, such as etc/motd",
        }
    }
}

/// Why a `files` layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The files conflict with the image.
    #[error("cannot copy the files into the image")]
    Files(#[from] FilesError),
    /// Reading or writing failed.
    #[error("cannot write the layer of the files step")]
    Layer(#[from] LayerError),
}

/// Writes a `files` step's layer: `entries` is its tar (read twice), `delete` its deletions, `base` the
/// entries of the layers below it. Returns notes for the log: deletions of paths that do not exist. Blocking.
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
    let warnings = replaced::take_over(&mut described, delete, base);
    let mut plan = plan(&described, delete, base)?;
    plan.notes.extend(warnings);
    entries.seek(SeekFrom::Start(0)).map_err(LayerError::Read)?;
    let mut operations = plan.operations.iter().peekable();
    let mut position = 0;
    read_entries(&mut *entries, |read, content| {
        let entry = described.get(position).unwrap_or(&read);
        while let Some(operation) = operations.peek() {
            let ends = matches!(operation, Operation::Entry { source, .. } if *source > position);
            if ends {
                break;
            }
            write_operation(operation, entry, content, writer)?;
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

/// Where `path` is in an image: its links are followed, inside of its root. None if it leads through a file
/// or a circular link.
pub fn real_place(image: &Index, path: &str) -> Option<String> {
    resolve::place(image, path)
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
