//! Boot loader entries with boot counting: their names, their order and their text.
//!
//! The rules are those of the [Boot Loader Specification] and of [automatic boot assessment]: an entry
//! `edgewright-7+3.conf` may be tried three times. Before each try the boot loader renames it
//! (`edgewright-7+2-1.conf`), and an entry without tries left is sorted last. A good entry has no counter.
//!
//! [Boot Loader Specification]: https://uapi-group.org/specifications/specs/boot_loader_specification/
//! [automatic boot assessment]: https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT/

use std::cmp::Ordering;
use std::fmt;

/// Tries that an armed entry has by default: one boot may end by a power cut.
pub const BOOT_TRIES: u32 = 3;

/// The number of a deployment. It only grows, so the newest deployment is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DeploymentNumber(pub u64);

impl fmt::Display for DeploymentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The counter in the name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Boots that are left.
    pub left: u32,
    /// Boots that were tried.
    pub done: u32,
}

/// The name of one of our entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName {
    /// The deployment that it boots.
    pub number: DeploymentNumber,
    /// The counter; none for a good entry.
    pub counter: Option<Counter>,
}

const PREFIX: &str = "edgewright-";
const SUFFIX: &str = ".conf";

impl EntryName {
    /// The name of a good entry.
    pub const fn good(number: DeploymentNumber) -> Self {
        Self { number, counter: None }
    }

    /// The name of an entry that may be tried.
    pub const fn to_try(number: DeploymentNumber, tries: u32) -> Self {
        Self { number, counter: Some(Counter { left: tries, done: 0 }) }
    }

    /// The name of an entry that is chosen only if there is no other one.
    #[must_use]
    pub fn bad(self) -> Self {
        let done = self.counter.map_or(1, |c| c.done.max(1));
        Self { number: self.number, counter: Some(Counter { left: 0, done }) }
    }

    /// Whether the boot loader chooses it before entries without tries left.
    pub fn is_bootable(self) -> bool {
        self.counter.is_none_or(|c| c.left > 0)
    }

    /// Whether it has no counter.
    pub const fn is_good(self) -> bool {
        self.counter.is_none()
    }

    /// Reads a file name; none if it is not one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (number, counter) = match stem.split_once('+') {
            None => (stem, None),
            Some((number, counter)) => {
                let (left, done) = match counter.split_once('-') {
                    None => (counter, "0"),
                    Some((left, done)) => (left, done),
                };
                (number, Some(Counter { left: digits(left)?, done: digits(done)? }))
            }
        };
        Some(Self { number: DeploymentNumber(digits(number)?), counter })
    }

    /// The order in which the boot loader chooses: the least is booted next.
    pub fn boot_order(&self, other: &Self) -> Ordering {
        other.is_bootable().cmp(&self.is_bootable()).then(other.number.cmp(&self.number)).then_with(|| {
            // The same deployment twice is only seen after a power cut; the boot loader prefers fewer tries done
            // and more tries left.
            let key = |name: &Self| name.counter.map_or((u32::MAX, 0), |c| (c.left, c.done));
            let ((left, done), (other_left, other_done)) = (key(self), key(other));
            other_left.cmp(&left).then(done.cmp(&other_done))
        })
    }
}

/// Decimal digits only: `str::parse` would take a sign.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.number)?;
        match self.counter {
            None => {}
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(SUFFIX)
    }
}

/// What an entry boots.
#[derive(Debug, Clone)]
pub struct EntryText<'a> {
    /// For people: the system's name in the menu.
    pub title: &'a str,
    /// The deployment.
    pub number: DeploymentNumber,
    /// The kernel's path from the root of the ESP.
    pub linux: &'a str,
    /// The initramfs's path from the root of the ESP.
    pub initrd: &'a str,
    /// The kernel's arguments.
    pub options: &'a [String],
}

impl fmt::Display for EntryText<'_> {
    /// The file. Line breaks in values become spaces, so that no value adds a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.replace(['\n', '\r', '\0'], " ");
        writeln!(f, "title {} (deployment {})", line(self.title), self.number)?;
        writeln!(f, "sort-key edgewright")?;
        writeln!(f, "version {}", self.number)?;
        writeln!(f, "linux {}", line(self.linux))?;
        writeln!(f, "initrd {}", line(self.initrd))?;
        writeln!(f, "options {}", line(&self.options.join(" ")))
    }
}

/// Whether the text of one of our entries is all there: a power cut leaves it empty, or without its end.
pub fn is_complete(text: &[u8]) -> bool {
    let has = |key: &str| text.split(|byte| *byte == b'\n').any(|line| line.starts_with(key.as_bytes()));
    text.ends_with(b"\n")
        && !text.contains(&0)
        && ["linux /", "initrd /", "options "].iter().all(|key| has(key))
}

/// The places of the deployments of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places {
    /// What an automatic or manual rollback returns to: the newest good one that is older than the booted.
    pub fallback: Option<DeploymentNumber>,
    /// The newest one that is newer than the booted, armed or not.
    pub staged: Option<DeploymentNumber>,
    /// What the boot loader chooses next.
    pub next: Option<DeploymentNumber>,
}

impl Places {
    /// Finds the places from what is deployed, the entries of the boot loader and what is booted.
    pub fn find(
        deployed: &[DeploymentNumber],
        entries: &[EntryName],
        booted: Option<DeploymentNumber>,
    ) -> Self {
        let is_newer = |number: DeploymentNumber| booted.is_none_or(|booted| number > booted);
        let staged = deployed.iter().copied().filter(|n| is_newer(*n)).max();
        let fallback = entries
            .iter()
            .filter(|entry| entry.is_good() && !is_newer(entry.number) && Some(entry.number) != booted)
            .map(|entry| entry.number)
            .filter(|number| deployed.contains(number))
            .max();
        let next = entries.iter().min_by(|a, b| a.boot_order(b)).map(|entry| entry.number);
        Self { fallback, staged, next }
    }

