//! What moved between two locks of an image, in data and in words.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::lock::{Lock, LockedImage};
use crate::names::ImageName;

/// The differences between an older and a newer lock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockMoves {
    /// The base image, if its digest changed.
    pub base: Option<BaseMove>,
    /// Packages that changed version, were added or were dropped, by name; a move that is equal on all
    /// platforms is listed once.
    pub packages: Vec<PackageMove>,
    /// Images that Containerfiles use, if their digest changed, by name; a move that is equal on all
    /// platforms is listed once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageMove>,
    /// Whether the `refresh` time of a `containerfile` step is over, so that the image is rebuilt.
    pub refreshed: bool,
    /// Whether the lock gets the hashes of its packages, which the earlier one did not have.
    pub hashed: bool,
}

/// A base image that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseMove {
    /// Its digest before; `None` if there was none.
    pub from: Option<Digest>,
    /// Its digest now.
    pub to: Digest,
}

/// An image of a Containerfile that moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageMove {
    /// Its name.
    pub name: String,
    /// Its digest before; `None` for a new image.
    pub from: Option<Digest>,
    /// Its digest now.
    pub to: Digest,
}

/// A package that moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageMove {
    /// Its name.
    pub name: String,
    /// Its version before; `None` for a new package.
    pub from: Option<String>,
    /// Its version now; `None` for a dropped package.
    pub to: Option<String>,
}

/// The result of a run's check of one image's outside inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockCheck {
    /// The image.
    pub image: ImageName,
    /// The result.
    pub result: LockCheckResult,
    /// The number of the overlay that the run added, if it added one.
    #[serde(default)]
    pub overlay: Option<u32>,
    /// What moved; empty if nothing did, and for a first lock.
    #[serde(default)]
    pub moves: LockMoves,
    /// Why the old lock was kept, for [`LockCheckResult::Kept`].
    #[serde(default)]
    pub message: Option<String>,
}

/// The outcome of a lock check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockCheckResult {
    /// The image had no lock for its present request.
    First,
    /// An outside input moved.
    Moved,
    /// No outside input moved.
    Unchanged,
    /// The outside inputs could not be fetched, or were older: the old lock was kept.
    Kept,
}

impl fmt::Display for LockCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.result {
            LockCheckResult::First => f.write_str("locked for the first time"),
            LockCheckResult::Moved => self.moves.fmt(f),
            LockCheckResult::Unchanged => f.write_str("nothing moved"),
            LockCheckResult::Kept => {
                write!(
                    f,
                    "the lock is kept: {}",
                    self.message.as_deref().unwrap_or("the outside inputs could not be fetched")
                )
            }
        }
    }
}

impl LockMoves {
    /// Compares two locks.
    pub fn between(old: &Lock, new: &Lock) -> Self {
        let base = match &new.base {
            Some(to) if !same_base(old, new) => Some(BaseMove { from: old.base.clone(), to: to.clone() }),
            _ => None,
        };
        let mut packages = BTreeSet::new();
        for platform in old.packages.keys().chain(new.packages.keys()) {
            let versions = |lock: &Lock| -> BTreeSet<(String, String)> {
                let all = lock.packages.get(platform).into_iter().flatten().flatten();
                all.map(|package| (package.name.clone(), package.version.clone())).collect()
            };
            let (before, now) = (versions(old), versions(new));
            let find = |set: &BTreeSet<(String, String)>, name: &String| {
                set.iter().find(|(other, _)| other == name).map(|(_, version)| version.clone())
            };
            for (name, _) in before.symmetric_difference(&now) {
                let (from, to) = (find(&before, name), find(&now, name));
                packages.insert(PackageMove { name: name.clone(), from, to });
            }
        }
        let has_any = |lock: &Lock| lock.packages.values().flatten().flatten().any(|it| it.sha256.is_some());
        let hashed = has_any(new) && !has_any(old) && !old.packages.is_empty();
        packages.extend(replaced(old, new));
        let packages = packages.into_iter().collect();
        Self { base, packages, images: images(old, new), refreshed: false, hashed }
    }

    /// Whether nothing moved.
    pub const fn is_empty(&self) -> bool {
        let is_unmoved = self.base.is_none() && self.packages.is_empty() && self.images.is_empty();
        is_unmoved && !self.refreshed && !self.hashed
    }

    /// The first package whose version is older now. It means that a mirror lags behind; no lock follows it.
    pub fn backwards(&self) -> Option<&PackageMove> {
        self.packages.iter().find(|package| {
            let versions = package.from.as_deref().zip(package.to.as_deref());
            versions.is_some_and(|(from, to)| compare_versions(to, from) == Ordering::Less)
        })
    }
}

