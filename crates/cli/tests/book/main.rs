//! The examples of the documentation are run against the real command, page by page in the order of the
//! summary.
//!
//! | in a page | does |
//! |---|---|
//! | `<!-- fresh -->` | starts with an empty folder and an empty data folder |
//! | `<!-- fresh: NAME -->` | the same, with the source of `tests/book/NAME`, committed |
//! | `<!-- setup: COMMAND -->` | runs a command that the reader does not see; it must succeed |
//! | ` ```file=PATH ` | writes a file |
//! | ` ```console ` | runs commands and compares what they print |
//!
//! In a console block, lines after `$ ` are run by `sh`; the lines below are what is printed, standard error
//! first. `...` matches anything, also for whole lines; `? N` is the exit code if it is not 0.
//!
//! Other blocks (`sh`, `text`, `yaml` …) are not executed.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod messages;
mod pages;
mod workspace;

use pages::Item;
use workspace::Workspace;

#[tokio::test]
async fn examples_work() {
    let mut workspace = Workspace::new();
    for page in pages::listed() {
        for item in pages::items(&page) {
            match item {
                Item::Fresh(fixture) => workspace = Workspace::fresh(fixture.as_deref()).await,
                Item::Setup(place, command) => workspace.setup(&place, &command).await,
                Item::File(path, text) => workspace.write(&path, &text),
                Item::Console(place, text) => workspace.console(&place, &text).await,
            }
        }
    }
}

#[test]
fn every_page_is_in_the_summary() {
    let mut listed = pages::listed();
    let mut written = pages::written();
    listed.sort();
    written.sort();
    assert_eq!(written, listed, "left: pages in docs, right: links of SUMMARY.md");
}

#[test]
fn every_page_is_in_the_index() {
    let index = pages::read("README.md");
    for page in pages::listed().iter().filter(|page| *page != "README.md" && !page.starts_with("tutorial/")) {
        assert!(index.contains(&format!("]({page})")), "docs/README.md does not link to {page}");
    }
}
