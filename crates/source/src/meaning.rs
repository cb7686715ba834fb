//! The meaning of git's standard error.

/// Why an operation on a remote failed, from git's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Unreachable,
    NoRepository,
    Refused,
    Damaged,
    DiskFull,
    Unknown,
}

/// Texts of git 2.31 to 2.5x, curl and ssh, by precedence.
const MEANINGS: [(Meaning, &[&str]); 6] = [
    (Meaning::DiskFull, &["No space left on device", "Disk quota exceeded"]),
    (
        // First, because the effect of a broken connection looks like damage.
        Meaning::Unreachable,
        &["early EOF", "unexpected disconnect", "RPC failed", "hung up unexpectedly", "Operation too slow"],
    ),
    (
        Meaning::Damaged,
        &[
            "loose object",
            "object file",
            "bad object",
            "is corrupt",
            "did not send all necessary objects",
            "unable to read tree",
            "not a git repository: '",
            "bad tree object",
            "unable to find",
            "error: Could not read ",
            "bad config",
            "missing blob",
            "unable to resolve reference",
            "not a valid object",
        ],
    ),
    (
        Meaning::Refused,
        &[
            "could not read Username",
            "could not read Password",
            "Authentication failed",
            "Permission denied",
            "Host key verification failed",
            "REMOTE HOST IDENTIFICATION HAS CHANGED",
            "returned error: 401",
            "returned error: 403",
            "access denied",
            "dubious ownership",
        ],
    ),
    (
        Meaning::NoRepository,
        &[
            "not found",
            "does not appear to be a git repository",
            "is this a git repository",
            "returned error: 404",
            "returned error: 410",
            "does not exist",
            "No such file or directory",
        ],
    ),
    (
        Meaning::Unreachable,
        &[
            "Could not resolve",
            "Failed to connect",
            "Couldn't connect",
            "Connection refused",
            "Connection timed out",
            "timed out",
            "returned error: 5",
            "Operation too slow",
            "SSL",
            "No route to host",
            "Network is unreachable",
            "unable to access",
            "Empty reply",
            "unexpected disconnect",
            "hung up unexpectedly",
            "Could not read from remote repository",
        ],
    ),
];

pub(crate) fn meaning(stderr: &[String]) -> Meaning {
    let contains = |text: &&&str| stderr.iter().any(|line| line.contains(**text));
    MEANINGS
        .iter()
        .find(|(_, texts)| texts.iter().any(|text| contains(&text)))
        .map_or(Meaning::Unknown, |(meaning, _)| *meaning)
}

/// Messages of ssh before git's own "could not read", the most specific first.
const SSH: [&str; 7] = [
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "host key is known for",
    "Host key verification failed",
    "Load key ",
    "too open",
    "Permission denied (",
    "ssh: ",
];

/// The most specific line of git's standard error: ssh's, else the first error.
pub(crate) fn complaint(stderr: &[String]) -> String {
    let marked = |line: &&String| ["fatal: ", "error: ", "ERROR: "].iter().any(|mark| line.starts_with(mark));
    let of_ssh = SSH.iter().find_map(|text| stderr.iter().find(|line| line.contains(text)));
    let line = of_ssh.or_else(|| stderr.iter().find(marked)).or_else(|| stderr.last());
    let line = line.map_or("git gave no reason", String::as_str);
    let line = line.strip_prefix("fatal: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line);
    // ssh frames this warning.
    line.trim_matches(|c: char| c == '@' || c.is_whitespace()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_git_are_classified() {
        for (line, want) in [
            ("fatal: unable to access 'https://h/': Could not resolve host: h", Meaning::Unreachable),
            (
                "fatal: unable to access 'http://h/': Failed to connect to h port 80: Connection refused",
                Meaning::Unreachable,
            ),
            (
                "fatal: unable to access 'http://h/': The requested URL returned error: 503",
                Meaning::Unreachable,
            ),
            ("ssh: Could not resolve hostname h: Name or service not known", Meaning::Unreachable),
            ("fatal: unable to access 'http://h/': The requested URL returned error: 403", Meaning::Refused),
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", Meaning::Refused),
            ("fatal: Authentication failed for 'https://h/'", Meaning::Refused),
            ("git@h: Permission denied (publickey).", Meaning::Refused),
            ("Host key verification failed.", Meaning::Refused),
            ("fatal: repository 'http://h/x/' not found", Meaning::NoRepository),
            ("ERROR: Repository not found.", Meaning::NoRepository),
            ("fatal: '/x' does not appear to be a git repository", Meaning::NoRepository),
            ("fatal: http://h/info/refs not valid: is this a git repository?", Meaning::NoRepository),
            ("error: object file /m/objects/aa/bb is empty", Meaning::Damaged),
            ("fatal: not a git repository: '/data/sources/a.git'", Meaning::Damaged),
            ("fatal: loose object aa (stored in x) is corrupt", Meaning::Damaged),
            ("error: Could not read 4b825dc642cb6eb9a060e54bf8d69288fbee4904", Meaning::Damaged),
            ("fatal: Could not read from remote repository.", Meaning::Unreachable),
            ("fatal: write error: No space left on device", Meaning::DiskFull),
            ("something new", Meaning::Unknown),
        ] {
            assert_eq!(meaning(&[line.to_owned()]), want, "{line}");
        }
    }

    #[test]
    fn errors_of_ssh_are_reported() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let end = "\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights";
        for (printed, want) in [
            ("git@h: Permission denied (publickey).", "git@h: Permission denied (publickey)."),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
                "No ED25519 host key is known for h and you have requested strict checking.",
            ),
            (
                "@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@\nHost key verification failed.",
                "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!",
            ),
            (
                "ssh: connect to host h port 22: Connection refused",
                "ssh: connect to host h port 22: Connection refused",
            ),
        ] {
            assert_eq!(complaint(&lines(&format!("{printed}{end}"))), want);
        }
        assert_eq!(
            complaint(&lines("warning: x\nfatal: repository 'y' not found")),
            "repository 'y' not found"
        );
    }
}
