//! The pages of `docs/`, and what they ask the test to do.

use std::path::{Path, PathBuf};

/// Pages for developers are read in the repository; they are not part of the book.
const NOT_IN_THE_BOOK: [&str; 2] = ["decisions", "contributing"];

/// What a page asks for, with the place for messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Fresh(Option<String>),
    Setup(String, String),
    File(String, String),
    Console(String, String),
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

pub(crate) fn read(page: &str) -> String {
    let path = docs().join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages in the order of the summary.
pub(crate) fn listed() -> Vec<String> {
    let summary = read("SUMMARY.md");
    let links = summary.lines().filter_map(|line| line.split_once("](")?.1.strip_suffix(')'));
    links.map(str::to_owned).collect()
}

/// The pages that should be in the summary.
pub(crate) fn written() -> Vec<String> {
    let root = docs();
    let mut folders = vec![root.clone()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !NOT_IN_THE_BOOK.contains(&name.as_str()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") && name != "SUMMARY.md" {
                pages.push(name);
            }
        }
    }
    pages
}

pub(crate) fn items(page: &str) -> Vec<Item> {
    parse(page, &read(page))
}

/// Reads directives and blocks. An indented block belongs to a list and is not executed.
fn parse(page: &str, text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let place = format!("docs/{page}:{}", number + 1);
        if let Some(info) = line.strip_prefix("```") {
            let mut block = String::new();
            loop {
                let Some((_, line)) = lines.next() else { panic!("{place}: the block is not closed") };
                if line == "```" {
                    break;
                }
                block.extend([line, "\n"]);
            }
            if let Some(path) = info.strip_prefix("file=") {
                items.push(Item::File(path.to_owned(), block));
            } else if info == "console" {
                items.push(Item::Console(place, block));
            }
        } else if let Some(directive) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"))
        {
            items.push(match directive.split_once(": ") {
                None if directive == "fresh" => Item::Fresh(None),
                Some(("fresh", fixture)) => Item::Fresh(Some(fixture.to_owned())),
                Some(("setup", command)) => Item::Setup(place, command.to_owned()),
                _ => panic!("{place}: unknown directive `{directive}`"),
            });
        }
    }
    items
}

#[test]
fn directives_and_blocks_are_read() {
    let text = "<!-- fresh: plants -->\n```file=a/b\nx\n```\n```sh\nignored\n```\n   ```console\n   ignored\n   ```\n\
        <!-- setup: edgewright run -->\n```console\n$ a\nb\n```\n<!-- fresh -->\n";
    let expected = [
        Item::Fresh(Some("plants".to_owned())),
        Item::File("a/b".to_owned(), "x\n".to_owned()),
        Item::Setup("docs/p.md:11".to_owned(), "edgewright run".to_owned()),
        Item::Console("docs/p.md:12".to_owned(), "$ a\nb\n".to_owned()),
        Item::Fresh(None),
    ];
    assert_eq!(parse("p.md", text), expected);
}
