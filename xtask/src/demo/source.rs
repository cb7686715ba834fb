//! The demo's git repository: made by `edgewright init`, changed by commits with an identity of its own.

use std::path::Path;

use anyhow::ensure;

use crate::command::Run;

/// A repository with a work tree.
#[derive(Debug)]
pub(crate) struct Source<'a>(&'a Path);

impl<'a> Source<'a> {
    /// The repository that `edgewright init` made.
    pub(crate) fn open(folder: &'a Path) -> Self {
        Self(folder)
    }

    /// Replaces a text in a file and commits that. Gives the commit.
    pub(crate) fn change(&self, file: &str, from: &str, to: &str, message: &str) -> anyhow::Result<String> {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(
            text.contains(from),
            "the sample's {file} does not contain `{from}`: the demo must follow it"
        );
        std::fs::write(&path, text.replace(from, to))?;
        self.commit(message)
    }

    /// What the last commit changed, as people look at it.
    pub(crate) fn last_change(&self) -> anyhow::Result<String> {
        let shown = self.git(&["show", "--format=%h %s", "--unified=0", "--no-prefix", "HEAD"])?;
        let is_worth = |line: &&str| {
            !["diff ", "index ", "---", "@@"].iter().any(|start| line.starts_with(start)) && !line.is_empty()
        };
        Ok(shown.lines().filter(is_worth).collect::<Vec<_>>().join("\n"))
    }

    /// The newest commit.
    pub(crate) fn head(&self) -> anyhow::Result<String> {
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Takes the last commit back by a new one. Gives the commit.
    pub(crate) fn revert(&self) -> anyhow::Result<String> {
        self.git(&["revert", "--no-edit", "HEAD"])?;
        self.head()
    }

    /// Commits what is in the work tree. Gives the commit.
    pub(crate) fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])?;
        self.head()
    }

    /// git without the user's settings, hooks and keys.
    fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Run::new("git")
            .args(["-c", "user.name=Edgewright demo", "-c", "user.email=demo@example.org"])
            .args(["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .cwd(self.0)
            .output()
    }
}
