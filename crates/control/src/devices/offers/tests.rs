use edgewright_model::Digest;
use proptest::prelude::*;

use super::*;

fn image(number: u8) -> Image {
    Image { repository: "plants/hmi".parse().unwrap(), digest: Digest::of([number]) }
}

/// A device of which everything is one of a few images.
#[derive(Debug, Clone)]
struct World {
    state: DeviceState,
    #[expect(clippy::option_option, reason = "a pin to what is not there is a pin")]
    pin: Option<Option<Image>>,
    rollout: Option<RolloutAnswer>,
    completed: Option<Image>,
    confirmed: Option<Image>,
    delivered: Option<Image>,
    quarantined: Vec<Image>,
    failed: Vec<Image>,
    below: Vec<Image>,
}

impl World {
    fn new() -> Self {
        Self {
            state: DeviceState::Active,
            pin: None,
            rollout: None,
            completed: Some(image(1)),
            confirmed: None,
            delivered: None,
            quarantined: Vec::new(),
            failed: Vec::new(),
            below: Vec::new(),
        }
    }

    fn offer(&self) -> Offer {
        offer(Facts {
            state: &self.state,
            pin: self.pin.as_ref().map(Option::as_ref),
            rollout: self.rollout.clone(),
            completed: self.completed.as_ref(),
            confirmed: self.confirmed.as_ref(),
            delivered: self.delivered.as_ref(),
            is_quarantined: &|image| self.quarantined.contains(image),
            has_failed: &|image| self.failed.contains(image),
            is_below_floor: &|image| self.below.contains(image),
        })
    }

    /// The device and the number of its image; 0: none.
    fn number(&self) -> u8 {
        let image = self.offer().image;
        image.map_or(0, |found| (1..=9).find(|number| image_is(&found, *number)).unwrap())
    }
}

fn image_is(found: &Image, number: u8) -> bool {
    *found == image(number)
}

fn answer(number: u8, is_new: bool) -> RolloutAnswer {
    let Image { repository, digest } = image(number);
    RolloutAnswer { repository, digest, is_new, is_first: is_new, reason: "canary".to_owned() }
}

fn held() -> DeviceState {
    DeviceState::Held { reason: "repair".to_owned() }
}

#[test]
fn the_first_permitted_image_of_the_order_is_offered() {
    let world = World::new();
    let revoked = DeviceState::Revoked { reason: "stolen".to_owned() };
    let full = World {
        pin: Some(Some(image(2))),
        rollout: Some(answer(3, true)),
        confirmed: Some(image(4)),
        delivered: Some(image(5)),
        ..world.clone()
    };
    let unpinned = World { pin: None, ..full.clone() };
    let cases = [
        ("never delivered", world.clone(), 1, Why::Completed),
        ("revoked", World { state: revoked, ..full.clone() }, 0, Why::NoMember),
        ("waiting", World { state: DeviceState::Waiting, ..full.clone() }, 0, Why::NoMember),
        ("pinned", full.clone(), 2, Why::Pinned),
        (
            "pinned to what is quarantined",
            World { quarantined: vec![image(2)], ..full.clone() },
            5,
            Why::Pinned,
        ),
        ("pinned to what is not there", World { pin: Some(None), ..full.clone() }, 5, Why::Pinned),
        ("held", World { state: held(), ..unpinned.clone() }, 5, Why::Held),
        (
            "held with what is quarantined",
            World { state: held(), quarantined: vec![image(5)], ..unpinned.clone() },
            4,
            Why::Held,
        ),
        ("held before the first answer", World { state: held(), ..world.clone() }, 1, Why::Completed),
        ("rollout", unpinned.clone(), 3, Why::Rollout),
        (
            "rollout of what is quarantined",
            World { quarantined: vec![image(3)], ..unpinned.clone() },
            1,
            Why::Completed,
        ),
        (
            "the channel's image failed here",
            World { rollout: None, failed: vec![image(1)], ..unpinned.clone() },
            4,
            Why::Confirmed,
        ),
        (
            "nothing is left",
            World { rollout: None, quarantined: vec![image(1), image(4), image(5)], ..unpinned.clone() },
            5,
            Why::Delivered,
        ),
        ("restored", World { below: vec![image(1)], ..world.clone() }, 0, Why::Restored),
        ("nothing released", World { completed: None, ..world }, 0, Why::Nothing),
    ];
    for (name, world, expected, why) in cases {
        assert_eq!((world.number(), world.offer().why), (expected, why), "{name}");
    }
    assert!(unpinned.offer().is_first);
    assert!(!full.offer().is_first, "a pin is no offer of the rollout");
}

#[test]
fn the_reason_of_a_rollout_is_its_own() {
    let world = World { rollout: Some(answer(3, true)), ..World::new() };
    assert_eq!(world.offer().words(), "canary");
    let pinned = World { pin: Some(Some(image(2))), ..world };
    assert_eq!(pinned.offer().words(), Why::Pinned.to_string());
}

fn images() -> impl Strategy<Value = Option<Image>> {
    proptest::option::of((1_u8..=4).prop_map(image))
}

fn some() -> impl Strategy<Value = Vec<Image>> {
    proptest::collection::vec((1_u8..=4).prop_map(image), 0..4)
}

prop_compose! {
    fn worlds()(
        state in 0_u8..4, pin in proptest::option::of(images()), rollout in proptest::option::of((1_u8..=4, any::<bool>())),
        completed in images(), confirmed in images(), delivered in images(),
        quarantined in some(), failed in some(), below in some(),
    ) -> World {
        World {
            state: match state {
                0 => DeviceState::Waiting,
                1 => DeviceState::Revoked { reason: String::new() },
                2 => held(),
                _ => DeviceState::Active,
            },
            rollout: rollout.map(|(number, is_new)| answer(number, is_new)),
            pin, completed, confirmed, delivered, quarantined, failed, below,
        }
    }
}

proptest! {
    #[test]
    fn only_members_are_answered(world in worlds()) {
        prop_assert!(world.state.is_member() || world.offer().image.is_none());
    }

    #[test]
    fn what_is_not_permitted_is_offered_only_to_a_device_that_has_it(world in worlds()) {
        if let Some(image) = world.offer().image {
            let is_barred = world.quarantined.contains(&image) || world.below.contains(&image);
            prop_assert!(!is_barred || world.delivered == Some(image));
        }
    }

    #[test]
    fn the_answer_stays_until_something_changes(world in worlds()) {
        let first = world.offer();
        let mut after = world;
        after.delivered = first.image.clone().or(after.delivered);
        prop_assert_eq!(after.offer().image, first.image);
    }

    /// After a restore, devices have images that the backup does not know: nothing was delivered, and all
    /// that it knows is below the floor.
    #[test]
    fn a_restored_backup_orders_no_downgrade(world in worlds()) {
        let all: Vec<Image> = (1..=4).map(image).collect();
        let restored = World { delivered: None, below: all, ..world };
        prop_assert_eq!(restored.offer().image, None);
    }

    #[test]
    fn a_held_device_keeps_what_it_has(world in worlds()) {
        let held = World { state: held(), pin: None, quarantined: Vec::new(), below: Vec::new(), ..world };
        if held.delivered.is_some() {
            prop_assert_eq!(held.offer().image, held.delivered);
        }
    }
}
