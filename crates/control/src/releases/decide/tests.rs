use edgewright_model::duration::Span;
use edgewright_model::spec::ChannelSpec;
use edgewright_store::channels::Pin;
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hours * HOUR).unwrap()
}

fn name(text: &str) -> ChannelName {
    text.parse().unwrap()
}

fn branch(name: &str) -> Follows {
    Follows::Branch(name.to_owned())
}

fn channel(text: &str, follows: Follows, completed: Option<u32>) -> ChannelRow {
    let completed = completed.map(ReleaseNumber);
    ChannelRow {
        name: name(text),
        spec: ChannelSpec::following(follows),
        target: completed,
        completed,
        generation: 3,
        hold: None,
        pin: None,
        floor: ReleaseNumber(0),
        moved_at: None,
        removed_at: None,
    }
}

fn after(hours: u64, mut channel: ChannelRow) -> ChannelRow {
    channel.spec.after = Some(Span::from_secs(hours * HOUR.cast_unsigned()));
    channel
}

/// Releases as `(branch, hour)`, numbered from 1.
fn releases(made: &[(&str, i64)]) -> Vec<ReleaseStamp> {
    let stamp = |(number, (branch, hour)): (u32, &(&str, i64))| ReleaseStamp {
        number: ReleaseNumber(number),
        branch: (*branch).to_owned(),
        created_at: at(*hour),
    };
    (1..).zip(made).map(stamp).collect()
}

fn moves(made: &[(&str, u32, i64)]) -> Vec<ChannelMoveRow> {
    let row = |(channel, release, hour): &(&str, u32, i64)| ChannelMoveRow {
        channel: name(channel),
        release: ReleaseNumber(*release),
        at: at(*hour),
        reason: String::new(),
    };
    made.iter().map(row).collect()
}

static NO_CHANNELS: BTreeSet<ChannelName> = BTreeSet::new();
static NO_RELEASES: BTreeSet<ReleaseNumber> = BTreeSet::new();
static NO_UPDATES: Updates = Updates::new();

/// Without rollouts and quarantine.
fn facts<'a>(
    channels: &'a [ChannelRow],
    releases: &'a [ReleaseStamp],
    moves: &'a [ChannelMoveRow],
) -> Facts<'a> {
    Facts {
        channels,
        releases,
        moves,
        default_branch: Some("main"),
        staged: &NO_CHANNELS,
        quarantined: &NO_RELEASES,
        updates: &NO_UPDATES,
        now: at(0),
    }
}

/// What is decided at an hour, as `CHANNEL → RELEASE`; and the hour of the next move.
fn decided(
    channels: &[ChannelRow],
    made: &[(&str, i64)],
    moved: &[(&str, u32, i64)],
    hour: i64,
) -> (Vec<String>, Option<i64>) {
    let (releases, history) = (releases(made), moves(moved));
    let decision = decide(&Facts { now: at(hour), ..facts(channels, &releases, &history) });
    let words = decision.moves.iter().map(|one| format!("{} → {}", one.channel, one.release.0)).collect();
    (words, decision.next.map(|next| (next.as_second() - at(0).as_second()) / HOUR))
}

#[test]
fn a_channel_takes_the_newest_release_of_its_branch() {
    let made = [("main", 0), ("develop", 1), ("main", 2), ("develop", 3)];
    let channels = [
        channel("stable", Follows::DefaultBranch, Some(1)),
        channel("edge", branch("develop"), None),
        channel("there", branch("main"), Some(3)),
        channel("none", branch("other"), None),
    ];
    assert_eq!(decided(&channels, &made, &[], 9).0, ["stable → 3", "edge → 4"]);
}

#[test]
fn what_is_held_pinned_or_no_longer_declared_does_not_follow() {
    let made = [("main", 0), ("main", 1)];
    let mut held = channel("held", branch("main"), Some(1));
    held.hold = Some("a fault at plant-a".to_owned());
    let mut declared = channel("declared", branch("main"), Some(1));
    declared.spec.hold = Some("until Monday".to_owned());
    let mut removed = channel("removed", branch("main"), Some(1));
    removed.removed_at = Some(at(0));
    let mut pinned = channel("pinned", branch("main"), Some(2));
    pinned.pin = Some(Pin { release: ReleaseNumber(1), reason: "2 fails".to_owned() });
    // A pin is the operator's latest decision, so it moves a held channel, too.
    pinned.hold = Some("wait".to_owned());
    assert_eq!(decided(&[held, declared, removed, pinned], &made, &[], 9).0, ["pinned → 1"]);
}

