use proptest::prelude::*;

use super::*;

/// A device of which everything is one of a few images.
#[derive(Debug, Clone)]
struct World {
    is_member: bool,
    is_held: bool,
    #[expect(clippy::option_option, reason = "a pin to what is not there is a pin")]
    pin: Option<Option<u8>>,
    /// The image, and whether it is the release for the first time.
    rollout: Option<(u8, bool)>,
    completed: Option<u8>,
    confirmed: Option<u8>,
    delivered: Option<u8>,
    quarantined: Vec<u8>,
    failed: Vec<u8>,
    below: Vec<u8>,
}

impl World {
    fn new() -> Self {
        Self {
            is_member: true,
            is_held: false,
            pin: None,
            rollout: None,
            completed: Some(1),
            confirmed: None,
            delivered: None,
            quarantined: Vec::new(),
            failed: Vec::new(),
            below: Vec::new(),
        }
    }

    /// The number of its image, 0 for none; why; whether it is the release for the first time.
    fn offer(&self) -> (u8, Why, bool) {
        let decided = offer(&Facts {
            is_member: self.is_member,
            is_held: self.is_held,
            pin: self.pin.as_ref().map(Option::as_ref),
            rollout: self.rollout.as_ref().map(|(image, is_first)| Turn { image, is_first: *is_first }),
            completed: self.completed.as_ref(),
            confirmed: self.confirmed.as_ref(),
            delivered: self.delivered.as_ref(),
            is_quarantined: &|image| self.quarantined.contains(image),
            has_failed: &|image| self.failed.contains(image),
            is_below_floor: &|image| self.below.contains(image),
        });
        (decided.image.copied().unwrap_or_default(), decided.why, decided.is_first)
    }

    fn image(&self) -> Option<u8> {
        Some(self.offer().0).filter(|image| *image > 0)
    }
}

#[test]
fn the_first_permitted_image_of_the_order_is_offered() {
    let world = World::new();
    let full = World {
        pin: Some(Some(2)),
        rollout: Some((3, true)),
        confirmed: Some(4),
        delivered: Some(5),
        ..world.clone()
    };
    let unpinned = World { pin: None, ..full.clone() };
    let cases = [
        ("never delivered", world.clone(), 1, Why::Completed),
        ("revoked, or waiting", World { is_member: false, ..full.clone() }, 0, Why::NoMember),
        ("pinned", full.clone(), 2, Why::Pinned),
        ("pinned to what is quarantined", World { quarantined: vec![2], ..full.clone() }, 5, Why::Pinned),
        ("pinned to what is not there", World { pin: Some(None), ..full.clone() }, 5, Why::Pinned),
        ("held", World { is_held: true, ..unpinned.clone() }, 5, Why::Held),
        (
            "held with what is quarantined",
            World { is_held: true, quarantined: vec![5], ..unpinned.clone() },
            4,
            Why::Held,
        ),
        ("held before the first answer", World { is_held: true, ..world.clone() }, 1, Why::Completed),
        ("rollout", unpinned.clone(), 3, Why::Rollout),
        (
            "rollout of what is quarantined",
            World { quarantined: vec![3], ..unpinned.clone() },
            1,
            Why::Completed,
        ),
        (
            "the channel's image failed here",
            World { rollout: None, failed: vec![1], ..unpinned.clone() },
            4,
            Why::Confirmed,
        ),
        (
            "nothing is left",
            World { rollout: None, quarantined: vec![1, 4, 5], ..unpinned.clone() },
            5,
            Why::Delivered,
        ),
        ("restored", World { below: vec![1], ..world.clone() }, 0, Why::Restored),
        ("nothing released", World { completed: None, ..world }, 0, Why::Nothing),
    ];
    for (name, world, expected, why) in cases {
        let (image, reason, _) = world.offer();
        assert_eq!((image, reason), (expected, why), "{name}");
    }
    assert!(unpinned.offer().2);
    assert!(!full.offer().2, "a pin is no offer of the rollout");
}

fn images() -> impl Strategy<Value = Option<u8>> {
    proptest::option::of(1_u8..=4)
}

fn some() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1_u8..=4, 0..4)
}

prop_compose! {
    fn worlds()(
        is_member in any::<bool>(), is_held in any::<bool>(), pin in proptest::option::of(images()),
        rollout in proptest::option::of((1_u8..=4, any::<bool>())),
        completed in images(), confirmed in images(), delivered in images(),
        quarantined in some(), failed in some(), below in some(),
    ) -> World {
        World { is_member, is_held, pin, rollout, completed, confirmed, delivered, quarantined, failed, below }
    }
}

proptest! {
    #[test]
    fn only_members_are_answered(world in worlds()) {
        prop_assert!(world.is_member || world.image().is_none());
    }

    #[test]
    fn what_is_not_permitted_is_offered_only_to_a_device_that_has_it(world in worlds()) {
        if let Some(image) = world.image() {
            let is_barred = world.quarantined.contains(&image) || world.below.contains(&image);
            prop_assert!(!is_barred || world.delivered == Some(image));
        }
    }

    #[test]
    fn the_answer_stays_until_something_changes(world in worlds()) {
        let first = world.image();
        let mut after = world;
        after.delivered = first.or(after.delivered);
        prop_assert_eq!(after.image(), first);
    }

    /// After a restore, devices have images that the backup does not know: nothing was delivered, and all
    /// that it knows is below the floor.
    #[test]
    fn a_restored_backup_orders_no_downgrade(world in worlds()) {
        let all: Vec<u8> = (1..=4).collect();
        let restored = World { delivered: None, below: all, ..world };
        prop_assert_eq!(restored.image(), None);
    }

    #[test]
    fn a_held_device_keeps_what_it_has(world in worlds()) {
        let held = World { is_member: true, is_held: true, pin: None, quarantined: Vec::new(), below: Vec::new(), ..world };
        if held.delivered.is_some() {
            prop_assert_eq!(held.image(), held.delivered);
        }
    }
}
