//! What devices are answered with. [`edgewright_rollout::offer`] decides.

use edgewright_rollout::offer::Why;
use edgewright_store::fleet::Image;

/// What a device is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) image: Option<Image>,
    pub(crate) why: Why,
    /// The reason of its rollout, if it is in one.
    pub(crate) rollout: Option<String>,
    /// Whether it is the rollout's release for the first time.
    pub(crate) is_first: bool,
}

impl Offer {
    /// Why, in words for people.
    pub(crate) fn words(&self) -> String {
        let rollout = self.rollout.as_ref().filter(|_| self.why == Why::Rollout);
        rollout.cloned().unwrap_or_else(|| self.why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_rollout_is_its_own() {
        let offer =
            Offer { image: None, why: Why::Rollout, rollout: Some("canary".to_owned()), is_first: true };
        assert_eq!(offer.words(), "canary");
        assert_eq!(Offer { why: Why::Pinned, ..offer }.words(), Why::Pinned.to_string());
    }
}