/// Whether two locks pin the same base for every platform of the newer one.
fn same_base(old: &Lock, new: &Lock) -> bool {
    if old.bases.is_empty() || new.bases.is_empty() {
        return old.base == new.base;
    }
    new.bases.keys().all(|platform| new.has_base_of(old, platform))
}

/// Packages of the same version whose archive is another one.
fn replaced(old: &Lock, new: &Lock) -> Vec<PackageMove> {
    let mut moves = Vec::new();
    for (platform, steps) in &new.packages {
        let before: BTreeMap<_, _> = old
            .packages
            .get(platform)
            .into_iter()
            .flatten()
            .flatten()
            .map(|package| (package.identity(), &package.sha256))
            .collect();
        for package in steps.iter().flatten() {
            let Some(Some(hash)) = before.get(&package.identity()) else { continue };
            if package.sha256.as_ref().is_some_and(|now| now != hash) {
                let version = Some(package.version.clone());
                moves.push(PackageMove { name: package.name.clone(), from: version.clone(), to: version });
            }
        }
    }
    moves
}

/// `systemd 257.1-1 → 257.2-1`, `+ curl 8.0`, `- curl 8.0`.
impl fmt::Display for PackageMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{name} {from} → {to}"),
            (None, Some(to)) => write!(f, "+ {name} {to}"),
            (Some(from), None) => write!(f, "- {name} {from}"),
            (None, None) => f.write_str(name),
        }
    }
}

/// One line: `systemd 257.1-1 → 257.2-1 (+3 more), base moved to sha256:1a2b…`.
impl fmt::Display for LockMoves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing moved");
        }
        let more = |count: usize| if count > 1 { format!(" (+{} more)", count - 1) } else { String::new() };
        let mut parts = Vec::new();
        parts.extend(self.packages.first().map(|first| format!("{first}{}", more(self.packages.len()))));
        parts.extend(self.base.as_ref().map(|base| format!("base moved to {}", base.to.short())));
        parts.extend(
            self.images.first().map(|first| {
                format!("{} moved to {}{}", first.name, first.to.short(), more(self.images.len()))
            }),
        );
        parts.extend(self.refreshed.then(|| "refreshed".to_owned()));
        parts.extend(self.hashed.then(|| "hashes of packages recorded".to_owned()));
        f.write_str(&parts.join(", "))
    }
}

/// The images of a newer lock that are not those of an older one.
fn images(old: &Lock, new: &Lock) -> Vec<ImageMove> {
    let is_new = |image: &&LockedImage| !old.images.contains(image);
    let moved = new.images.iter().filter(is_new).map(|image| {
        let same = |other: &&LockedImage| other.is_version_of(image);
        ImageMove {
            name: image.reference.to_string(),
            from: old.images.iter().find(same).map(|other| other.digest.clone()),
            to: image.digest.clone(),
        }
    });
    let moved: BTreeSet<ImageMove> = moved.collect();
    moved.into_iter().collect()
}

