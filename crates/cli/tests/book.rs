//! The book's examples are run against the real command, chapter by chapter, in one folder.
//!
//! | block | is |
//! |---|---|
//! | ` ```file=PATH ` | written |
//! | ` ```remove=PATH ` | removed, with its folder |
//! | ` ```console ` | lines after `$ ` are run; what follows is compared with what they print, standard error first; `...` stands for anything, also for whole lines; `? N` is the exit code where it is not 0 |

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::path::{Path, PathBuf};

use edgewright_process::{Command, Finished};

#[derive(Debug)]
struct Block {
    chapter: String,
    line: usize,
    info: String,
    text: String,
}

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/book/src")
}

/// The chapters in the order of the summary.
fn chapters() -> Vec<String> {
    let summary = std::fs::read_to_string(book().join("SUMMARY.md")).unwrap();
    let links = summary.lines().filter_map(|line| line.split_once("](")?.1.strip_suffix(')'));
    links.map(str::to_owned).collect()
}

fn blocks(chapter: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(book().join(chapter)).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(info) => {
                open = true;
                let (chapter, info) = (chapter.to_owned(), info.to_owned());
                blocks.push(Block { chapter, line: number + 1, info, text: String::new() });
            }
            None if open => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "{chapter}: a block is not closed");
    blocks
}

/// Whether a text is as expected, `...` standing for anything.
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

async fn console(block: &Block, folder: &Path, data: &Path) {
    let mut lines = block.text.lines().peekable();
    while let Some(line) = lines.next() {
        let place = format!("{}:{}: {line}", block.chapter, block.line);
        let command =
            line.strip_prefix("$ edgewright ").unwrap_or_else(|| panic!("{place}: want `$ edgewright`"));
        let (mut expected, mut code) = (String::new(), 0);
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            match line.strip_prefix("? ") {
                Some(number) => code = number.parse().unwrap(),
                None => expected.extend([line, "\n"]),
            }
        }
        let finished: Finished = Command::new(env!("CARGO_BIN_EXE_edgewright"))
            .args(command.split_whitespace())
            .cwd(folder)
            .env("HOME", data)
            .env("EDGEWRIGHT_DATA", data.join("data"))
            .run_status()
            .await
            .unwrap();
        let mut found = finished.output.stderr_tail.join("\n");
        if !found.is_empty() {
            found.push('\n');
        }
        found.push_str(&String::from_utf8(finished.output.stdout.clone()).unwrap());
        assert_eq!(finished.code(), Some(code), "{place}\n{found}");
        assert!(matches(&expected, &found), "{place}\nwanted:\n{expected}\nfound:\n{found}");
    }
}

#[tokio::test]
async fn the_books_examples_work() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for block in chapters().iter().flat_map(|chapter| blocks(chapter)) {
        if let Some(path) = block.info.strip_prefix("file=") {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &block.text).unwrap();
        } else if let Some(path) = block.info.strip_prefix("remove=") {
            std::fs::remove_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
        } else if block.info == "console" {
            console(&block, folder.path(), data.path()).await;
        }
    }
}

#[test]
fn every_chapter_is_in_the_summary() {
    let mut files: Vec<String> = std::fs::read_dir(book())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "SUMMARY.md")
        .collect();
    let mut listed = chapters();
    files.sort();
    listed.sort();
    assert_eq!(files, listed);
}

/// All text of the crates, line ends and quoting as in the source.
fn code() -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

#[test]
fn troubleshooting_names_messages_that_exist() {
    let page = std::fs::read_to_string(book().join("troubleshooting.md")).unwrap();
    let code = code();
    let mut rows = 0;
    for line in page.lines() {
        let Some((message, _)) = line.strip_prefix("| `").and_then(|line| line.split_once("` |")) else {
            continue;
        };
        rows += 1;
        for part in message.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            assert!(code.contains(part), "no message says {part:?}");
        }
    }
    assert!(rows > 10, "{rows}");
}

#[test]
fn dots_stand_for_anything() {
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