#[test]
fn channels_follow_channels_in_one_decision_in_whatever_order_they_are_listed() {
    let made = [("main", 0), ("main", 1)];
    let channels = [
        channel("c", Follows::Channel(name("b")), Some(1)),
        channel("b", Follows::Channel(name("a")), Some(1)),
        channel("a", branch("main"), Some(1)),
    ];
    assert_eq!(decided(&channels, &made, &[], 9).0, ["a → 2", "b → 2", "c → 2"]);
    let mut held = channels;
    held[1].hold = Some("wait".to_owned());
    assert_eq!(decided(&held, &made, &[], 9).0, ["a → 2"]);
}

#[test]
fn a_follower_of_a_channel_that_went_back_goes_back() {
    let made = [("main", 0), ("main", 1)];
    let mut first = channel("a", branch("main"), Some(2));
    first.pin = Some(Pin { release: ReleaseNumber(1), reason: "2 fails".to_owned() });
    let channels = [first, channel("b", Follows::Channel(name("a")), Some(2))];
    assert_eq!(decided(&channels, &made, &[], 9).0, ["a → 1", "b → 1"]);
}

#[test]
fn a_branch_is_followed_once_its_release_is_old_enough() {
    let made = [("main", 0), ("main", 5), ("main", 6)];
    let channels = [after(4, channel("late", Follows::DefaultBranch, None))];
    for (hour, expected, next) in [
        (3, vec![], Some(4)),
        (4, vec!["late → 1"], Some(9)),
        (9, vec!["late → 2"], Some(10)),
        (10, vec!["late → 3"], None),
    ] {
        let (moves, due) = decided(&channels, &made, &[], hour);
        assert_eq!((moves.iter().map(String::as_str).collect::<Vec<_>>(), due), (expected, next), "{hour}");
    }
}

#[test]
fn a_channel_takes_what_another_has_held_for_long_enough() {
    // 2 was skipped: `test` was held meanwhile.
    let made = [("main", 0), ("main", 1), ("main", 2)];
    let moved = [("test", 1, 0), ("test", 3, 3)];
    let channels = |held| {
        [
            channel("test", Follows::DefaultBranch, Some(3)),
            after(24, channel("prod", Follows::Channel(name("test")), held)),
        ]
    };
    for (held, hour, expected, next) in [
        (None, 23, vec![], Some(24)),
        (None, 24, vec!["prod → 1"], Some(27)),
        (Some(1), 26, vec![], Some(27)),
        (Some(1), 27, vec!["prod → 3"], None),
        (Some(3), 99, vec![], None),
    ] {
        let (takes, due) = decided(&channels(held), &made, &moved, hour);
        assert_eq!((takes.iter().map(String::as_str).collect::<Vec<_>>(), due), (expected, next), "{hour}");
    }
}

#[test]
fn what_another_channel_left_backwards_is_not_taken_however_long_it_was_there() {
    let made = [("main", 0), ("main", 1)];
    let moved = [("test", 1, 0), ("test", 2, 1), ("test", 1, 2)];
    let mut test = channel("test", Follows::DefaultBranch, Some(1));
    test.pin = Some(Pin { release: ReleaseNumber(1), reason: "2 fails".to_owned() });
    let channels = [test, after(24, channel("prod", Follows::Channel(name("test")), None))];
    assert_eq!(decided(&channels, &made, &moved, 99).0, ["prod → 1"]);
}

#[test]
fn a_channel_goes_back_only_where_its_declaration_names_another_branch() {
    let made = [("develop", 0), ("main", 1)];
    let renamed = [channel("stable", branch("develop"), Some(2))];
    assert_eq!(decided(&renamed, &made, &[], 9).0, ["stable → 1"]);
    // A default branch that was renamed: `main` is the default one again, and released before `next` did.
    let made = [("main", 0), ("next", 1)];
    let default = [channel("stable", Follows::DefaultBranch, Some(2))];
    assert_eq!(decided(&default, &made, &[], 9).0, Vec::<String>::new());
}

