//! Parsers of git's output: pure functions over bytes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};

use edgewright_model::digest::hex;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{ContentId, Entry, EntryKind, InvalidPath, Tree};
use jiff::Timestamp;

use crate::bounds::{Excess, Files, Listed};
use crate::error::SourceError;
use crate::repository::CommitInfo;

/// Maximum length of a commit's subject, of its author's name and of the email address, in characters. What
/// is longer is cut when it is read.
pub(crate) const MAX_COMMIT_TEXT: usize = 200;

/// Maximum bytes that are read of a commit: of the object, and of what git prints of it.
pub(crate) const MAX_COMMIT_BYTES: u64 = 1024 * 1024;

/// A remote's branches at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemoteRefs {
    /// The branch that `HEAD` names; none in an empty repository and with a detached `HEAD`.
    pub default_branch: Option<String>,
    /// All branches.
    pub branches: BTreeMap<String, CommitId>,
}

/// `git ls-remote --symref REMOTE HEAD refs/heads/*`.
pub(crate) fn ls_remote(text: &str) -> Result<RemoteRefs, SourceError> {
    let mut refs = RemoteRefs::default();
    for line in text.lines() {
        let fault = || SourceError::Answer { doing: "ls-remote", text: line.chars().take(200).collect() };
        let (value, name) = line.split_once('\t').ok_or_else(fault)?;
        if let Some(target) = value.strip_prefix("ref: ") {
            if name == "HEAD" {
                refs.default_branch = target.strip_prefix("refs/heads/").map(str::to_owned);
            }
        } else if let Some(branch) = name.strip_prefix("refs/heads/") {
            refs.branches.insert(branch.to_owned(), value.parse().map_err(|_| fault())?);
        }
    }
    // An unborn HEAD names a branch that does not exist.
    refs.default_branch = refs.default_branch.filter(|branch| refs.branches.contains_key(branch));
    Ok(refs)
}

/// `git ls-remote REMOTE refs/pull/*/head refs/merge-requests/*/head`.
pub(crate) fn pull_requests(text: &str) -> Result<BTreeMap<String, CommitId>, SourceError> {
    let mut heads = BTreeMap::new();
    for line in text.lines() {
        let fault = || SourceError::Answer { doing: "ls-remote", text: line.chars().take(200).collect() };
        let (commit, name) = line.split_once('\t').ok_or_else(fault)?;
        // The patterns of git match at any depth: `refs/heads/x/refs/pull/1/head` is a branch.
        let number = name
            .strip_prefix("refs/pull/")
            .or_else(|| name.strip_prefix("refs/merge-requests/"))
            .and_then(|rest| rest.strip_suffix("/head"));
        if number.is_some_and(|number| number.parse::<u64>().is_ok()) {
            heads.insert(name.to_owned(), commit.parse().map_err(|_| fault())?);
        }
    }
    Ok(heads)
}

/// Why a tree cannot be listed.
#[derive(Debug)]
pub(crate) enum Unlisted {
    /// Git printed something else; what.
    Answer(String),
    /// The tree is too large.
    Excess(Excess),
}

impl From<Excess> for Unlisted {
    fn from(excess: Excess) -> Self {
        Self::Excess(excess)
    }
}

/// A tree object: its entries, without sizes, go to `files`, folders with their ids to `below`. An error if
/// it is not a tree object of ids with `length` bytes.
pub(crate) fn directory(
    (folder, mut bytes): (&[u8], &[u8]),
    length: usize,
    files: &mut Files,
    below: &mut Vec<(Vec<u8>, String)>,
) -> Result<(), Unlisted> {
    let broken = || Unlisted::Answer("a broken directory".to_owned());
    while !bytes.is_empty() {
        let head = bytes.iter().position(|&byte| byte == 0).ok_or_else(broken)?;
        let space = bytes[..head].iter().position(|&byte| byte == b' ').ok_or_else(broken)?;
        let (mode, name) = (std::str::from_utf8(&bytes[..space]), &bytes[space + 1..head]);
        let id = hex(bytes.get(head + 1..=head + length).ok_or_else(broken)?);
        bytes = &bytes[head + 1 + length..];
        let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        let path = [folder, separator, name].concat();
        files.count(&path)?;
        let mode = mode.map_err(|_| broken())?;
        if mode == "40000" {
            below.push((path, id));
        } else {
            let kind = kind(mode).ok_or_else(broken)?;
            files.listed.push((path, Entry { kind, content: ContentId::new(&id), size: 0 }));
        }
    }
    Ok(())
}

