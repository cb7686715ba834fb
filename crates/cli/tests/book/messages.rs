//! The messages that the troubleshooting page explains are messages of the code.

use std::path::Path;

use super::pages;

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
fn troubleshooting_explains_messages_that_exist() {
    let page = pages::read("how-to/troubleshoot.md");
    let code = code();
    let mut messages = 0;
    for line in page.lines() {
        let Some((message, _)) = line.strip_prefix("- `").and_then(|line| line.split_once("`: ")) else {
            continue;
        };
        messages += 1;
        for part in message.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            assert!(code.contains(part), "no message contains {part:?}");
        }
    }
    assert!(messages > 10, "{messages}");
}