    /// Whether a deployment is kept by a collection.
    pub fn keeps(&self, number: DeploymentNumber, booted: Option<DeploymentNumber>) -> bool {
        [booted, self.fallback, self.staged].contains(&Some(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> EntryName {
        EntryName::parse(text).unwrap()
    }

    #[test]
    fn names_are_those_of_boot_counting() {
        assert_eq!(EntryName::to_try(DeploymentNumber(7), 3).to_string(), "edgewright-7+3.conf");
        assert_eq!(EntryName::good(DeploymentNumber(7)).to_string(), "edgewright-7.conf");
        assert_eq!(name("edgewright-7+2-1.conf").counter, Some(Counter { left: 2, done: 1 }));
        assert_eq!(name("edgewright-7+2-1.conf").bad().to_string(), "edgewright-7+0-1.conf");
        for wrong in ["edgewright-.conf", "edgewright-+7.conf", "edgewright-7+.conf", "edgewright-7+1-.conf"]
        {
            assert_eq!(EntryName::parse(wrong), None, "{wrong}");
        }
        for other in ["fedora-7.conf", "edgewright-7.conf.tmp", "edgewright-99999999999999999999.conf"] {
            assert_eq!(EntryName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_value_adds_no_line_to_an_entry() {
        let text = EntryText {
            title: "a\noptions init=/bin/sh",
            number: DeploymentNumber(1),
            linux: "/l",
            initrd: "/i",
            options: &["quiet".to_owned()],
        }
        .to_string();
        assert_eq!(text.lines().filter(|line| line.starts_with("options")).count(), 1);
    }

    #[test]
    fn no_part_of_an_entry_is_complete() {
        let (number, options) = (DeploymentNumber(1), ["root=/dev/a quiet".to_owned()]);
        let whole =
            EntryText { title: "t", number, linux: "/l", initrd: "/i", options: &options }.to_string();
        assert!(is_complete(whole.as_bytes()));
        for length in 0..whole.len() {
            let mut torn = whole.as_bytes()[..length].to_vec();
            assert!(!is_complete(&torn), "{length}");
            torn.resize(whole.len(), 0);
            assert!(!is_complete(&torn), "{length}, filled up");
        }
    }

    #[test]
    fn an_entry_without_tries_left_falls_back() {
        let entries = [name("edgewright-3+0-1.conf"), name("edgewright-2.conf"), name("edgewright-1.conf")];
        let deployed = [1, 2, 3].map(DeploymentNumber);
        let places = Places::find(&deployed, &entries, Some(DeploymentNumber(2)));
        assert_eq!(places.next, Some(DeploymentNumber(2)));
        assert_eq!(places.staged, Some(DeploymentNumber(3)));
        assert_eq!(places.fallback, Some(DeploymentNumber(1)));
    }

    fn entry_names() -> impl Strategy<Value = EntryName> {
        (0_u64..9, prop::option::of((0_u32..5, 0_u32..5))).prop_map(|(number, counter)| EntryName {
            number: DeploymentNumber(number),
            counter: counter.map(|(left, done)| Counter { left, done }),
        })
    }

    proptest! {
        #[test]
        fn a_name_that_was_written_is_read(entry in entry_names()) {
            prop_assert_eq!(EntryName::parse(&entry.to_string()), Some(entry));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(edgewright-)?[0-9+-]{0,30}(\\.conf)?") {
            if let Some(entry) = EntryName::parse(&text) {
                prop_assert_eq!(EntryName::parse(&entry.to_string()), Some(entry));
            }
        }

        /// The boot loader renames before each boot. Whatever was armed, after its tries a good entry boots.
        #[test]
        fn a_good_entry_is_always_reached(tries in 0_u32..6, good in 0_u64..5, armed in 5_u64..9) {
            let mut trial = EntryName::to_try(DeploymentNumber(armed), tries);
            let good = EntryName::good(DeploymentNumber(good));
            let mut boots = 0;
            while trial.boot_order(&good) == Ordering::Less {
                let counter = trial.counter.unwrap();
                trial.counter = Some(Counter { left: counter.left - 1, done: counter.done + 1 });
                boots += 1;
            }
            prop_assert_eq!(boots, tries);
        }

        #[test]
        fn the_order_is_total(a in entry_names(), b in entry_names(), c in entry_names()) {
            prop_assert_eq!(a.boot_order(&b), b.boot_order(&a).reverse());
            if a.boot_order(&b).is_le() && b.boot_order(&c).is_le() {
                prop_assert!(a.boot_order(&c).is_le());
            }
        }

        /// What is booted, its fallback and what is staged are three different deployments.
        #[test]
        fn places_differ(
            deployed in prop::collection::btree_set(0_u64..9, 0..6),
            entries in prop::collection::vec(entry_names(), 0..6),
            booted in prop::option::of(0_u64..9),
        ) {
            let deployed: Vec<_> = deployed.into_iter().map(DeploymentNumber).collect();
            let booted = booted.map(DeploymentNumber);
            let places = Places::find(&deployed, &entries, booted);
            prop_assert!(places.fallback.is_none() || places.fallback != places.staged);
            prop_assert!(booted.is_none() || (places.fallback != booted && places.staged != booted));
            for number in [places.fallback, places.staged].into_iter().flatten() {
                prop_assert!(deployed.contains(&number) && places.keeps(number, booted));
            }
        }
    }
}
