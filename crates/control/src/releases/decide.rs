//! Which release each channel should hold: a pure decision over what is stored.
//!
//! | a channel | takes |
//! |---|---|
//! | that is pinned | the release of its pin |
//! | that is held, or no longer declared | nothing: it stays |
//! | that follows a branch | the newest release of that branch, | once it is older than `after` |
//! | that follows a channel | what that channel holds |
//! | that follows a channel with `after` | the newest release that the other has held for so long |
//!
//! The devices of a channel with a rollout policy take a release in stages: then only its target moves. Its
//! tag, and the channels that follow it, do once the rollout is complete.
//!
//! A release with a quarantined digest is taken by none. Where devices are tested as they update, a channel
//! waits until the update from what it holds is tested; a release whose test failed is not taken, but perhaps
//! an earlier one.
//!
//! After a restore from a backup a channel takes only what is released from then on, unless an operator pins
//! it: devices may be further than the backup.
//!
//! A channel goes back to a release with a lower number only on request: by a pin, by the name of another
//! branch in its declaration, or because the channel that it follows went back. A default branch that got
//! another name is no such word: what it releases next decides.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::ChannelName;
use edgewright_model::run::ReleaseNumber;
use edgewright_model::spec::Follows;
use edgewright_store::channels::{ChannelMove, ChannelMoveRow, ChannelRow};
use edgewright_store::releases::ReleaseStamp;
use jiff::Timestamp;

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The source's channels.
    pub(crate) channels: &'a [ChannelRow],
    /// Its releases, by number.
    pub(crate) releases: &'a [ReleaseStamp],
    /// The moves of its channels, oldest first.
    pub(crate) moves: &'a [ChannelMoveRow],
    /// Its default branch, where it is known.
    pub(crate) default_branch: Option<&'a str>,
    /// The channels whose devices take releases in stages.
    pub(crate) staged: &'a BTreeSet<ChannelName>,
    /// Releases that contain a quarantined digest.
    pub(crate) quarantined: &'a BTreeSet<ReleaseNumber>,
    /// What is known about updates from what channels hold.
    pub(crate) updates: &'a Updates,
    /// Now.
    pub(crate) now: Timestamp,
}

/// What is known about the update of a channel's devices to a release; none: nothing keeps it from it.
pub(crate) type Updates = BTreeMap<(ChannelName, ReleaseNumber), Update>;

/// What keeps a channel from a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// Nothing: it is tested, or there is nothing to test.
    Tested,
    /// It is being tested, or will be.
    Waits,
    /// It failed, or cannot be tested.
    Skipped,
}

impl Facts<'_> {
    fn update(&self, channel: &ChannelRow, release: ReleaseNumber) -> Update {
        self.updates.get(&(channel.name.clone(), release)).copied().unwrap_or(Update::Tested)
    }

    /// Whether a channel takes no notice of a release.
    fn is_passed_over(&self, channel: &ChannelRow, release: ReleaseNumber) -> bool {
        self.quarantined.contains(&release) || self.update(channel, release) == Update::Skipped
    }
}

/// What follows from the facts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The moves, in an order in which each follows from the ones before.
    pub(crate) moves: Vec<ChannelMove>,
    /// When the next move is due, if nothing else changes.
    pub(crate) next: Option<Timestamp>,
}

/// Decides for all channels of a source.
pub(crate) fn decide(facts: &Facts<'_>) -> Decision {
    let mut decision = Decision::default();
    // What each channel holds once the moves so far are made, and since when.
    let mut held: BTreeMap<&ChannelName, Option<ReleaseNumber>> =
        facts.channels.iter().map(|channel| (&channel.name, channel.completed)).collect();
    for channel in in_order(facts.channels) {
        let (wanted, due) = wanted(facts, channel, &held, &decision.moves);
        decision.next = decision.next.into_iter().chain(due).min();
        let wanted = wanted.filter(|(release, _)| !facts.is_passed_over(channel, *release));
        let Some((release, reason)) = wanted else { continue };
        let is_staged = facts.staged.contains(&channel.name);
        if channel.target == Some(release) && (is_staged || channel.completed == Some(release)) {
            continue;
        }
        if facts.update(channel, release) == Update::Waits {
            continue;
        }
        if !is_staged {
            held.insert(&channel.name, Some(release));
        }
        decision.moves.push(ChannelMove {
            channel: channel.name.clone(),
            generation: channel.generation,
            release,
            reason,
            is_staged,
        });
    }
    decision
}

