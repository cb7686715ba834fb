//! A folder and a data folder in which examples run.

use std::path::{Path, PathBuf};

use edgewright_process::Command;
use tempfile::TempDir;

pub(crate) struct Workspace {
    _root: TempDir,
    data: TempDir,
    /// Where the next command runs; `cd` changes it.
    folder: PathBuf,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let (root, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = root.path().to_owned();
        Self { _root: root, data, folder }
    }

    /// An empty one, or one with a committed source.
    pub(crate) async fn fresh(fixture: Option<&str>) -> Self {
        let workspace = Self::new();
        if let Some(name) = fixture {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/book").join(name);
            assert!(from.is_dir(), "there is no {}", from.display());
            let copy = format!("cp -r {}/. .", from.display());
            let commit = "git init -q -b main && git add -A && git commit -q -m 'First images'";
            workspace.setup(name, &format!("{copy} && {commit}")).await;
        }
        workspace
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) async fn setup(&self, place: &str, command: &str) {
        let (code, found) = self.run(command).await;
        assert_eq!(code, 0, "{place}: {command}\n{found}");
    }

    pub(crate) async fn console(&mut self, place: &str, text: &str) {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{place}: want `$ `, not {line}"));
            if let Some(folder) = command.strip_prefix("cd ") {
                self.folder.push(folder);
                continue;
            }
            let (mut expected, mut code) = (String::new(), 0);
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                match line.strip_prefix("? ") {
                    Some(number) => code = number.parse().unwrap(),
                    None => expected.extend([line, "\n"]),
                }
            }
            let (ended, found) = self.run(command).await;
            assert_eq!(ended, code, "{place}: {command}\n{found}");
            assert!(matches(&expected, &found), "{place}: {command}\nwanted:\n{expected}\nfound:\n{found}");
        }
    }

    /// Exit code, and standard error before standard output.
    async fn run(&self, command: &str) -> (i32, String) {
        let edgewright = Path::new(env!("CARGO_BIN_EXE_edgewright")).parent().unwrap();
        let script = format!("PATH={}:$PATH; {command}", edgewright.display());
        let mut shell = Command::new("sh").args(["-c", &script]).cwd(&self.folder);
        for who in ["AUTHOR", "COMMITTER"] {
            shell = shell.env(format!("GIT_{who}_NAME"), "Reader");
            shell = shell.env(format!("GIT_{who}_EMAIL"), "reader@example.org");
        }
        let finished = shell
            .env("HOME", self.data.path())
            .env("EDGEWRIGHT_DATA", self.data.path().join("data"))
            .env(edgewright_testkit::tools().0, edgewright_testkit::tools().1)
            .run_status()
            .await
            .unwrap();
        let mut found = finished.output.stderr_tail.join("\n");
        if !found.is_empty() {
            found.push('\n');
        }
        found.push_str(&String::from_utf8(finished.output.stdout.clone()).unwrap());
        (finished.code().unwrap(), found)
    }
}

/// Whether a text is as expected, where `...` matches anything.
fn matches(expected: &str, found: &str) -> bool {
    let parts: Vec<&str> = expected.split("...").collect();
    let Some((first, rest)) = parts.split_first() else { return false };
    let Some(mut left) = found.strip_prefix(first.trim_end()) else { return false };
    let Some((last, middle)) = rest.split_last() else { return left.trim().is_empty() };
    for part in middle {
        let part = part.trim();
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.trim_end().ends_with(last.trim())
}

#[test]
fn dots_match_anything() {
    for (expected, found, want) in [
        ("a\n", "a\n", true),
        ("a ... c\n", "a b c\n", true),
        ("a\n...\nd\n", "a\nb\nc\nd\n", true),
        ("a\n...\nd\n", "a\nd\n", true),
        ("...\n", "anything\n", true),
        ("a\n", "b\n", false),
        ("a...c\n", "a b d\n", false),
    ] {
        assert_eq!(matches(expected, found), want, "{expected:?} {found:?}");
    }
}
