//! What channels wait for before they move: tests of updates. In memory only: it follows from what channels
//! hold and from verdicts, so a restart finds the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgewright_model::names::ChannelName;
use edgewright_model::run::{ReleaseNumber, RunNumber};
use edgewright_store::sources::SourceId;
use jiff::Timestamp;

use super::decide::Update;
use super::updates::Untested;

/// How long a channel waits after a test that had no result, before the update is tested again.
const PAUSE: Duration = Duration::from_mins(10);

/// What a channel waits for.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    /// What the channel holds.
    pub(crate) from: ReleaseNumber,
    /// What it would take.
    pub(crate) release: ReleaseNumber,
    pub(crate) updates: Vec<Untested>,
    pub(crate) state: TestState,
}

/// How far a test is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TestState {
    /// A run is to be queued.
    Wanted,
    /// A run tests it.
    Queued(RunNumber),
    /// Its run ended then.
    Ended(RunNumber, Timestamp),
    /// The update failed.
    Failed(String),
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, release, updates, state } = self;
        let step = format!("the update from release {from} to {release}");
        match state {
            TestState::Wanted => write!(f, "waits for a run that tests {step}"),
            TestState::Queued(run) => write!(f, "waits for run {run}, which tests {step}"),
            TestState::Ended(run, _) => {
                let first = updates.first().map(ToString::to_string).unwrap_or_default();
                write!(f, "run {run} has no result about {step} of {first}: it is tested again")
            }
            TestState::Failed(why) => write!(f, "{step} failed: {why}"),
        }
    }
}

/// What the channels of all sources wait for. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwaitedTests(Arc<Mutex<BTreeMap<(SourceId, ChannelName), Awaited>>>);

impl AwaitedTests {
    /// All that is awaited.
    pub(crate) fn all(&self) -> BTreeMap<(SourceId, ChannelName), Awaited> {
        self.lock().clone()
    }

    /// What a channel waits for, in words.
    pub(crate) fn words(&self, source: SourceId, channel: &ChannelName) -> Option<String> {
        self.lock().get(&(source, channel.clone())).map(ToString::to_string)
    }

    /// Notes how far the test is that a channel waits for.
    pub(crate) fn note(&self, key: &(SourceId, ChannelName), state: TestState) {
        if let Some(awaited) = self.lock().get_mut(key) {
            awaited.state = state;
        }
    }

    /// What follows for a channel from what is not tested of a release. The first time, it waits; after a
    /// test without a result it looks at earlier releases for a while.
    pub(super) fn consider(&self, key: (SourceId, ChannelName), new: Awaited, now: Timestamp) -> Update {
        let mut all = self.lock();
        let known = all.get(&key).filter(|known| known.from == new.from);
        if new.updates.is_empty() {
            return Update::Tested;
        }
        let failed =
            new.updates.iter().find_map(|update| Some(format!("{update}: {}", update.failed.as_ref()?)));
        if let Some(failed) = failed {
            if known.is_none() {
                all.insert(key, Awaited { state: TestState::Failed(failed), ..new });
            }
            return Update::Skipped;
        }
        match known.map(|known| &known.state) {
            Some(TestState::Wanted | TestState::Queued(_)) => return Update::Waits,
            Some(TestState::Ended(_, at)) => {
                // Some of its images were built by another run: they are tested next.
                let has_come_on = known.is_some_and(|known| {
                    known.release == new.release && new.updates.len() < known.updates.len()
                });
                let is_over = at.checked_add(PAUSE).is_ok_and(|end| end <= now);
                if !has_come_on && !is_over {
                    return Update::Skipped;
                }
            }
            Some(TestState::Failed(_)) | None => {}
        }
        all.insert(key, new);
        Update::Waits
    }

    /// Has an update tested, unless another one is.
    pub(super) fn want(&self, key: (SourceId, ChannelName), new: Awaited) {
        let mut all = self.lock();
        let is_busy = |known: &Awaited| matches!(known.state, TestState::Wanted | TestState::Queued(_));
        if !all.get(&key).is_some_and(is_busy) {
            all.insert(key, new);
        }
    }

