//! The commands of a guide: its blocks whose first word is `sh`, in order.

use std::path::Path;

/// Where a block's commands are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// ` ```sh `: by root on the server.
    Server,
    /// ` ```sh workstation `: by another user.
    Workstation,
}

/// A block of commands.
#[derive(Debug)]
pub(crate) struct Block {
    /// The file and the line where it begins, for messages.
    pub(crate) title: String,
    pub(crate) place: Place,
    pub(crate) script: String,
}

/// Reads the blocks of a page below `docs/`.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    parse(page, &std::fs::read_to_string(file).unwrap())
}

fn parse(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let place = match info {
            "sh" => Place::Server,
            "sh workstation" => Place::Workstation,
            _ => {
                assert!(!info.starts_with("sh"), "{page}:{}: unknown place: {info}", number + 1);
                continue;
            }
        };
        let title = format!("{page}:{}", number + 1);
        blocks.push(Block { title, place, script: body.join("\n") + "\n" });
    }
    blocks
}

#[test]
fn blocks_of_commands_are_found_and_others_are_not() {
    let text = "# A\n\n```sh\na\nb\n```\n\n```text\nc\n```\n```sh workstation\nd\n```\n";
    let found: Vec<_> =
        parse("x.md", text).into_iter().map(|block| (block.title, block.place, block.script)).collect();
    let want = [("x.md:3", Place::Server, "a\nb\n"), ("x.md:11", Place::Workstation, "d\n")];
    let want = want.map(|(title, place, script)| (title.to_owned(), place, script.to_owned()));
    assert_eq!(found, want);
}