#[test]
fn after_a_restore_only_what_is_released_from_then_on_is_taken() {
    let restored = |text, follows| ChannelRow { floor: ReleaseNumber(2), ..channel(text, follows, None) };
    let channels = [
        restored("test", Follows::DefaultBranch),
        after(1, restored("prod", Follows::Channel(name("test")))),
        restored("edge", branch("develop")),
    ];
    let moved = [("test", 1, 0), ("test", 2, 1)];
    let made = [("main", 0), ("main", 1), ("main", 2)];
    assert_eq!(decided(&channels, &made[..2], &moved, 9).0, Vec::<String>::new());
    assert_eq!(decided(&channels, &made, &moved, 9).0, ["test → 3"]);
}

#[test]
fn a_channel_with_devices_in_stages_gets_a_target_and_its_followers_wait() {
    let releases = releases(&[("main", 0), ("main", 1), ("main", 2)]);
    let staged = BTreeSet::from([name("stable")]);
    let mut channels = [
        channel("stable", Follows::DefaultBranch, Some(1)),
        channel("after", Follows::Channel(name("stable")), Some(1)),
    ];
    let decided = |channels: &[ChannelRow]| {
        let decision = decide(&Facts { staged: &staged, now: at(9), ..facts(channels, &releases, &[]) });
        let moves = decision.moves.into_iter();
        moves.map(|one| (one.channel.to_string(), one.release.0, one.is_staged)).collect::<Vec<_>>()
    };
    assert_eq!(decided(&channels), [("stable".to_owned(), 3, true)]);
    channels[0].target = Some(ReleaseNumber(2));
    assert_eq!(decided(&channels), [("stable".to_owned(), 3, true)], "a newer release is a newer target");
    channels[0].target = Some(ReleaseNumber(3));
    assert_eq!(decided(&channels), [], "its rollout is on the way, or was ended by a person");
    channels[0].completed = Some(ReleaseNumber(3));
    assert_eq!(decided(&channels), [("after".to_owned(), 3, false)]);
    // A clock that was set back makes the target too young: it is no reason to go back.
    let mut late = after(5, channel("stable", Follows::DefaultBranch, Some(1)));
    late.target = Some(ReleaseNumber(3));
    assert_eq!(decided(&[late]), []);
}

#[test]
fn a_release_with_a_quarantined_digest_is_taken_by_none() {
    let releases = releases(&[("main", 0), ("main", 1), ("main", 2)]);
    let quarantined = BTreeSet::from([ReleaseNumber(3)]);
    let mut pinned = channel("pinned", Follows::DefaultBranch, Some(1));
    pinned.pin = Some(Pin { release: ReleaseNumber(3), reason: "try".to_owned() });
    let channels = [
        channel("stable", Follows::DefaultBranch, Some(1)),
        channel("has-it", branch("main"), Some(3)),
        channel("after", Follows::Channel(name("has-it")), Some(1)),
        pinned,
    ];
    let decision =
        decide(&Facts { quarantined: &quarantined, now: at(9), ..facts(&channels, &releases, &[]) });
    let moves = decision.moves.iter().map(|one| format!("{} → {}", one.channel, one.release.0));
    assert_eq!(moves.collect::<Vec<_>>(), ["stable → 2"]);
}

#[test]
fn a_channel_waits_for_a_test_and_takes_an_earlier_release_where_it_failed() {
    use Update::{Skipped, Tested, Waits};
    let releases = releases(&[("main", 0), ("main", 1), ("main", 2)]);
    let channels = [
        channel("stable", Follows::DefaultBranch, Some(1)),
        channel("same", Follows::Channel(name("stable")), Some(1)),
        channel("edge", Follows::DefaultBranch, Some(3)),
        after(2, channel("late", Follows::Channel(name("edge")), Some(1))),
    ];
    let moves = moves(&[("edge", 1, 0), ("edge", 2, 1), ("edge", 3, 2)]);
    let decided = |known: &[(&str, u32, Update)]| {
        let key = |(channel, release, update): &(&str, u32, Update)| {
            ((name(channel), ReleaseNumber(*release)), *update)
        };
        let updates = known.iter().map(key).collect();
        let decision =
            decide(&Facts { updates: &updates, now: at(9), ..facts(&channels, &releases, &moves) });
        decision.moves.iter().map(|one| format!("{} → {}", one.channel, one.release.0)).collect::<Vec<_>>()
    };
    assert_eq!(decided(&[("late", 3, Tested)]), ["stable → 3", "same → 3", "late → 3"]);
    assert_eq!(decided(&[("late", 3, Waits), ("same", 3, Waits)]), ["stable → 3"]);
    assert_eq!(decided(&[("late", 3, Skipped), ("same", 3, Skipped)]), ["stable → 3", "late → 2"]);
    let stays = [("stable", 3, Waits), ("late", 3, Skipped), ("late", 2, Waits)];
    assert_eq!(decided(&stays), Vec::<String>::new(), "what follows a channel that waits stays, too");
    let steps = [("stable", 3, Skipped), ("late", 3, Skipped), ("late", 2, Skipped)];
    assert_eq!(decided(&steps), ["stable → 2", "same → 2"]);
}

