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

use edgewright_store::fleet::{DeviceState, Image};

use super::port::RolloutAnswer;

/// What is known about a device.
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a DeviceState,
    /// The image of the release that it is pinned to; the inner one is none where that has no image for it.
    #[expect(clippy::option_option, reason = "a pin to what is not there is a pin")]
    pub(crate) pin: Option<Option<&'a Image>>,
    pub(crate) rollout: Option<&'a RolloutAnswer>,
    /// Of the channel's completed release.
    pub(crate) completed: Option<&'a Image>,
    pub(crate) confirmed: Option<&'a Image>,
    pub(crate) delivered: Option<&'a Image>,
    /// What no device is to be answered with any more.
    pub(crate) is_quarantined: &'a dyn Fn(&Image) -> bool,
    /// What this device could not run, or left.
    pub(crate) has_failed: &'a dyn Fn(&Image) -> bool,
    /// What a device may not get whose image may be newer than anything known here.
    pub(crate) is_below_floor: &'a dyn Fn(&Image) -> bool,
}

/// What a device is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) image: Option<Image>,
    pub(crate) why: Why,
    /// Whether it is the rollout's release for the first time.
    pub(crate) is_first: bool,
}

/// Why a device gets what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is revoked, retired, or not approved.
    NoMember,
    /// An operator pinned it.
    Pinned,
    /// An operator holds it.
    Held,
    /// A rollout decides, with its reason in words.
    Rollout(String),
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

impl Why {
    /// In words, for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::NoMember => "the device is revoked, retired or not approved".to_owned(),
            Self::Pinned => "an operator pinned the device".to_owned(),
            Self::Held => "an operator holds the device".to_owned(),
            Self::Rollout(reason) => reason.clone(),
            Self::Completed => "the channel's completed release".to_owned(),
            Self::Confirmed => "no other image is permitted: the last one that ran healthy".to_owned(),
            Self::Delivered => "no other image is permitted: the last one that was delivered".to_owned(),
            Self::Restored => {
                "the server was restored from a backup, and the device may have a newer image: it \
                               waits for the next release, or for its own report"
                    .to_owned()
            }
            Self::Nothing => "the device's channel has no release with an image for its slot".to_owned(),
        }
    }
}

/// Decides what a device is answered with.
pub(crate) fn offer(facts: &Facts<'_>) -> Offer {
    let none = |why| Offer { image: None, why, is_first: false };
    if !facts.state.is_member() {
        return none(Why::NoMember);
    }
    let is_permitted = |image: &&Image| !(facts.is_quarantined)(image) && !(facts.is_below_floor)(image);
    let given = |image: &Image, why| Offer { image: Some(image.clone()), why, is_first: false };

    let is_held = matches!(facts.state, DeviceState::Held { .. });
    if let Some(image) = facts.pin.flatten().filter(is_permitted) {
        return given(image, Why::Pinned);
    }
    // A pin to what is not permitted, or not there, holds the device.
    if facts.pin.is_some() || is_held {
        let why = if is_held { Why::Held } else { Why::Pinned };
        if let Some(image) = facts.delivered.filter(is_permitted).or(facts.confirmed.filter(is_permitted)) {
            return given(image, why);
        }
    } else if let Some(answer) = facts.rollout {
        let image = Image { repository: answer.repository.clone(), digest: answer.digest.clone() };
        if is_permitted(&&image) {
            let is_first = answer.is_new && answer.is_first;
            return Offer { image: Some(image), why: Why::Rollout(answer.reason.clone()), is_first };
        }
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
