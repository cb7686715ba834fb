//! A sandbox with its own git repositories.

use std::path::PathBuf;

use edgewright_model::names::CommitId;
use edgewright_process::{Command, ProcessContext};
use edgewright_source::{Git, Remote};

pub(crate) struct Sandbox {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) git: Git,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::open(&folder.path().join("home"), ProcessContext::default()).unwrap();
        Self { folder, git }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A repository with one commit that holds `README`.
    pub(crate) async fn repository(&self, name: &str) -> Upstream {
        let folder = self.path(name);
        let upstream = Upstream { folder };
        std::fs::create_dir_all(&upstream.folder).unwrap();
        upstream.git(&["init", "--quiet", "--initial-branch=main"]).await;
        upstream.write("README", b"hello\n");
        upstream.commit("first").await;
        upstream
    }
}

pub(crate) struct Upstream {
    pub(crate) folder: PathBuf,
}

impl Upstream {
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) fn remote(&self) -> Remote {
        Remote::from_path(&self.folder).unwrap()
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) async fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, "").await
    }

    pub(crate) async fn git_with(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> String {
        let mut command = Command::new("git")
            .stdin_bytes(input)
            .arg("-C")
            .arg(&self.folder)
            .args(arguments)
            .env("HOME", "/nonexistent");
        for role in ["AUTHOR", "COMMITTER"] {
            command = command
                .env(format!("GIT_{role}_NAME"), "Ann Author")
                .env(format!("GIT_{role}_EMAIL"), "ann@example.org")
                .env(format!("GIT_{role}_DATE"), "2026-01-02T03:04:05Z");
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1").run().await.unwrap().text()
    }

    pub(crate) async fn commit(&self, subject: &str) -> CommitId {
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", subject]).await;
        self.git(&["rev-parse", "HEAD"]).await.parse().unwrap()
    }
}