prop_compose! {
    fn world()(
        branches in prop::collection::vec(0..3_usize, 0..8),
        channels in prop::collection::vec((0..6_usize, prop::option::of(0..20_u64), prop::option::of(1..8_u32), any::<bool>()), 1..6),
        moved in prop::collection::vec((0..6_usize, 1..8_u32), 0..12),
        hour in 0..60_i64,
    ) -> World {
        let names = ["main", "develop", "other"];
        let made: Vec<(&str, i64)> = branches.iter().zip(0..).map(|(branch, hour)| (names[*branch], hour)).collect();
        let last = u32::try_from(made.len()).unwrap();
        let row = |(index, (follows, wait, completed, is_held)): (usize, &Drawn)| {
            // Only an earlier one can be followed: no circles.
            let follows = match follows {
                0 => Follows::DefaultBranch,
                1 | 2 => branch(names[*follows]),
                _ if index > 0 => Follows::Channel(name(&format!("c{}", follows % index))),
                _ => Follows::DefaultBranch,
            };
            let mut row = channel(&format!("c{index}"), follows, completed.filter(|number| *number <= last));
            row.spec.after = wait.map(|hours| Span::from_secs(hours * 3600));
            row.hold = is_held.then(|| "wait".to_owned());
            row
        };
        let channels: Vec<ChannelRow> = channels.iter().enumerate().map(row).collect();
        let moved: Vec<(String, u32, i64)> = moved.iter().zip(0..)
            .filter(|((_, release), _)| *release <= last)
            .map(|((channel, release), hour)| (format!("c{channel}"), *release, hour)).collect();
        let moved: Vec<(&str, u32, i64)> = moved.iter().map(|(channel, release, hour)| (channel.as_str(), *release, *hour)).collect();
        (channels, releases(&made), moves(&moved), hour)
    }
}

/// What a channel follows, how long it waits, what it holds, and whether it is held.
type Drawn = (usize, Option<u64>, Option<u32>, bool);
/// Channels, releases, moves, and the hour.
type World = (Vec<ChannelRow>, Vec<ReleaseStamp>, Vec<ChannelMoveRow>, i64);

/// The channels after the moves of a decision, and the moves with them.
fn apply(
    channels: &[ChannelRow],
    moves: &[ChannelMoveRow],
    decision: &Decision,
    now: Timestamp,
) -> (Vec<ChannelRow>, Vec<ChannelMoveRow>) {
    let (mut channels, mut moves) = (channels.to_vec(), moves.to_vec());
    for one in &decision.moves {
        let row = channels.iter_mut().find(|row| row.name == one.channel).unwrap();
        (row.target, row.completed, row.generation) =
            (Some(one.release), Some(one.release), row.generation + 1);
        let reason = one.reason.clone();
        moves.push(ChannelMoveRow { channel: one.channel.clone(), release: one.release, at: now, reason });
    }
    (channels, moves)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn decisions_settle_move_nothing_held_and_come_again_no_later_than_they_say(
        (channels, releases, moves, hour) in world()
    ) {
        let facts = |channels, moves, now| Facts { now, ..facts(channels, &releases, moves) };
        let decision = decide(&facts(&channels, &moves, at(hour)));
        for one in &decision.moves {
            let row = channels.iter().find(|row| row.name == one.channel).unwrap();
            prop_assert!(row.hold.is_none(), "{one:?}");
            prop_assert!(releases.iter().any(|release| release.number == one.release), "{one:?}");
            prop_assert_eq!(one.generation, row.generation);
        }
        // Once made, nothing is left to do at the same time.
        let (after, moved) = apply(&channels, &moves, &decision, at(hour));
        let again = decide(&facts(&after, &moved, at(hour)));
        prop_assert_eq!(&again.moves, &Vec::new());
        // Nothing happens before the time that it names.
        let idle = again.next.unwrap_or(at(500));
        if idle > at(hour) {
            let before = idle.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap();
            prop_assert_eq!(decide(&facts(&after, &moved, before)).moves, Vec::new());
        }
    }
}
