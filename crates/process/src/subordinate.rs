//! Subordinate IDs of a user: `subuid(5)`, `subgid(5)`.

use std::fs;

/// A range of IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first ID.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The user of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its ID.
    pub id: u32,
    /// Its name in `/etc/passwd`, or its ID.
    pub name: String,
}

impl User {
    /// The user of this process.
    pub fn current() -> Self {
        let id = rustix::process::geteuid().as_raw();
        Self::of(id, &fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    fn of(id: u32, passwd: &str) -> Self {
        let wanted = id.to_string();
        let name = passwd.lines().map(|line| line.split(':')).find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)? == wanted).then(|| name.to_owned())
        });
        Self { id, name: name.unwrap_or(wanted) }
    }

    /// The largest range of this user in a file such as `/etc/subuid`.
    pub fn largest_range(&self, path: &str) -> Option<Range> {
        self.largest_in(&fs::read_to_string(path).unwrap_or_default())
    }

    fn largest_in(&self, text: &str) -> Option<Range> {
        let id = self.id.to_string();
        let ranges = text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if owner != self.name && owner != id {
                return None;
            }
            let range = Range { first: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
            range.first.checked_add(range.count).is_some().then_some(range)
        });
        ranges.max_by_key(|range| range.count)
    }
}

/// Whether another service than the files has the ranges (`nsswitch.conf(5)`).
pub fn are_elsewhere() -> bool {
    let text = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    text.lines().any(|line| line.trim_start().starts_with("subid:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_by_name_or_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(User::of(1, passwd).name, "1");
        let alice = User::of(1000, passwd);
        assert_eq!(alice.name, "alice");
        let range = |first, count| Some(Range { first, count });
        let cases = [
            ("", None),
            ("bob:100000:65536\n", None),
            ("alice:100000:65536\n", range(100_000, 65_536)),
            ("1000:100000:65536\nalice:1:10\n", range(100_000, 65_536)),
            ("alice:100000\nalice\nalice:a:b\nalice:4294967295:2\n", None),
        ];
        for (ranges, want) in cases {
            assert_eq!(alice.largest_in(ranges), want, "{ranges}");
        }
    }
}
