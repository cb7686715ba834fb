//! A path is a mount point, by the kernel's list (`proc(5)`, `mountinfo`).

use super::Finding;

const LIST: &str = "/proc/self/mountinfo";

#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    fstype: &'a str,
    options: Vec<&'a str>,
}

pub(crate) fn look(path: &str, fstype: Option<&str>, options: &[String]) -> Finding {
    if !path.starts_with('/') {
        return Finding::check(format!("invalid path `{path}`: not absolute"));
    }
    match std::fs::read_to_string(LIST) {
        Ok(list) => judge(&list, path, fstype, options),
        Err(error) => Finding::image(format!("cannot read {LIST}: {error}"), Vec::new()),
    }
}

fn judge(list: &str, path: &str, fstype: Option<&str>, options: &[String]) -> Finding {
    let Some(mount) = find(list, path) else {
        return Finding::image(format!("{path} is not a mount point"), Vec::new());
    };
    let mut faults = Vec::new();
    if let Some(want) = fstype.filter(|want| *want != mount.fstype) {
        faults.push(format!("has the type {}, expected {want}", mount.fstype));
    }
    let missing: Vec<&str> =
        options.iter().map(String::as_str).filter(|want| !mount.options.contains(want)).collect();
    if !missing.is_empty() {
        faults.push(format!(
            "is mounted without {} (its options: {})",
            missing.join(", "),
            mount.options.join(",")
        ));
    }
    if faults.is_empty() {
        Finding::Holds
    } else {
        Finding::image(format!("{path} {}", faults.join(" and ")), Vec::new())
    }
}

/// The mount at a path: the last one if several are stacked.
fn find<'a>(list: &'a str, path: &str) -> Option<Mount<'a>> {
    let path = match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let line = list.lines().rfind(|line| line.split(' ').nth(4).is_some_and(|at| plain(at) == path))?;
    let (own, of_system) = line.split_once(" - ")?;
    let mut of_system = of_system.split(' ');
    let fstype = of_system.next()?;
    let system_options = of_system.nth(1).unwrap_or_default();
    let own_options = own.split(' ').nth(5).unwrap_or_default();
    Some(Mount { fstype, options: own_options.split(',').chain(system_options.split(',')).collect() })
}

/// A path without the list's escapes (`\040` for a space).
fn plain(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.filter(|_| *first == b'\\').and_then(|code| u8::from_str_radix(code, 8).ok());
        rest = if byte.is_some() { &after[3..] } else { after };
        out.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n\
        30 22 0:5 / /var/lib/my\\040data rw,noexec master:1 propagate_from:2 - tmpfs tmpfs rw,size=1024k\n\
        31 22 0:6 / /srv ro - xfs /dev/vdb rw\n\
        32 31 0:7 / /srv rw - btrfs /dev/vdc rw,subvol=/a\n\
        broken line\n";

    /// Path, type, options, and what is wrong.
    type Case<'a> = (&'a str, Option<&'a str>, &'a [&'a str], Option<&'a str>);

    #[test]
    fn cases() {
        let cases: [Case<'_>; 9] = [
            ("/", None, &[], None),
            ("/", Some("ext4"), &["relatime", "errors=remount-ro"], None),
            ("/var/lib/my data/", Some("tmpfs"), &["noexec", "size=1024k"], None),
            ("/srv", Some("btrfs"), &["rw"], None),
            ("/srv", Some("xfs"), &[], Some("has the type btrfs, expected xfs")),
            ("/srv", None, &["ro"], Some("is mounted without ro")),
            ("/srv/below", None, &[], Some("is not a mount point")),
            ("/var/lib/my", None, &[], Some("is not a mount point")),
            ("line", None, &[], Some("is not a mount point")),
        ];
        for (path, fstype, options, want) in cases {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            match (judge(MOUNTS, path, fstype, &options), want) {
                (Finding::Holds, None) => {}
                (Finding::Misses(miss), Some(want)) => {
                    assert!(miss.message.contains(want), "{}", miss.message);
                }
                (found, want) => panic!("{path}: {found:?}, want {want:?}"),
            }
        }
        assert_eq!(look("/proc", Some("proc"), &[]), Finding::Holds);
        assert!(matches!(look("proc", None, &[]), Finding::Misses(miss) if miss.is_final));
    }
}