/// A commit object, and the id of its tree; `None` if only git can read it, such as a message that is not
/// UTF-8.
pub(crate) fn commit(id: &CommitId, bytes: &[u8]) -> Option<(CommitInfo, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    if field("encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
        return None;
    }
    let person = |line: &str| {
        let (name, rest) = line.split_once('<')?;
        let (email, time) = rest.split_once('>')?;
        let seconds = time.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok());
        Some((display(name.trim().chars()), display(email.chars()), seconds))
    };
    let (author, email, _) = person(field("author")?)?;
    let (_, _, seconds) = person(field("committer")?)?;
    let is_blank = |line: &&str| line.trim().is_empty();
    let paragraph = message.lines().skip_while(is_blank).take_while(|line| !is_blank(line));
    let subject = paragraph.enumerate().flat_map(|(number, line)| {
        let space = (number > 0).then_some(' ');
        space.into_iter().chain(line.trim_end().chars())
    });
    let info = CommitInfo {
        commit: id.clone(),
        author,
        email,
        // A commit may claim any time, even one that has no date.
        committed_at: seconds
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
        subject: display(subject),
    };
    Some((info, field("tree")?.to_owned()))
}

/// A text of a commit for display: at most [`MAX_COMMIT_TEXT`] characters. Control characters and those that
/// change the direction of text are replaced: a terminal or a page would obey them.
fn display(text: impl IntoIterator<Item = char>) -> String {
    let is_unsafe = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut letters = text.into_iter().map(|letter| match letter {
        '\t' => ' ',
        letter if is_unsafe(letter) => char::REPLACEMENT_CHARACTER,
        letter => letter,
    });
    let mut shown: String = letters.by_ref().take(MAX_COMMIT_TEXT).collect();
    if letters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// The most bytes of a record of `ls-tree` before its path.
const MAX_RECORD_HEAD: u64 = 200;

/// `git ls-tree -r -t -z -l --full-tree COMMIT`, read within limits. The contents are still to be read.
pub(crate) fn ls_tree(mut printed: impl BufRead) -> io::Result<Result<Tree, Unlisted>> {
    let mut files = Files::default();
    let mut record = Vec::new();
    loop {
        record.clear();
        // A path that is cut here exceeds the limit when it is counted.
        let most = files.room() + MAX_RECORD_HEAD;
        printed.by_ref().take(most).read_until(0, &mut record)?;
        if record.is_empty() {
            return Ok(Ok(entries(files.listed)));
        }
        if record.last() == Some(&0) {
            record.pop();
        }
        if let Err(why) = ls_tree_record(&record, &mut files) {
            return Ok(Err(why));
        }
    }
}

fn ls_tree_record(record: &[u8], files: &mut Files) -> Result<(), Unlisted> {
    let fault = || Unlisted::Answer(String::from_utf8_lossy(&record[..record.len().min(200)]).into_owned());
    let tab = record.iter().position(|&byte| byte == b'\t').ok_or_else(fault)?;
    let (head, path) = (&record[..tab], &record[tab + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| fault())?;
    let mut words = head.split_ascii_whitespace();
    let (Some(mode), Some(_), Some(id), Some(size)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(fault());
    };
    files.count(path)?;
    if mode == "040000" {
        return Ok(());
    }
    let kind = kind(mode).ok_or_else(fault)?;
    let size = if size == "-" { 0 } else { size.parse().map_err(|_| fault())? };
    files.listed.push((path.to_vec(), Entry { kind, content: ContentId::new(id), size }));
    Ok(())
}

fn kind(mode: &str) -> Option<EntryKind> {
    match mode {
        "100755" => Some(EntryKind::Executable),
        "120000" => Some(EntryKind::Link),
        "160000" => Some(EntryKind::Submodule),
        // Old repositories have group-writable files.
        "100644" | "100664" => Some(EntryKind::File),
        _ => None,
    }
}

/// A tree of entries, their contents still to be read.
pub(crate) fn entries(listed: Vec<Listed>) -> Tree {
    let mut tree = Tree::default();
    for (path, entry) in listed {
        match InvalidPath::parse(&path) {
            Ok(path) => drop(tree.entries.insert(path, entry)),
            Err(invalid) => tree.invalid.push(invalid),
        }
    }
    // Readers list folders in orders of their own.
    tree.invalid.sort();
    tree
}

/// The format that [`commit_info`] reads: what may be long comes last.
pub(crate) const COMMIT_FORMAT: &str = "--format=%H%x00%cI%x00%an%x00%ae%x00%s";

/// What git prints of a commit, cut anywhere after the time.
pub(crate) fn commit_info(bytes: &[u8]) -> Result<CommitInfo, SourceError> {
    let text = String::from_utf8_lossy(bytes);
    let fault = || SourceError::Answer { doing: "log", text: text.chars().take(200).collect() };
    let mut fields = text.trim_end_matches('\n').splitn(5, '\0');
    let (Some(commit), Some(time)) = (fields.next(), fields.next()) else { return Err(fault()) };
    let [author, email, subject] = [(); 3].map(|()| display(fields.next().unwrap_or_default().chars()));
    Ok(CommitInfo {
        commit: commit.parse().map_err(|_| fault())?,
        author,
        email,
        // A commit may claim any time, even one that has no date.
        committed_at: time.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH),
        subject,
    })
}

#[cfg(test)]
mod tests {
    use edgewright_model::tree::TreePath;
    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn remotes_are_read() {
        let refs = ls_remote(&format!(
            "ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/feature/x\n{A}\trefs/heads/main\n"
        ))
        .unwrap();
        assert_eq!(refs.default_branch.as_deref(), Some("main"));
        assert_eq!(refs.branches.keys().collect::<Vec<_>>(), ["feature/x", "main"]);
        assert_eq!(ls_remote("").unwrap(), RemoteRefs::default());
        let detached = ls_remote(&format!("{A}\tHEAD\n{A}\trefs/heads/main\n")).unwrap();
        assert_eq!(detached.default_branch, None);
        let unborn = ls_remote(&format!("ref: refs/heads/gone\tHEAD\n{A}\trefs/heads/main\n")).unwrap();
        assert_eq!(unborn.default_branch, None);
        assert!(ls_remote("<html>").is_err());
    }

    #[test]
    fn heads_of_pull_requests_are_read() {
        let names = [
            "refs/pull/12/head",
            "refs/merge-requests/3/head",
            "refs/heads/refs/pull/1/head",
            "refs/pull/x/head",
        ];
        let text = names.map(|name| format!("{A}\t{name}\n")).concat();
        let heads = pull_requests(&text).unwrap();
        assert_eq!(heads.keys().collect::<Vec<_>>(), ["refs/merge-requests/3/head", "refs/pull/12/head"]);
        assert!(pull_requests("<html>").is_err());
    }

    #[test]
    fn trees_are_read_and_invalid_paths_named() {
        let record = |mode: &str, kind: &str, size: &str, path: &[u8]| {
            [format!("{mode} {kind} {A} {size:>7}\t").as_bytes(), path, b"\0"].concat()
        };
        let good = [
            record("100644", "blob", "12", b"a b/c"),
            record("100755", "blob", "3", b"bin"),
            record("120000", "blob", "1", b"link"),
            record("040000", "tree", "-", b"a b"),
            record("160000", "commit", "-", b"sub"),
        ]
        .concat();
        let entries = ls_tree(&good[..]).unwrap().unwrap().entries;
        let seen: Vec<_> =
            entries.iter().map(|(path, entry)| (path.as_str(), entry.kind, entry.size)).collect();
        assert_eq!(
            seen,
            [
                ("a b/c", EntryKind::File, 12),
                ("bin", EntryKind::Executable, 3),
                ("link", EntryKind::Link, 1),
                ("sub", EntryKind::Submodule, 0)
            ]
        );
        let bad = [
            record("100644", "blob", "1", b"images/a/caf\xe9/b/c"),
            record("100644", "blob", "1", b"a\nb"),
            record("100644", "blob", "1", "ä/b\u{7f}".as_bytes()),
            good,
        ];
        let tree = ls_tree(&bad.concat()[..]).unwrap().unwrap();
        let invalid: Vec<_> = tree
            .invalid
            .iter()
            .map(|path| (path.folder.as_ref().map(TreePath::as_str), path.is_folder, path.escaped.as_str()))
            .collect();
        assert_eq!(
            invalid,
            [
                (None, false, r"a\nb"),
                (Some("images/a"), true, r"images/a/caf\xe9/b/c"),
                (Some("ä"), false, r"ä/b\u{7f}")
            ]
        );
        assert_eq!(tree.entries, entries);
    }

    #[test]
    fn long_and_unsafe_texts_of_commits_are_cut_and_replaced() {
        let id: CommitId = A.parse().unwrap();
        let long = "é".repeat(5_000_000);
        let cut = format!("{}…", "é".repeat(MAX_COMMIT_TEXT - 1));
        let object = |author: &str, subject: &str| {
            format!("tree {A}\nauthor {author} <{author}> 1 +0000\ncommitter c <c> 1 +0000\n\n{subject}\n")
        };
        let printed = |author: &str, subject: &str| {
            format!("{A}\x001970-01-01T00:00:01Z\0{author}\0{author}\0{subject}\n")
        };
        let cases = [
            (long.as_str(), "a", cut.as_str(), "a"),
            ("a", &long, "a", &cut),
            ("\x1b[2J", "a\tb\x07\u{202e}c\u{9b}", "\u{fffd}[2J", "a b\u{fffd}\u{fffd}c\u{fffd}"),
        ];
        for (author, subject, shown_author, shown_subject) in cases {
            let (read, _) = commit(&id, object(author, subject).as_bytes()).unwrap();
            assert_eq!(read, commit_info(printed(author, subject).as_bytes()).unwrap());
            assert_eq!((read.author.as_str(), read.subject.as_str()), (shown_author, shown_subject));
            assert_eq!(read.email, shown_author);
        }
        // Cut in the author's name.
        let read = commit_info(format!("{A}\x001970-01-01T00:00:01Z\0Ann").as_bytes()).unwrap();
        assert_eq!((read.author.as_str(), read.subject.as_str()), ("Ann", ""));
        assert!(commit_info(A.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ls_tree(&bytes[..]);
            let _ = directory((b"a", &bytes), 20, &mut Files::default(), &mut Vec::new());
            let _ = commit(&A.parse().unwrap(), &bytes);
            let _ = commit_info(&bytes);
            let _ = ls_remote(&String::from_utf8_lossy(&bytes));
        }
    }
}
