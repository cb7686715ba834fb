//! Command lines as typed in a shell.

use std::ffi::OsStr;

/// The length at which command lines are cut in messages, in bytes.
const SHOWN: usize = 600;

/// One argument, quoted for a POSIX shell if needed.
pub fn quote(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A whole command line, cut at a limit.
pub fn command_line<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> String {
    let mut line = String::new();
    for argument in arguments {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&quote(argument));
        if line.len() > SHOWN {
            line.truncate(line.floor_char_boundary(SHOWN));
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_only_if_needed() {
        for (argument, want) in [
            ("--root=/var/lib", "--root=/var/lib"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME;", "'$HOME;'"),
        ] {
            assert_eq!(quote(OsStr::new(argument)), want);
        }
    }

    #[test]
    fn long_lines_are_cut() {
        let long = "ä".repeat(5000);
        let line = command_line(["echo", &long].map(OsStr::new));
        assert!(line.starts_with("echo 'ä") && line.ends_with('…') && line.len() < SHOWN + 8);
    }
}
