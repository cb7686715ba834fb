//! What devices are answered with: [`edgewright_rollout::offer`] decides; here it gets what is in memory.

use edgewright_rollout::offer::{self, Turn, Why};
use edgewright_store::fleet::{DeviceState, Image};

use super::port::RolloutAnswer;

/// What is known about a device.
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a DeviceState,
    /// The image of the release that it is pinned to; the inner one is none where that has no image for it.
    #[expect(clippy::option_option, reason = "a pin to what is not there is a pin")]
    pub(crate) pin: Option<Option<&'a Image>>,
    pub(crate) rollout: Option<RolloutAnswer>,
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
    why: Why,
    /// The reason of its rollout, if that decides.
    rollout: Option<String>,
    /// Whether it is the rollout's release for the first time.
    pub(crate) is_first: bool,
}

impl Offer {
    /// Why, in words for people.
    pub(crate) fn words(&self) -> String {
        self.rollout.clone().unwrap_or_else(|| self.why.to_string())
    }
}

/// Decides what a device is answered with.
pub(crate) fn offer(facts: Facts<'_>) -> Offer {
    let (turn, reason) = match facts.rollout {
        Some(RolloutAnswer { repository, digest, is_new, is_first, reason }) => {
            (Some((Image { repository, digest }, is_new && is_first)), Some(reason))
        }
        None => (None, None),
    };
    let decided = offer::offer(&offer::Facts {
        is_member: facts.state.is_member(),
        is_held: matches!(facts.state, DeviceState::Held { .. }),
        pin: facts.pin,
        rollout: turn.as_ref().map(|(image, is_first)| Turn { image, is_first: *is_first }),
        completed: facts.completed,
        confirmed: facts.confirmed,
        delivered: facts.delivered,
        is_quarantined: facts.is_quarantined,
        has_failed: facts.has_failed,
        is_below_floor: facts.is_below_floor,
    });
    let (image, why, is_first) = (decided.image.cloned(), decided.why, decided.is_first);
    Offer { image, why, rollout: reason.filter(|_| why == Why::Rollout), is_first }
}

#[cfg(test)]
mod tests;