/// Debian's order of versions: epoch, upstream version, revision; `~` sorts before the end.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn parts(version: &str) -> (u64, &str, &str) {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
    let ((epoch_a, upstream_a, revision_a), (epoch_b, upstream_b, revision_b)) = (parts(a), parts(b));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| compare_part(upstream_a.as_bytes(), upstream_b.as_bytes()))
        .then_with(|| compare_part(revision_a.as_bytes(), revision_b.as_bytes()))
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    /// Letters sort before all other non-digits, `~` before the end of the text, and the end before letters.
    fn weight(byte: Option<u8>) -> i32 {
        match byte {
            Some(b'~') => -1,
            None | Some(b'0'..=b'9') => 0,
            Some(letter) if letter.is_ascii_alphabetic() => i32::from(letter),
            Some(other) => i32::from(other) + 256,
        }
    }
    fn number<'n>(text: &mut &'n [u8]) -> &'n [u8] {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        *text = rest;
        let zeros = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
        &digits[zeros..]
    }
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (weight(a.first().copied()), weight(b.first().copied()));
            if x != y {
                return x.cmp(&y);
            }
            if x == 0 {
                break;
            }
            (a, b) = (&a[1..], &b[1..]);
        }
        let (x, y) = (number(&mut a), number(&mut b));
        let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::LockedPackage;

    fn lock(base: Option<&str>, packages: &[(&str, &str)]) -> Lock {
        let package = |(name, version): &(&str, &str)| LockedPackage::new(*name, *version, "amd64");
        let packages: Vec<LockedPackage> = packages.iter().map(package).collect();
        let platforms = ["linux/amd64", "linux/arm64"];
        Lock {
            version: 1,
            request: Digest::of("request"),
            epoch: jiff::Timestamp::UNIX_EPOCH,
            epochs: BTreeMap::new(),
            base: base.map(Digest::of),
            bases: BTreeMap::new(),
            archives: Vec::new(),
            images: Vec::new(),
            packages: platforms.map(|name| (name.parse().unwrap(), vec![packages.clone()])).into(),
        }
    }

    #[test]
    fn an_index_that_moves_for_other_platforms_moves_nothing() {
        let platform = |name: &str| name.parse::<crate::names::Platform>().unwrap();
        let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
        let at = |index: &str, arm: &str, epoch: i64| {
            let mut lock = lock(Some(index), &[("libc6", "1")]);
            lock.epoch = jiff::Timestamp::from_second(epoch).unwrap();
            lock.bases = [(amd64.clone(), Digest::of("amd")), (arm64.clone(), Digest::of(arm))].into();
            lock
        };
        let old = at("one", "arm", 1);
        assert!(LockMoves::between(&old, &at("two", "arm", 2)).is_empty());
        let mut new = at("two", "other", 2);
        assert!(LockMoves::between(&old, &new).base.is_some());
        new.keep_epochs(&old);
        assert_eq!((new.epoch_of(&amd64), new.epoch_of(&arm64)), (old.epoch, new.epoch));
        // Without the digests of platforms, the index counts.
        let plain = |index| Lock { bases: BTreeMap::new(), ..at(index, "arm", 1) };
        assert!(LockMoves::between(&plain("one"), &at("one", "arm", 1)).is_empty());
        assert!(LockMoves::between(&plain("one"), &at("two", "arm", 1)).base.is_some());
    }

    #[test]
    fn hashes_are_moves() {
        let hashed = |text: &str| {
            let mut lock = lock(None, &[("curl", "8.0"), ("libc6", "1")]);
            for package in lock.packages.values_mut().flatten().flatten() {
                package.sha256 = Some(Digest::of(format!("{}{text}", package.name)));
            }
            lock
        };
        let none = lock(None, &[("curl", "8.0"), ("libc6", "1")]);
        assert_eq!(LockMoves::between(&none, &hashed("")).to_string(), "hashes of packages recorded");
        assert!(LockMoves::between(&hashed(""), &hashed("")).is_empty());
        let other = LockMoves::between(&hashed(""), &hashed("x"));
        assert_eq!(other.to_string(), "curl 8.0 → 8.0 (+1 more)");
    }

    #[test]
    fn moves_print_on_one_line() {
        let old = lock(Some("a"), &[("gone", "1"), ("libc6", "2.41-1"), ("systemd", "257.1-1")]);
        let cases = [
            (lock(Some("a"), &[("gone", "1"), ("libc6", "2.41-1"), ("systemd", "257.1-1")]), "nothing moved"),
            (
                lock(Some("a"), &[("gone", "1"), ("libc6", "2.41-1"), ("systemd", "257.2-1")]),
                "systemd 257.1-1 → 257.2-1",
            ),
            (lock(Some("a"), &[("libc6", "2.42-1"), ("systemd", "257.2-1")]), "- gone 1 (+2 more)"),
            (
                lock(Some("a"), &[("a", "1"), ("gone", "1"), ("libc6", "2.41-1"), ("systemd", "257.1-1")]),
                "+ a 1",
            ),
        ];
        for (new, expected) in cases {
            assert_eq!(LockMoves::between(&old, &new).to_string(), expected);
        }
        let moved = LockMoves::between(&lock(Some("a"), &[("x", "1")]), &lock(Some("b"), &[("x", "2")]));
        assert!(moved.to_string().starts_with("x 1 → 2, base moved to "), "{moved}");
        assert_eq!(moved.backwards(), None);
        let back = LockMoves::between(&lock(None, &[("x", "2")]), &lock(None, &[("x", "2~rc1")]));
        assert_eq!(back.backwards().unwrap().to_string(), "x 2 → 2~rc1");
    }

    #[test]
    fn versions_sort_as_debian_sorts_them() {
        let ascending = [
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-2",
            "1.0+dfsg-1",
            "1.0.1-1",
            "1.2-1",
            "1.10-1",
            "2-1",
            "1:0.1",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_versions("0:1.00-1", "1.0-01"), Ordering::Equal);
    }
}
