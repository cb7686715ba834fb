//! A file has the given properties. Symbolic links are followed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use edgewright_model::spec::Owner;

use super::{Finding, contains};

/// Maximum number of bytes of a file that are searched.
const SEARCHED: u64 = 16 * 1024 * 1024;

/// The expected properties of a file that exists.
#[derive(Debug, Default)]
pub(crate) struct Expected<'a> {
    /// A text in it.
    pub(crate) contains: Option<&'a str>,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// Numeric owner.
    pub(crate) owner: Option<Owner>,
}

pub(crate) fn look(path: &str, exists: bool, expected: &Expected<'_>) -> Finding {
    if !path.starts_with('/') || path.contains('\0') {
        return Finding::check(format!("invalid path `{path}`: not absolute"));
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_missing(&error) => {
            return if exists {
                Finding::image(format!("{path} does not exist"), Vec::new())
            } else {
                Finding::Holds
            };
        }
        Err(error) => {
            return Finding::image(format!("cannot read the metadata of {path}: {error}"), Vec::new());
        }
    };
    if !exists {
        return Finding::image(format!("{path} exists"), Vec::new());
    }

    let mut faults = Vec::new();
    let mode = metadata.mode() & 0o7777;
    if let Some(want) = expected.mode.filter(|&want| want != mode) {
        faults.push(format!("has mode {mode:04o}, expected {want:04o}"));
    }
    if let Some(want) =
        expected.owner.filter(|want| (want.user, want.group) != (metadata.uid(), metadata.gid()))
    {
        faults.push(format!(
            "is owned by {}:{}, expected {}:{}",
            metadata.uid(),
            metadata.gid(),
            want.user,
            want.group
        ));
    }
    if let Some(text) = expected.contains {
        // Opening a pipe or a device could block or change something.
        if metadata.is_file() {
            match read(Path::new(path)) {
                Ok(bytes) if contains(&bytes, text) => {}
                Ok(_) => faults.push(format!("does not contain {text:?}")),
                Err(error) => faults.push(format!("cannot be read: {error}")),
            }
        } else {
            faults.push("is not a regular file".to_owned());
        }
    }
    if faults.is_empty() {
        Finding::Holds
    } else {
        Finding::image(format!("{path} {}", faults.join(" and ")), Vec::new())
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SEARCHED).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn cases() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "key = value\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, folder.path().join("link")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        let owner = fs::metadata(&file).unwrap();
        let owner = Owner { user: owner.uid(), group: owner.gid() };
        let other = Owner { user: owner.user + 1, group: owner.group };

        let none = Expected::default();
        let text = |contains| Expected { contains: Some(contains), ..Expected::default() };
        let mode = |mode| Expected { mode: Some(mode), ..Expected::default() };
        let cases: [(&str, bool, Expected<'_>, Option<&str>); 14] = [
            ("file", true, Expected { contains: Some("value"), mode: Some(0o640), owner: Some(owner) }, None),
            ("link", true, mode(0o640), None),
            ("file/below", false, Expected::default(), None),
            ("dangling", false, Expected::default(), None),
            ("", true, none, None),
            ("missing", true, text("x"), Some("missing does not exist")),
            ("dangling", true, text("x"), Some("dangling does not exist")),
            ("file", false, text("x"), Some("file exists")),
            ("file", true, text("other"), Some("does not contain \"other\"")),
            ("file", true, mode(0o600), Some("has mode 0640, expected 0600")),
            (
                "file",
                true,
                Expected { owner: Some(other), ..text("no") },
                Some("and does not contain \"no\""),
            ),
            ("", true, text("x"), Some("is not a regular file")),
            ("missing", false, text("x"), None),
            ("link", false, text("x"), Some("link exists")),
        ];
        for (name, exists, expected, want) in cases {
            let path = folder.path().join(name).display().to_string();
            match (look(&path, exists, &expected), want) {
                (Finding::Holds, None) => {}
                (Finding::Misses(miss), Some(want)) => {
                    assert!(miss.message.contains(want), "{}", miss.message);
                }
                (found, want) => panic!("{name} {expected:?}: {found:?}, want {want:?}"),
            }
        }
        assert!(matches!(look("etc/passwd", true, &mode(0)), Finding::Misses(miss) if miss.is_final));
    }
}
