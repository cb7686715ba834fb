//! What the tests work with: a folder of their own, git repositories in it, and the command.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewright_process::{Command, Finished};
use edgewright_testkit::tools;
use serde_json::Value;

use crate::schemas;

/// The command under test.
pub(crate) const EDGEWRIGHT: &str = env!("CARGO_BIN_EXE_edgewright");
/// How long anything may take that is waited for: machines may be busy, and jobs give way to all else.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// Looks again and again until there is something, or panics.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A run of the command that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Ended {
    /// Its output as a document, which must be as the document's published schema describes it.
    pub(crate) fn json(&self) -> Value {
        schemas::validated(&self.out)
    }

    /// The error of a command with `--json`: the last line of standard error.
    pub(crate) fn error(&self) -> Value {
        schemas::validated(self.errors.lines().last().unwrap_or_default())
    }

    /// Asserts the exit code.
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.errors);
        self
    }
}

/// Calls the command in a folder; nothing of the user's has an influence.
pub(crate) async fn edgewright(folder: &Path, arguments: &[&str]) -> Ended {
    edgewright_within(folder, arguments, PATIENCE).await
}

/// The same with another time limit.
pub(crate) async fn edgewright_within(folder: &Path, arguments: &[&str], limit: Duration) -> Ended {
    let finished: Finished = Command::new(EDGEWRIGHT)
        .args(arguments.iter().copied())
        .cwd(folder)
        .env("HOME", folder)
        .env("EDGEWRIGHT_DATA", folder.join("data"))
        .env(tools().0, tools().1)
        .deadline(limit)
        .run_status()
        .await
        .unwrap();
    Ended {
        code: finished.code().unwrap_or(-1),
        errors: finished.output.stderr_tail.join("\n"),
        out: String::from_utf8(finished.output.stdout).unwrap(),
    }
}

/// A git repository with a working tree.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) folder: PathBuf,
}

impl Repository {
    /// A new one, empty.
    pub(crate) async fn make(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let repository = Self { folder };
        repository.git(&["init", "--quiet", "--initial-branch=main"]).await;
        repository
    }

    /// A source of files alone: `base`, and `hmi` for each of the sites.
    pub(crate) async fn plants(folder: PathBuf, sites: &[&str]) -> Self {
        let repository = Self::make(folder).await;
        repository.write("edgewright.yaml", "edgewright: 1\nname: plants\n");
        repository.write("images/base/image.yaml", "from: scratch\nsteps: [files: files/]\ntest: none\n");
        repository.write("images/base/files/etc/base", "base\n");
        let hmi = "from: base\nper: site\nsteps: [files: files/]\ntest: none\n";
        repository.write("images/hmi/image.yaml", hmi);
        repository.write("images/hmi/files/etc/hmi", "hmi\n");
        for site in sites {
            repository.site(site);
        }
        repository.commit("first").await;
        repository
    }

    /// Adds a site.
    pub(crate) fn site(&self, name: &str) {
        let text = format!("id: s-{name}\nslots: [{{id: one, image: hmi}}]\n");
        self.write(&format!("sites/{name}/site.yaml"), &text);
        self.write(&format!("sites/{name}/files/etc/site"), format!("{name}\n"));
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits all that is there; gives the commit.
    pub(crate) async fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]).await;
        self.git(&["rev-parse", "HEAD"]).await
    }

    /// Calls git.
    pub(crate) async fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git").args(arguments.iter().copied()).cwd(&self.folder);
        for (name, value) in
            [("NAME", "Test"), ("EMAIL", "test@example.org"), ("DATE", "2026-01-01T00:00:00Z")]
        {
            command = command.env(format!("GIT_AUTHOR_{name}"), value);
            command = command.env(format!("GIT_COMMITTER_{name}"), value);
        }
        let command = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.run().await.unwrap_or_else(|error| panic!("{error:?}")).text()
    }

    /// Its path as an argument.
    pub(crate) fn url(&self) -> &str {
        self.folder.to_str().unwrap()
    }
}

/// All files of a folder with their sizes, for comparing.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path, entry.metadata().map_or(0, |metadata| metadata.len()));
        }
    }
    found
}
