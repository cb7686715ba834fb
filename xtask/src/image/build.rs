//! The source with the program in it, and runs of it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::command::Run;
use crate::demo::source::Source;
use crate::{setup, workspace};

/// Where the program is in the source.
const PROGRAM: &str = "images/edgewright/files/usr/bin/edgewright";
/// The lock of the image in the source.
const LOCK: &str = "images/edgewright/edgewright.lock";
/// The definition, which names the packages.
const DEFINITION: &str = "images/edgewright/image.yaml";
/// The variant.
const VARIANT: &str = "edgewright";

/// The folders of `target/image`, or of another folder.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// A copy of the program, as it is in the image: it builds the image, too.
    program: PathBuf,
    source: PathBuf,
    tools: PathBuf,
}

/// An image in a data folder.
#[derive(Debug)]
pub(super) struct Built {
    /// The data folder.
    pub(super) data: PathBuf,
    /// Its repository in that folder's registry.
    pub(super) repository: String,
    /// The digest of its manifest.
    pub(super) digest: String,
}

impl Place {
    /// Lays out the source in a folder. What earlier builds left in data folders stays: steps that did not
    /// change are not built again.
    pub(super) fn prepare(root: PathBuf, program: &Path) -> anyhow::Result<Self> {
        let source = root.join("source");
        let lock = kept_lock(&source)?;
        Run::new("rm").args(["--recursive", "--force"]).arg(&source).run()?;
        std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        Run::new("cp").args(["-a", "--no-target-directory"]).arg(deploy()).arg(&source).run()?;
        let inside = source.join(PROGRAM);
        if let Some(folder) = inside.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Most of a program is for debuggers.
        let strip = Run::new("strip").arg("--strip-debug").arg("-o").arg(&inside).arg(program);
        strip.run().with_context(|| format!("cannot copy {}", program.display()))?;
        if let Some(lock) = lock {
            std::fs::write(source.join(LOCK), lock)?;
        }
        let copy = root.join("edgewright");
        std::fs::copy(&inside, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        let tools = setup::tool_image(&copy)?;
        Run::new("git").args(["init", "--quiet", "--initial-branch=main"]).arg(&source).run()?;
        Ok(Self { root, program: copy, source, tools })
    }

    /// Takes the versions of packages from a file.
    pub(super) fn use_lock(&self, file: &Path) -> anyhow::Result<()> {
        let to = self.source.join(LOCK);
        std::fs::copy(file, to).map(drop).with_context(|| format!("cannot read {}", file.display()))
    }

    /// Resolves the versions of packages, if that was not done before or is wanted.
    pub(super) fn lock(&self, is_update: bool) -> anyhow::Result<()> {
        if self.source.join(LOCK).is_file() && !is_update {
            return Ok(());
        }
        println!("image: resolving the newest packages");
        self.edgewright(&["update", "--write", "--dir"])?.arg(&self.source).args(self.work("data")).run()
    }

    /// Puts a copy of the lock beside the archive.
    pub(super) fn keep_lock(&self, to: &Path) -> anyhow::Result<()> {
        let copied = std::fs::copy(self.source.join(LOCK), to);
        copied.map(drop).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Commits the source as it is now: only committed files are released.
    pub(super) fn commit(&self) -> anyhow::Result<()> {
        Source::open(&self.source).commit("image").map(drop)
    }

    /// Builds and tests it with a data folder of this name.
    pub(super) fn build(&self, name: &str) -> anyhow::Result<Built> {
        self.edgewright(&["run"])?.arg(&self.source).args(self.work(name)).run()?;
        let data = self.root.join(name);
        let shown = self.edgewright(&["image", "show", VARIANT, "--json", "--data"])?.arg(&data).output()?;
        let view: Value = serde_json::from_str(&shown).context("`image show` printed no JSON")?;
        let text = |field: &str| {
            let text = view[field].as_str().map(str::to_owned);
            text.with_context(|| format!("the run left no `{field}` of the image in {}", data.display()))
        };
        Ok(Built { repository: text("repository")?, digest: text("digest")?, data })
    }

    /// Removes a data folder that has grown beyond this size: each version of the program adds to it.
    pub(super) fn clear_above(&self, name: &str, limit: u64) -> anyhow::Result<()> {
        let data = self.root.join(name);
        if !data.exists() {
            return Ok(());
        }
        let used = Run::as_root("du")?.args(["--summarize", "--bytes"]).arg(&data).output()?;
        let used = used.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        if used.context("`du` printed no number")? > limit { self.clear(name) } else { Ok(()) }
    }

    /// Removes a data folder.
    pub(super) fn clear(&self, name: &str) -> anyhow::Result<()> {
        Run::as_root("rm")?.args(["--recursive", "--force"]).arg(self.root.join(name)).run()
    }

    /// A command of the program that is in the image.
    pub(super) fn edgewright(&self, words: &[&str]) -> anyhow::Result<Run> {
        Ok(Run::as_root(&self.program)?.args(words))
    }

    /// Where the log of the server is written to.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Where the layout of the archive is put together.
    pub(super) fn layout(&self) -> PathBuf {
        self.root.join("layout")
    }

    /// The options of commands that start jobs.
    fn work(&self, name: &str) -> [PathBuf; 4] {
        ["--data".into(), self.root.join(name), "--tools".into(), self.tools.clone()]
    }
}

/// The folder of the source in this repository.
fn deploy() -> PathBuf {
    workspace::root().join("deploy/image")
}

/// The lock of the image before, if it is one of the same definition.
fn kept_lock(source: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let Ok(lock) = std::fs::read(source.join(LOCK)) else { return Ok(None) };
    let before = std::fs::read(source.join(DEFINITION)).unwrap_or_default();
    let now = std::fs::read(deploy().join(DEFINITION)).context("cannot read the image's definition")?;
    Ok((before == now).then_some(lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs need the same programs in a sandbox and in a Pod.
    #[test]
    fn the_image_has_all_packages_of_the_tool_image() {
        let tools = std::fs::read_to_string(workspace::root().join("crates/sandbox/src/tools.rs")).unwrap();
        let (_, list) = tools.split_once("PACKAGES: [&str;").unwrap();
        let (list, _) = list.split_once("];").unwrap();
        let packages: Vec<&str> = list.lines().filter_map(|line| line.trim().strip_prefix('"')).collect();
        assert!(packages.len() > 10, "{packages:?}");
        let definition = std::fs::read_to_string(deploy().join(DEFINITION)).unwrap();
        for package in packages {
            let item = format!("- {}\n", package.trim_end_matches(['"', ',']));
            assert!(definition.contains(&item), "image.yaml has no line `{}`", item.trim());
        }
    }

    #[test]
    fn a_lock_of_another_definition_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path();
        std::fs::create_dir_all(source.join("images/edgewright")).unwrap();
        assert_eq!(kept_lock(source).unwrap(), None);
        std::fs::write(source.join(LOCK), "{}").unwrap();
        assert_eq!(kept_lock(source).unwrap(), None);
        std::fs::copy(deploy().join(DEFINITION), source.join(DEFINITION)).unwrap();
        assert_eq!(kept_lock(source).unwrap().as_deref(), Some(&b"{}"[..]));
    }
}
