//! What a lane does with its device. Pure.

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::spec::Lane;

/// The way of a device in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journey {
    /// What is on its disk.
    pub(crate) installed: ManifestRef,
    /// What it is offered then.
    pub(crate) offer: Offer,
    /// Whether the checks run before it takes the offer: they are the candidate's.
    pub(crate) checks_first: bool,
}

/// What a device is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// An image: it must stay on it.
    Image(ManifestRef),
    /// A successor of the installed image that cannot become good: it must come back by itself.
    Bad,
    /// Nothing: it runs it already.
    Nothing,
}

impl Journey {
    /// The way in a lane; the reason where there is none.
    pub(crate) fn of(
        lane: Lane,
        candidate: &ManifestRef,
        from: Option<&ManifestRef>,
    ) -> Result<Self, String> {
        let image = |image: &ManifestRef, installed: &ManifestRef| {
            if image.digest == installed.digest { Offer::Nothing } else { Offer::Image(image.clone()) }
        };
        let nothing = || match lane {
            Lane::Switch => "nothing of the other image is released yet".to_owned(),
            _ => "nothing is released yet".to_owned(),
        };
        Ok(match lane {
            Lane::Rollback => Self { installed: candidate.clone(), offer: Offer::Bad, checks_first: false },
            Lane::Downgrade => {
                let from = from.ok_or_else(nothing)?;
                let offer = image(from, candidate);
                Self { installed: candidate.clone(), offer, checks_first: true }
            }
            _ => {
                let from = from.ok_or_else(nothing)?;
                Self { installed: from.clone(), offer: image(candidate, from), checks_first: false }
            }
        })
    }

    /// The digest that runs at the end.
    pub(crate) const fn ends_on(&self) -> &Digest {
        match &self.offer {
            Offer::Image(image) => &image.digest,
            Offer::Bad | Offer::Nothing => &self.installed.digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &str) -> ManifestRef {
        ManifestRef { repository: "plant/hmi".parse().unwrap(), digest: Digest::of(content) }
    }

    #[test]
    fn every_lane_has_its_way() {
        let (candidate, released) = (image("candidate"), image("released"));
        let of = |lane| Journey::of(lane, &candidate, Some(&released)).unwrap();
        for lane in [Lane::Upgrade, Lane::Switch] {
            let journey = of(lane);
            assert_eq!((&journey.installed, journey.ends_on()), (&released, &candidate.digest));
            assert!(!journey.checks_first);
        }
        let journey = of(Lane::Downgrade);
        assert_eq!((&journey.installed, journey.ends_on()), (&candidate, &released.digest));
        assert!(journey.checks_first);
        let journey = Journey::of(Lane::Rollback, &candidate, None).unwrap();
        assert_eq!((&journey.offer, journey.ends_on()), (&Offer::Bad, &candidate.digest));
    }

    #[test]
    fn without_a_release_there_is_a_reason_and_to_itself_no_update() {
        let candidate = image("candidate");
        for lane in [Lane::Upgrade, Lane::Downgrade, Lane::Switch] {
            let reason = Journey::of(lane, &candidate, None).unwrap_err();
            assert!(reason.contains("released yet"), "{reason}");
            let journey = Journey::of(lane, &candidate, Some(&candidate)).unwrap();
            assert_eq!(journey.offer, Offer::Nothing);
        }
    }
}
