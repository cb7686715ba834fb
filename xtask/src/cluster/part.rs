//! A part of what clusters are made of: a folder in the cache, made once by version.
//!
//! Makers of other checkouts wait. A folder with its final name is complete.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::usage;
use crate::command::Run;
use crate::test::shown;
use crate::workspace;

/// One part.
#[derive(Debug)]
pub(super) struct Part {
    /// What it is, for people.
    pub(super) title: String,
    name: &'static str,
    folder: PathBuf,
    budget: Duration,
}

/// The folder of all parts.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::cache()?.join("cluster"))
}

impl Part {
    /// The part of this hash. `budget`: what two cores with nothing else to do may take.
    pub(super) fn new(
        name: &'static str,
        title: String,
        hash: u64,
        budget: Duration,
    ) -> anyhow::Result<Self> {
        let folder = folder()?.join(format!("{name}-{hash:016x}"));
        Ok(Self { title, name, folder, budget })
    }

    /// Where a file of it is.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether it was made.
    pub(super) fn is_made(&self) -> bool {
        self.folder.is_dir()
    }

    /// Makes it, if it was not made: `make` fills an empty folder.
    pub(super) fn ensure(&self, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if self.is_made() {
            return Ok(());
        }
        let parent = self.folder.parent().context("the cache folder has no parent")?;
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let _lock = lock(&parent.join("lock"))?;
        if self.is_made() {
            return Ok(());
        }
        println!("cluster: making {} once; budget: {}", self.title, shown(self.budget));
        let (began, used) = (Instant::now(), usage::of_children()?);
        let prefix = format!("{}.new-", self.name);
        for entry in std::fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove(&entry.path())?;
            }
        }
        // A name of its own: programs of a killed maker may still write to theirs.
        let unfinished = parent.join(format!("{prefix}{}", std::process::id()));
        std::fs::create_dir(&unfinished)?;
        make(&unfinished).with_context(|| format!("cannot make {}", self.title))?;
        std::fs::rename(&unfinished, &self.folder)?;
        let (took, used) = (began.elapsed(), usage::of_children()?.saturating_sub(used));
        println!(
            "cluster: made {} in {} ({} of processor time): {} MB in {}",
            self.title,
            shown(took),
            shown(used),
            usage::bytes_below(&self.folder)? / 1_000_000,
            self.folder.display()
        );
        if took > self.budget {
            println!("warning: {} took longer than its budget", self.title);
        }
        Ok(())
    }
}

/// Holds the lock until the file is dropped. The kernel releases it when the process ends, however it ends.
pub(super) fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            println!("cluster: waiting for another process that holds {}", path.display());
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.lock()?;
    Ok(file)
}

/// Removes a folder of ours, also with files of root.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        Run::as_root("rm")?.args(["-rf", "--one-file-system"]).arg(folder).run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(folder: &Path) -> Part {
        let budget = Duration::from_mins(1);
        Part { title: "a part".to_owned(), name: "a", folder: folder.join("a-1"), budget }
    }

    #[test]
    fn a_part_is_made_once_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let part = part(folder.path());
        let failed = part.ensure(|unfinished| {
            std::fs::write(unfinished.join("half"), "1")?;
            anyhow::bail!("no network")
        });
        assert_eq!(format!("{:#}", failed.unwrap_err()), "cannot make a part: no network");
        assert!(!part.is_made());
        part.ensure(|unfinished| Ok(std::fs::write(unfinished.join("all"), "1")?)).unwrap();
        assert!(part.file("all").is_file() && !part.file("half").exists());
        part.ensure(|_| anyhow::bail!("made twice")).unwrap();
    }
}
