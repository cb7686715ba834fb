//! The offer: which digest a device is answered with, from everything that may decide about it.
//!
//! In this order: a revoked device gets nothing; then quarantine and floor take candidates away; the rest
//! in the order of [`Facts::candidates`]. If nothing is left, a device gets what it was given last, as an
//! answer that changes nothing: a device whose registry denies its image would report a fault instead.

use edgewright_model::Digest;
use serde::{Deserialize, Serialize};

/// A digest, and the number of the release that brought it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What the device would run.
    pub digest: Digest,
    /// The release's number; later releases have larger ones.
    pub release: u64,
}

/// Where an offer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person pinned the device to it, or holds it where it is.
    Pin,
    /// The device's turn in a rollout.
    Stage,
    /// The last one that the device confirmed.
    Confirmed,
    /// The last one that the device was given, if nothing else is permitted.
    Delivered,
    /// What the channel has completed: for a device that was never given anything.
    Completed,
}

/// What may decide about a device's offer.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// Its credential was revoked.
    pub is_revoked: bool,
    /// The release that a person pinned it to, or holds it at.
    pub pin: Option<&'a Candidate>,
    /// The release of a rollout, if it is the device's turn.
    pub stage: Option<&'a Candidate>,
    /// The last release that it confirmed as healthy.
    pub confirmed: Option<&'a Candidate>,
    /// The last release that it was given.
    pub delivered: Option<&'a Candidate>,
    /// What its channel has completed.
    pub completed: Option<&'a Candidate>,
    /// The lowest release that is still trusted.
    pub floor: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer<'a> {
    /// This.
    Digest(&'a Candidate, Origin),
    /// Nothing, whatever it asks for.
    Revoked,
    /// There is nothing for it yet.
    None,
}

impl<'a> Facts<'a> {
    fn candidates(&self) -> [(Option<&'a Candidate>, Origin); 3] {
        [(self.pin, Origin::Pin), (self.stage, Origin::Stage), (self.confirmed, Origin::Confirmed)]
    }

    /// The offer. `is_quarantined`: whether a digest is quarantined for this device or for all.
    pub fn offer(&self, is_quarantined: impl Fn(&Digest) -> bool) -> Offer<'a> {
        if self.is_revoked {
            return Offer::Revoked;
        }
        let is_permitted =
            |candidate: &Candidate| candidate.release >= self.floor && !is_quarantined(&candidate.digest);
        let best = self.candidates().into_iter().find_map(|(candidate, origin)| {
            candidate.filter(|candidate| is_permitted(candidate)).map(|candidate| (candidate, origin))
        });
        let last = self.delivered.map(|candidate| (candidate, Origin::Delivered));
        let first = || {
            let completed = self.completed.filter(|candidate| is_permitted(candidate))?;
            Some((completed, Origin::Completed))
        };
        match best.or(last).or_else(first) {
            Some((candidate, origin)) => Offer::Digest(candidate, origin),
            None => Offer::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(release: u64) -> Candidate {
        Candidate { digest: Digest::of(release.to_string()), release }
    }

    #[test]
    fn the_order_of_what_decides() {
        let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(candidate);
        let mut facts = Facts {
            is_revoked: true,
            pin: Some(&one),
            stage: Some(&five),
            confirmed: Some(&three),
            delivered: Some(&four),
            completed: Some(&two),
            floor: 0,
        };
        let nothing_quarantined = |_: &Digest| false;
        assert_eq!(facts.offer(nothing_quarantined), Offer::Revoked);
        facts.is_revoked = false;
        assert_eq!(facts.offer(nothing_quarantined), Offer::Digest(&one, Origin::Pin));
        facts.floor = 2;
        assert_eq!(facts.offer(nothing_quarantined), Offer::Digest(&five, Origin::Stage));
        assert_eq!(facts.offer(|digest| *digest == five.digest), Offer::Digest(&three, Origin::Confirmed));
        assert_eq!(facts.offer(|_| true), Offer::Digest(&four, Origin::Delivered));
        facts.delivered = None;
        facts.confirmed = None;
        facts.stage = None;
        assert_eq!(facts.offer(nothing_quarantined), Offer::Digest(&two, Origin::Completed));
        facts.floor = 3;
        assert_eq!(facts.offer(nothing_quarantined), Offer::None);
    }
}
