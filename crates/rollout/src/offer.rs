//! Offers: which image a device is answered with. One pure function over what is known about the device.
//!
//! ```text
//!  revoked, waiting ─▶ nothing
//!  else the first of these that is permitted:
//!    pin, or hold ─▶ rollout ─▶ channel's completed release ─▶ last confirmed ─▶ last delivered
//! ```
//!
//! Not permitted is a quarantined image; what the device failed with, from its channel; and after a restore,
//! whatever the backup knew, because the device may have newer ones. What was delivered last is the end of
//! the list: it changes nothing on the device, so it is permitted while there is nothing else.

use std::fmt;

/// What is known about a device. `I` is an image: what it is named by is the caller's.
pub struct Facts<'a, 'q, I> {
    /// Whether it is approved, and neither revoked nor retired.
    pub is_member: bool,
    /// Whether an operator holds it.
    pub is_held: bool,
    /// The image of the release that it is pinned to; the inner one is none where that has no image for it.
    pub pin: Option<Option<&'a I>>,
    /// What its rollout has for it.
    pub rollout: Option<Turn<'a, I>>,
    /// Of the channel's completed release.
    pub completed: Option<&'a I>,
    /// What it reported to run.
    pub confirmed: Option<&'a I>,
    /// What it was answered with last.
    pub delivered: Option<&'a I>,
    /// What no device is to be answered with any more.
    pub is_quarantined: &'q dyn Fn(&I) -> bool,
    /// What this device could not run, or left.
    pub has_failed: &'q dyn Fn(&I) -> bool,
    /// What a device may not get whose image may be newer than anything known here.
    pub is_below_floor: &'q dyn Fn(&I) -> bool,
}

impl<I: fmt::Debug> fmt::Debug for Facts<'_, '_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("is_member", &self.is_member)
            .field("is_held", &self.is_held)
            .field("pin", &self.pin)
            .field("rollout", &self.rollout)
            .field("completed", &self.completed)
            .field("confirmed", &self.confirmed)
            .field("delivered", &self.delivered)
            .finish_non_exhaustive()
    }
}

/// What a rollout has for a device.
#[derive(Debug)]
pub struct Turn<'a, I> {
    /// The release, or what the device had before.
    pub image: &'a I,
    /// Whether it is the release for the first time.
    pub is_first: bool,
}

/// What a device is answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Offer<'a, I> {
    /// The image; none: there is nothing for it.
    pub image: Option<&'a I>,
    /// Why.
    pub why: Why,
    /// Whether it is the rollout's release for the first time.
    pub is_first: bool,
}

/// Why a device gets what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is revoked, retired, or not approved.
    NoMember,
    /// An operator pinned it.
    Pinned,
    /// An operator holds it.
    Held,
    /// A rollout decides, for a reason of its own.
    Rollout,
    /// Its channel has completed this release.
    Completed,
    /// Nothing better is permitted: the last image that ran healthy.
    Confirmed,
    /// Nothing else is permitted: what it was answered last.
    Delivered,
    /// A backup was restored, and nothing newer was released yet.
    Restored,
    /// There is nothing for it.
    Nothing,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMember => "the device is revoked, retired or not approved",
            Self::Pinned => "an operator pinned the device",
            Self::Held => "an operator holds the device",
            Self::Rollout => "its rollout decides",
            Self::Completed => "the channel's completed release",
            Self::Confirmed => "no other image is permitted: the last one that ran healthy",
            Self::Delivered => "no other image is permitted: the last one that was delivered",
            Self::Restored => {
                "the server was restored from a backup, and the device may have a newer image: it waits for the \
                 next release, or for its own report"
            }
            Self::Nothing => "the device's channel has no release with an image for its slot",
        })
    }
}

/// Decides what a device is answered with.
pub fn offer<'a, I>(facts: &Facts<'a, '_, I>) -> Offer<'a, I> {
    let none = |why| Offer { image: None, why, is_first: false };
    if !facts.is_member {
        return none(Why::NoMember);
    }
    let is_permitted = |image: &&I| !(facts.is_quarantined)(image) && !(facts.is_below_floor)(image);
    let given = |image, why| Offer { image: Some(image), why, is_first: false };

    if let Some(image) = facts.pin.flatten().filter(is_permitted) {
        return given(image, Why::Pinned);
    }
    // A pin to what is not permitted, or not there, holds the device.
    if facts.pin.is_some() || facts.is_held {
        let why = if facts.is_held { Why::Held } else { Why::Pinned };
        if let Some(image) = facts.delivered.filter(is_permitted).or(facts.confirmed.filter(is_permitted)) {
            return given(image, why);
        }
    } else if let Some(Turn { image, is_first }) = &facts.rollout
        && is_permitted(image)
    {
        return Offer { image: Some(image), why: Why::Rollout, is_first: *is_first };
    }
    if let Some(image) = facts.completed.filter(is_permitted).filter(|image| !(facts.has_failed)(image)) {
        return given(image, Why::Completed);
    }
    if let Some(image) = facts.confirmed.filter(is_permitted) {
        return given(image, Why::Confirmed);
    }
    if let Some(image) = facts.delivered {
        return given(image, Why::Delivered);
    }
    let is_restored = facts.completed.or(facts.confirmed).is_some_and(|image| (facts.is_below_floor)(image));
    none(if is_restored { Why::Restored } else { Why::Nothing })
}

#[cfg(test)]
mod tests;
