//! Parsers of git's output: pure functions over bytes.

use std::collections::BTreeMap;

use edgewright_model::digest::hex;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{ContentId, Entry, EntryKind, InvalidPath, Tree};
use jiff::Timestamp;

use crate::error::SourceError;
use crate::repository::CommitInfo;

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

/// An entry of a tree with its path as stored by git.
pub(crate) type Listed = (Vec<u8>, Entry);

/// A tree object: its entries, without sizes, go to `listed`, folders with their ids to `below`; `None` if it
/// is not a tree object of ids with `length` bytes.
pub(crate) fn directory(
    (folder, mut bytes): (&[u8], &[u8]),
    length: usize,
    listed: &mut Vec<Listed>,
    below: &mut Vec<(Vec<u8>, String)>,
) -> Option<()> {
    while !bytes.is_empty() {
        let head = bytes.iter().position(|&byte| byte == 0)?;
        let space = bytes[..head].iter().position(|&byte| byte == b' ')?;
        let (mode, name) = (std::str::from_utf8(&bytes[..space]).ok()?, &bytes[space + 1..head]);
        let id = hex(bytes.get(head + 1..=head + length)?);
        bytes = &bytes[head + 1 + length..];
        let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        let path = [folder, separator, name].concat();
        if mode == "40000" {
            below.push((path, id));
        } else {
            let entry = Entry { kind: kind(mode)?, content: ContentId::new(&id), size: 0 };
            listed.push((path, entry));
        }
    }
    Some(())
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
        Some((name.trim().to_owned(), email.to_owned(), seconds))
    };
    let (author, email, _) = person(field("author")?)?;
    let (_, _, seconds) = person(field("committer")?)?;
    let is_blank = |line: &&str| line.trim().is_empty();
    let paragraph = message.lines().skip_while(is_blank).take_while(|line| !is_blank(line));
    let info = CommitInfo {
        commit: id.clone(),
        author,
        email,
        // A commit may claim any time, even one that has no date.
        committed_at: seconds
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
        subject: paragraph.map(str::trim_end).collect::<Vec<_>>().join(" "),
    };
    Some((info, field("tree")?.to_owned()))
}

/// `git ls-tree -r -z -l --full-tree COMMIT`. The contents are still to be read.
pub(crate) fn ls_tree(bytes: &[u8]) -> Result<Tree, SourceError> {
    let mut listed = Vec::new();
    for record in bytes.split(|&byte| byte == 0).filter(|record| !record.is_empty()) {
        let fault =
            || SourceError::Answer { doing: "ls-tree", text: String::from_utf8_lossy(record).into_owned() };
        let tab = record.iter().position(|&byte| byte == b'\t').ok_or_else(fault)?;
        let (head, path) = (&record[..tab], &record[tab + 1..]);
        let head = std::str::from_utf8(head).map_err(|_| fault())?;
        let mut words = head.split_ascii_whitespace();
        let (Some(mode), Some(_), Some(id), Some(size)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(fault());
        };
        let kind = kind(mode).ok_or_else(fault)?;
        let size = if size == "-" { 0 } else { size.parse().map_err(|_| fault())? };
        listed.push((path.to_vec(), Entry { kind, content: ContentId::new(id), size }));
    }
    Ok(entries(listed))
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

/// The format that [`commit_info`] reads.
pub(crate) const COMMIT_FORMAT: &str = "--format=%H%x00%an%x00%ae%x00%cI%x00%s";

pub(crate) fn commit_info(bytes: &[u8]) -> Result<CommitInfo, SourceError> {
    let text = String::from_utf8_lossy(bytes);
    let fault = || SourceError::Answer { doing: "log", text: text.chars().take(200).collect() };
    let fields: Vec<&str> = text.trim_end_matches('\n').splitn(5, '\0').collect();
    let [commit, author, email, time, subject] = fields[..] else { return Err(fault()) };
    Ok(CommitInfo {
        commit: commit.parse().map_err(|_| fault())?,
        author: author.to_owned(),
        email: email.to_owned(),
        // A commit may claim any time, even one that has no date.
        committed_at: time.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH),
        subject: subject.to_owned(),
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
            record("160000", "commit", "-", b"sub"),
        ]
        .concat();
        let entries = ls_tree(&good).unwrap().entries;
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
        let tree = ls_tree(&bad.concat()).unwrap();
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

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ls_tree(&bytes);
            let _ = directory((b"a", &bytes), 20, &mut Vec::new(), &mut Vec::new());
            let _ = commit(&A.parse().unwrap(), &bytes);
            let _ = commit_info(&bytes);
            let _ = ls_remote(&String::from_utf8_lossy(&bytes));
        }
    }
}