/// Channels after those that they follow. The format refuses circles; one in the database would only be late.
fn in_order(channels: &[ChannelRow]) -> Vec<&ChannelRow> {
    let depth = |channel: &ChannelRow| {
        let mut depth = 0;
        let mut at = channel;
        while let Follows::Channel(followed) = &at.spec.follows
            && depth <= channels.len()
            && let Some(next) = channels.iter().find(|other| other.name == *followed)
        {
            depth += 1;
            at = next;
        }
        depth
    };
    let mut ordered: Vec<&ChannelRow> = channels.iter().collect();
    ordered.sort_by_cached_key(|channel| depth(channel));
    ordered
}

/// A release to take, with the reason; and when the next one is due.
type Wanted = (Option<(ReleaseNumber, String)>, Option<Timestamp>);

fn wanted(
    facts: &Facts<'_>,
    channel: &ChannelRow,
    held: &BTreeMap<&ChannelName, Option<ReleaseNumber>>,
    made: &[ChannelMove],
) -> Wanted {
    if let Some(pin) = &channel.pin {
        return (Some((pin.release, format!("pinned: {}", pin.reason))), None);
    }
    if channel.held().is_some() || channel.removed_at.is_some() {
        return (None, None);
    }
    match &channel.spec.follows {
        Follows::DefaultBranch => match facts.default_branch {
            Some(branch) => of_branch(facts, channel, branch),
            None => (None, None),
        },
        Follows::Branch(branch) => of_branch(facts, channel, branch),
        Follows::Channel(other) => {
            let Some(at) = held.get(other).copied().flatten() else { return (None, None) };
            if age(channel).is_zero() {
                return (Some((at, format!("channel `{other}` holds it"))), None);
            }
            after_channel(facts, channel, other, at, made)
        }
    }
}

/// The newest release of a branch that is old enough.
fn of_branch(facts: &Facts<'_>, channel: &ChannelRow, branch: &str) -> Wanted {
    let age = age(channel);
    let mut due = None;
    for release in facts.releases.iter().rev().filter(|it| it.branch == branch && it.number > channel.floor) {
        if facts.is_passed_over(channel, release.number) {
            continue;
        }
        let ready = release.created_at.checked_add(age).unwrap_or(Timestamp::MAX);
        if ready > facts.now {
            due = earlier(due, ready);
            continue;
        }
        let is_back = furthest(channel).is_some_and(|held| held > release.number);
        let names_another = matches!(channel.spec.follows, Follows::Branch(_))
            && facts
                .releases
                .iter()
                .any(|held| Some(held.number) == channel.completed && held.branch != branch);
        let taken = (!is_back || names_another)
            .then(|| (release.number, format!("newest release of branch `{branch}`")));
        return (taken, due);
    }
    (None, due)
}

/// The newest release that another channel has held for long enough, and has not left backwards.
fn after_channel(
    facts: &Facts<'_>,
    channel: &ChannelRow,
    other: &ChannelName,
    at: ReleaseNumber,
    made: &[ChannelMove],
) -> Wanted {
    let age = age(channel);
    let mut due = None;
    // A move that this decision makes starts to count now.
    if made.iter().any(|made| made.channel == *other) {
        due = facts.now.checked_add(age).ok();
    }
    let is_held = |moved: &&ChannelMoveRow| {
        moved.channel == *other
            && moved.release <= at
            && moved.release > channel.floor
            && !facts.is_passed_over(channel, moved.release)
    };
    for moved in facts.moves.iter().rev().filter(is_held) {
        let ready = moved.at.checked_add(age).unwrap_or(Timestamp::MAX);
        if ready > facts.now {
            due = earlier(due, ready);
            continue;
        }
        let is_back = furthest(channel).is_some_and(|held| held >= moved.release);
        let span = channel.spec.after.map(|after| after.to_string()).unwrap_or_default();
        let taken =
            (!is_back).then(|| (moved.release, format!("channel `{other}` has held it for at least {span}")));
        return (taken, due);
    }
    (None, due)
}

/// The earlier of two times. A clock that was set may have written them in another order than that of the
/// rows.
fn earlier(due: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    due.into_iter().chain([other]).min()
}

/// The highest release that a channel has, or that its devices are on the way to.
fn furthest(channel: &ChannelRow) -> Option<ReleaseNumber> {
    channel.target.max(channel.completed)
}

/// How long a channel waits.
fn age(channel: &ChannelRow) -> jiff::SignedDuration {
    let after = channel.spec.after.map(edgewright_model::duration::Span::get).unwrap_or_default();
    after.try_into().unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
