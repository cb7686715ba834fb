//! Mounts and folders.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The mount points below a folder, the last mounted first.
pub(super) fn mounts_below(table: &[u8], folder: &Path) -> Vec<PathBuf> {
    let lines = table.split(|&byte| byte == b'\n');
    let points = lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(4)).map(unescape);
    let mut below: Vec<_> = points.filter(|point| point != folder && point.starts_with(folder)).collect();
    below.reverse();
    below
}

/// The kernel writes space, tab, line feed and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = octal.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

pub(super) fn remove_folder(folder: &Path) -> (usize, Vec<String>) {
    match fs::remove_dir_all(folder) {
        Ok(()) => (1, Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, Vec::new()),
        Err(error) => (0, vec![format!("cannot remove {}: {error}", folder.display())]),
    }
}

pub(super) fn remove_folders(jobs: &Path) -> (usize, Vec<String>) {
    let mut removed = 0;
    let mut problems = Vec::new();
    for entry in fs::read_dir(jobs).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let gone = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match gone {
            Ok(()) => removed += 1,
            Err(error) => problems.push(format!("cannot remove {}: {error}", path.display())),
        }
    }
    (removed, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_work_folder() {
        let table = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 22 0:25 / /data/work rw - tmpfs tmpfs rw\n\
            31 22 0:26 / /data/work/jobs/a\\040b/merged rw shared:5 - overlay overlay rw\n\
            32 22 0:27 / /data/work/jobs/a\\040b/merged/proc rw - proc proc rw\n\
            33 22 0:28 / /data/workshop rw - tmpfs tmpfs rw\n\nodd line\n";
        assert_eq!(
            mounts_below(table, Path::new("/data/work")),
            [PathBuf::from("/data/work/jobs/a b/merged/proc"), PathBuf::from("/data/work/jobs/a b/merged"),]
        );
        assert_eq!(unescape(b"a\\134b\\12"), PathBuf::from("a\\b\\12"));
    }

    #[test]
    fn folders_are_removed_and_links_are_not_followed() {
        let work = tempfile::tempdir().unwrap();
        let (jobs, kept) = (work.path().join("jobs"), work.path().join("kept"));
        fs::create_dir_all(jobs.join("one/two")).unwrap();
        fs::create_dir(&kept).unwrap();
        std::os::unix::fs::symlink(&kept, jobs.join("link")).unwrap();
        assert_eq!(remove_folders(&jobs), (2, Vec::new()));
        assert!(kept.is_dir());
        assert_eq!(remove_folders(&work.path().join("none")), (0, Vec::new()));
    }
}
