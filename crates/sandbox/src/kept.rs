//! Sandboxes that outlive their job, so that one can look at the machine in them.
//!
//! ```text
//! FOLDER/BUNDLE/kept.json   what is in it, and how its runtime is started
//! FOLDER/BUNDLE/state       the runtime's state, by which it is entered
//! ```
//!
//! The runtime of such a sandbox is gone, its first process stays. [`crate::Sandbox::clear`] leaves it alone:
//! it ends when it is removed, or with the host.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SandboxError;
use crate::cgroup::{Cgroups, Folders};
use crate::launch::{PROGRAM, prefix};

/// The file in the bundle of a kept sandbox.
const FILE: &str = "kept.json";

/// Enters cgroups and starts a command. `$1`: how many files of cgroups follow; those; the command line.
const ENTER: &str = r#"
count=$1; shift
while [ "$count" -gt 0 ]; do echo 0 > "$1" || exit 70; shift; count=$((count - 1)); done
exec "$@"
"#;

/// What is noted of a kept sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Its name, and that of its cgroups.
    name: String,
    /// What is in it, for its user.
    label: String,
    /// The words that start its runtime.
    runtime: Vec<String>,
    cgroups: Folders,
}

/// Notes a sandbox in its bundle. What runs in its cgroups stays; if this fails, it is killed.
pub(crate) fn note(
    bundle: &Path,
    (name, label): (String, &str),
    runtime: &[OsString],
    cgroups: Cgroups,
) -> Result<(), SandboxError> {
    let runtime = runtime.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let note = Note { name, label: label.to_owned(), runtime, cgroups: cgroups.release() };
    let path = bundle.join(FILE);
    let written = serde_json::to_vec(&note).map_err(io::Error::other);
    let written = written.and_then(|bytes| fs::write(&path, bytes));
    written.map_err(|error| {
        note.cgroups.clear();
        SandboxError::io("write", &path)(error)
    })
}

/// A sandbox that outlived its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSandbox {
    bundle: PathBuf,
    note: Note,
}

/// The kept sandboxes of a folder, by label. It blocks.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<KeptSandbox>, SandboxError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(SandboxError::io("read", folder))?,
    };
    let read = |entry: fs::DirEntry| {
        let bundle = entry.path();
        let note = serde_json::from_slice(&fs::read(bundle.join(FILE)).ok()?).ok()?;
        Some(KeptSandbox { bundle, note })
    };
    let mut kept: Vec<KeptSandbox> = entries.flatten().filter_map(read).collect();
    kept.sort_by(|a, b| a.note.label.cmp(&b.note.label));
    Ok(kept)
}

/// Ends the sandboxes of a folder that are not kept, and removes their files; how many still ran.
pub(crate) fn clear_others(folder: &Path) -> usize {
    let kept = list(folder).unwrap_or_default();
    let cleared = Cgroups::clear(&prefix(folder), &|name| kept.iter().all(|kept| kept.note.name != name));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if kept.iter().all(|kept| kept.bundle != entry.path()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    cleared
}

impl KeptSandbox {
    /// What is in it.
    pub fn label(&self) -> &str {
        &self.note.label
    }

    /// Whether it still runs: it does not after a restart of the host.
    pub fn runs(&self) -> bool {
        self.note.cgroups.are_populated()
    }

    /// The words that run Edgewright with these arguments in it, and in its cgroups: from elsewhere, no
    /// process gets into those of a container in it.
    pub fn entry(&self, arguments: &[OsString], is_terminal: bool) -> Vec<OsString> {
        let entrances = self.note.cgroups.entrances();
        let mut words: Vec<OsString> = ["/bin/sh", "-c", ENTER, "sh"].map(OsString::from).into();
        words.push(entrances.len().to_string().into());
        words.extend(entrances.into_iter().map(OsString::from));
        words.extend(self.note.runtime.iter().map(OsString::from));
        words.push("--root".into());
        words.push(self.bundle.join("state").into());
        words.extend(["--cgroup-manager=disabled", "exec"].map(OsString::from));
        if is_terminal {
            words.push("--tty".into());
        }
        words.push(self.note.name.clone().into());
        words.push(PROGRAM.into());
        words.extend_from_slice(arguments);
        words
    }

    /// Kills what runs in it, and removes its files. It blocks.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub fn remove(&self) -> Result<(), SandboxError> {
        self.note.cgroups.clone().clear();
        match fs::remove_dir_all(&self.bundle) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SandboxError::io("remove", &self.bundle)(error))
            }
            _ => Ok(()),
        }
    }
}