    /// Forgets channels of a source that have nothing to wait for.
    pub(super) fn keep(&self, source: SourceId, waiting: &BTreeSet<ChannelName>) {
        self.lock().retain(|(of, channel), awaited| {
            *of != source
                || waiting.contains(channel)
                || matches!(awaited.state, TestState::Wanted | TestState::Queued(_))
        });
    }

    /// A channel moved.
    pub(super) fn forget(&self, source: SourceId, channel: &ChannelName) {
        self.lock().remove(&(source, channel.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SourceId, ChannelName), Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::Digest;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn key() -> (SourceId, ChannelName) {
        (SourceId(1), "plant".parse().unwrap())
    }

    /// A step from release 1, with so many images that are not tested.
    fn step(release: u32, untested: usize, failed: Option<&str>) -> Awaited {
        let update = |_| Untested {
            variant: "hmi/plant-a".parse().unwrap(),
            platform: "linux/amd64".parse().unwrap(),
            digest: Digest::of("hmi"),
            failed: failed.map(str::to_owned),
        };
        Awaited {
            from: ReleaseNumber(1),
            release: ReleaseNumber(release),
            updates: (0..untested).map(update).collect(),
            state: TestState::Wanted,
        }
    }

    #[test]
    fn a_channel_waits_for_one_test_at_a_time_and_again_after_a_pause() {
        let tests = AwaitedTests::default();
        let consider = |step, minutes| tests.consider(key(), step, at(minutes));
        assert_eq!(consider(step(3, 2, None), 0), Update::Waits);
        tests.note(&key(), TestState::Queued(RunNumber(7)));
        assert_eq!(
            consider(step(4, 2, None), 1),
            Update::Waits,
            "a newer release does not begin another one"
        );
        assert_eq!(tests.all()[&key()].release, ReleaseNumber(3));
        tests.note(&key(), TestState::Ended(RunNumber(7), at(2)));
        assert_eq!(consider(step(3, 0, None), 2), Update::Tested);
        assert_eq!(consider(step(4, 2, None), 2), Update::Skipped, "what is tested is taken first");
        assert_eq!(consider(step(3, 2, None), 3), Update::Skipped, "no result: not at once again");
        assert_eq!(consider(step(3, 1, None), 3), Update::Waits, "some have one: the others are next");
        tests.note(&key(), TestState::Ended(RunNumber(8), at(4)));
        assert_eq!(consider(step(3, 1, None), 13), Update::Skipped);
        assert_eq!(consider(step(3, 1, None), 14), Update::Waits);
    }

    #[test]
    fn a_failure_is_shown_and_an_earlier_release_is_tried() {
        let tests = AwaitedTests::default();
        let consider = |step| tests.consider(key(), step, at(0));
        assert_eq!(consider(step(3, 1, Some("no boot"))), Update::Skipped);
        let words = tests.words(SourceId(1), &key().1).unwrap();
        let expected = "the update from release 1 to 3 failed: hmi/plant-a (linux/amd64): no boot";
        assert_eq!(words, expected);
        assert_eq!(consider(step(2, 1, None)), Update::Waits, "an earlier release may do");
        assert_eq!(consider(step(3, 1, Some("no boot"))), Update::Skipped);
        assert!(tests.words(SourceId(1), &key().1).unwrap().contains("from release 1 to 2"));
        // The channel holds another release since: all is asked again.
        assert_eq!(consider(Awaited { from: ReleaseNumber(2), ..step(3, 1, None) }), Update::Waits);
        // What is open stays though no pass asks for it; the rest is forgotten.
        tests.keep(SourceId(1), &BTreeSet::new());
        assert_eq!(tests.all().len(), 1);
        tests.note(&key(), TestState::Ended(RunNumber(7), at(0)));
        tests.keep(SourceId(1), &BTreeSet::new());
        assert_eq!(tests.all().len(), 0);
    }
}
