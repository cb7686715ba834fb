//! Hints that one credential is used by two machines: boots that return, addresses that alternate. They are
//! shown, and nothing is decided by them: a network may have several addresses, and reports may be copied.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

/// Maximum number of boots that are remembered of a device, to notice one that returns.
const MAX_BOOTS: usize = 8;
/// Maximum number of addresses that are remembered of a device.
const MAX_ADDRESSES: usize = 4;
/// How long an address is remembered after a request from another one.
const MEMORY: SignedDuration = SignedDuration::from_mins(30);
/// How often addresses must return in that time before it is shown: a network may change its address.
const RETURNS: usize = 3;

/// The identity of a device in one of its reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub stream: String,
    pub sequence: u64,
    /// The id of the boot.
    pub boot: String,
}

/// What is remembered of a device.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Stream and boot, oldest first, without repetitions in a row.
    boots: Vec<(String, String)>,
    /// The highest number of each stream.
    highest: BTreeMap<String, u64>,
    current: Option<IpAddr>,
    /// Other addresses, and when each was left.
    left: Vec<(IpAddr, Timestamp)>,
    returns: Vec<Timestamp>,
}

impl Traces {
    /// A report names its boot. Boots never return: if one does, two machines have the credential.
    pub(super) fn report(&mut self, sighting: &Sighting) -> Option<String> {
        let highest = self.highest.entry(sighting.stream.clone()).or_insert(0);
        if sighting.sequence <= *highest {
            return None; // sent again
        }
        *highest = sighting.sequence;
        if self.highest.len() > MAX_BOOTS {
            self.highest.retain(|stream, _| *stream == sighting.stream);
        }
        let boot = (sighting.stream.clone(), sighting.boot.clone());
        if self.boots.last() == Some(&boot) {
            return None;
        }
        let returns = self.boots.contains(&boot);
        self.boots.retain(|other| *other != boot);
        self.boots.push(boot);
        if self.boots.len() > MAX_BOOTS {
            self.boots.remove(0);
        }
        returns.then(|| format!("reports of boot {} continue after those of another boot", sighting.boot))
    }

    /// A request came from an address. A device that moves leaves its address for long.
    pub(super) fn request(&mut self, from: IpAddr, at: Timestamp) -> Option<String> {
        let before = self.current.replace(from).filter(|before| *before != from)?;
        let oldest = at.checked_sub(MEMORY).unwrap_or(Timestamp::MIN);
        self.left.retain(|(_, left)| *left > oldest);
        self.returns.retain(|returned| *returned > oldest);
        let returns = self.left.iter().any(|(address, _)| *address == from);
        self.left.retain(|(address, _)| *address != from && *address != before);
        self.left.push((before, at));
        if self.left.len() > MAX_ADDRESSES {
            self.left.remove(0);
        }
        if returns {
            self.returns.push(at);
        }
        if self.returns.len() < RETURNS {
            return None;
        }
        self.returns.clear();
        Some(format!("requests alternate between {from} and {before}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn reported(reports: &[(&str, u64, &str)]) -> usize {
        let mut traces = Traces::default();
        let report = |(stream, sequence, boot): &(&str, u64, &str)| {
            let (stream, boot) = ((*stream).to_owned(), (*boot).to_owned());
            traces.report(&Sighting { stream, sequence: *sequence, boot })
        };
        reports.iter().filter_map(report).count()
    }

    #[test]
    fn a_boot_that_returns_is_a_clone_and_a_repeated_report_is_not() {
        assert_eq!(reported(&[("s", 1, "a"), ("s", 2, "a"), ("s", 3, "b"), ("s", 4, "c")]), 0);
        assert_eq!(reported(&[("s", 1, "a"), ("s", 2, "b"), ("s", 1, "a"), ("s", 2, "b")]), 0, "sent again");
        assert_eq!(reported(&[("s", 1, "a"), ("t", 1, "b"), ("t", 2, "c")]), 0, "the state was lost");
        assert_eq!(reported(&[("s", 1, "a"), ("s", 2, "b"), ("s", 3, "a")]), 1, "a copied disk");
        assert_eq!(reported(&[("s", 1, "a"), ("t", 1, "b"), ("s", 2, "a")]), 1, "a copied credential");
    }

    #[test]
    fn addresses_that_alternate_are_noticed_and_a_move_is_not() {
        let asked = |requests: &[(u8, i64)]| {
            let mut traces = Traces::default();
            let request = |(address, minute): &(u8, i64)| {
                let at = NOW.checked_add(SignedDuration::from_mins(*minute)).unwrap();
                traces.request(IpAddr::from([10, 0, 0, *address]), at)
            };
            requests.iter().filter_map(request).count()
        };
        assert_eq!(asked(&[(1, 0), (1, 5), (2, 10), (2, 15), (2, 60)]), 0, "it moved");
        assert_eq!(asked(&[(1, 0), (2, 60), (1, 120), (2, 180), (1, 240)]), 0, "it commutes");
        assert_eq!(asked(&[(1, 0), (2, 1), (1, 2)]), 0, "once is no hint");
        assert_eq!(asked(&[(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)]), 1, "two at once");
    }
}
