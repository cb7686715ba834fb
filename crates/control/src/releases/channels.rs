//! Moving channels: one operation, [`Channels::advance`]. What it decides is in `decide.rs`; it runs after
//! every release, after every change of the inventory or by an operator, and as a reconciler when `after:` of
//! some channel is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::names::ChannelName;
use edgewright_model::role::Scope;
use edgewright_model::run::ReleaseNumber;
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::channels::{ChannelChange, ChannelMove, ChannelMoveRow, ChannelRow};
use edgewright_store::releases::{EntryRow, ReleaseStamp, Taking};
use edgewright_store::sources::{SourceId, SourceRow};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::awaited::AwaitedTests;
use super::decide::{Decision, Facts, Update, Updates, decide};
use super::tags::ChannelTags;
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::reconcile::{Outcome, Reconciler, Wake};
use crate::sources::Sources;

/// How often channels are compared with what they should hold, at least.
const PERIOD: Duration = Duration::from_mins(1);

/// Moves the channels of all sources. Clones share it.
#[derive(Debug, Clone)]
pub struct Channels {
    store: Store,
    clock: Clock,
    tags: ChannelTags,
    sources: Arc<Sources>,
    wake: Wake,
    /// Of the reconciler that rolls releases out.
    rollouts: Wake,
    tests: AwaitedTests,
    /// Of the reconciler that has updates tested.
    test_runs: Wake,
}

/// What came of a pass over one source.
#[derive(Debug, Default)]
pub(crate) struct Advanced {
    /// The channels that moved.
    pub(crate) moved: Vec<ChannelName>,
    /// When the next move is due, if nothing else changes.
    pub(crate) next: Option<Timestamp>,
}

/// What a decision is made from, as loaded.
struct Loaded {
    channels: Vec<ChannelRow>,
    releases: Vec<ReleaseStamp>,
    moves: Vec<ChannelMoveRow>,
    default_branch: Option<String>,
    staged: BTreeSet<ChannelName>,
    quarantined: BTreeSet<ReleaseNumber>,
}

impl Loaded {
    fn decide(&self, updates: &Updates, now: Timestamp) -> Decision {
        decide(&Facts {
            channels: &self.channels,
            releases: &self.releases,
            moves: &self.moves,
            default_branch: self.default_branch.as_deref(),
            staged: &self.staged,
            quarantined: &self.quarantined,
            updates,
            now,
        })
    }

    /// The channel of a move whose update is not known to be tested. An operator's pin was looked at when it
    /// was set.
    fn unchecked<'a>(
        &'a self,
        decision: &Decision,
        updates: &Updates,
    ) -> Option<(&'a ChannelRow, ReleaseNumber)> {
        let is_unchecked = |one: &&ChannelMove| !updates.contains_key(&(one.channel.clone(), one.release));
        decision.moves.iter().filter(is_unchecked).find_map(|one| {
            let channel = self.channels.iter().find(|channel| channel.name == one.channel)?;
            channel.pin.is_none().then_some((channel, one.release))
        })
    }
}

impl Channels {
    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads the answers of tags again, and wakes what follows from a moved channel.
    pub(super) async fn moved(&self) -> Result<(), ControlError> {
        self.tags.refresh(&self.store).await?;
        self.wake.wake("a channel moved");
        self.rollouts.wake("a channel moved");
        Ok(())
    }

    /// Whether devices take a release of this channel in stages.
    pub(super) async fn is_staged(
        &self,
        source: SourceId,
        channel: &ChannelRow,
    ) -> Result<bool, ControlError> {
        Ok(channel.spec.rollout.is_some()
            && self.store.channels_with_devices(source).await?.contains(&channel.name))
    }

    /// Moves channels of the sources that are followed.
    /// `wake` is for their own reconciler, `rollouts` for the one that rolls releases out.
    pub(crate) fn new(
        (store, clock): (Store, Clock),
        tags: ChannelTags,
        sources: Arc<Sources>,
        (wake, rollouts): (Wake, Wake),
    ) -> Self {
        let (tests, test_runs) = (AwaitedTests::default(), Wake::default());
        Self { store, clock, tags, sources, wake, rollouts, tests, test_runs }
    }

    /// What channels wait for.
    pub(crate) const fn tests(&self) -> &AwaitedTests {
        &self.tests
    }

    /// Wakes the reconciler that has updates tested.
    pub(crate) const fn test_runs(&self) -> &Wake {
        &self.test_runs
    }

    /// Wakes the reconciler.
    pub(crate) const fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Wakes the reconciler that rolls releases out.
    pub(crate) const fn rollouts(&self) -> &Wake {
        &self.rollouts
    }

    /// Brings the channels of a source to what they should hold now.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub(crate) async fn advance(&self, source: SourceId) -> Result<Advanced, ControlError> {
        let now = self.clock.now();
        let (loaded, mut updates) = (self.load(source).await?, Updates::new());
        let mut decision = loaded.decide(&updates, now);
        while let Some((channel, release)) = loaded.unchecked(&decision, &updates) {
            let update = self.update(source, channel, release).await?;
            updates.insert((channel.name.clone(), release), update);
            decision = loaded.decide(&updates, now);
        }
        self.tests.keep(source, &updates.into_keys().map(|(channel, _)| channel).collect());
        if decision.moves.is_empty() {
            return Ok(Advanced { moved: Vec::new(), next: decision.next });
        }
        let moved = self.store.move_channels(source, &decision.moves, now).await?;
        self.tags.refresh(&self.store).await?;
        self.rollouts.wake("a channel moved");
        for one in decision.moves.iter().filter(|one| moved.contains(&one.channel)) {
            self.tests.forget(source, &one.channel);
            tracing::info!(
                channel.name = %one.channel,
                release.number = one.release.0,
                reason = one.reason,
                is_staged = one.is_staged,
                "channel moved"
            );
        }
        // A channel that changed in between is decided again.
        let next = if moved.len() < decision.moves.len() { Some(now) } else { decision.next };
        Ok(Advanced { moved, next })
    }

    /// The channels that take a release of a branch at once, if one with these entries is made now.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn taking(
        &self,
        source: SourceId,
        branch: &str,
        entries: &[EntryRow],
    ) -> Result<Vec<Taking>, ControlError> {
        let now = self.clock.now();
        let quarantine = self.store.quarantine().await?;
        let is_quarantined = |entry: &EntryRow| {
            quarantine.iter().any(|one| one.source == source && one.digest == entry.digest)
        };
        if entries.iter().any(is_quarantined) {
            return Ok(Vec::new());
        }
        let mut loaded = self.load(source).await?;
        let number = ReleaseNumber(u32::MAX);
        loaded.releases.push(ReleaseStamp { number, branch: branch.to_owned(), created_at: now });
        let mut updates = Updates::new();
        let mut decision = loaded.decide(&updates, now);
        while let Some((channel, release)) = loaded.unchecked(&decision, &updates) {
            let from = channel.completed.filter(|_| release == number);
            let is_tested = match from {
                Some(from) => self.untested(source, from, entries).await?.is_empty(),
                None => true,
            };
            // A channel that waits takes it later, as a release that is there.
            let update = if is_tested { Update::Tested } else { Update::Waits };
            updates.insert((channel.name.clone(), release), update);
            decision = loaded.decide(&updates, now);
        }
        let moves = decision.moves.into_iter();
        let taking = moves.filter(|one| one.release == number).map(|one| Taking {
            channel: one.channel,
            generation: one.generation,
            is_staged: one.is_staged,
        });
        Ok(taking.collect())
    }

    /// Whether some channel would take a release of a branch, now or after a while.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn is_followed(&self, source: SourceId, branch: &str) -> Result<bool, ControlError> {
        use edgewright_model::spec::Follows;
        let loaded = self.load(source).await?;
        Ok(loaded.channels.iter().filter(|channel| channel.removed_at.is_none()).any(
            |channel| match &channel.spec.follows {
                Follows::DefaultBranch => loaded.default_branch.as_deref() == Some(branch),
                Follows::Branch(followed) => followed == branch,
                Follows::Channel(_) => false,
            },
        ))
    }

    /// Changes a channel as an operator asks, and moves what follows from it.
    ///
    /// # Errors
    /// The caller may not, there is no such channel, a pin names a release that is not there, or the database
    /// cannot be written.
    pub(crate) async fn change(
        &self,
        context: &OperationContext,
        source: &SourceRow,
        name: &ChannelName,
        change: &ChannelChange,
    ) -> Result<ChannelRow, ControlError> {
        let operation = match change {
            ChannelChange::Hold { .. } => Operation::HoldChannel,
            ChannelChange::Resume => Operation::ResumeChannel,
            ChannelChange::Pin(_) => Operation::PinChannel,
            ChannelChange::Unpin => Operation::UnpinChannel,
        };
        let scope = Scope { source: Some(&source.name), channel: Some(name), ..Scope::default() };
        context.permit(operation, scope)?;
        let before = self.channel(source, name).await?;
        if let ChannelChange::Pin(pin) = change {
            self.check_release(source, &before, pin.release).await?;
        }
        let (was, will) = (stops(&before), stops_after(&before, change));
        let entry =
            context.entry(operation, format!("{}/channels/{name}", source.name), Some(was), Some(will));
        self.store.change_channel(source.id, name, change, (&entry, self.clock.now())).await?;
        self.advance(source.id).await?;
        self.channel(source, name).await
    }

    pub(super) async fn channel(
        &self,
        source: &SourceRow,
        name: &ChannelName,
    ) -> Result<ChannelRow, ControlError> {
        let channels = self.store.channels(source.id).await?;
        channels.into_iter().find(|channel| channel.name == *name).ok_or_else(|| ControlError::NoChannel {
            source_name: Some(source.name.clone()),
            channel: name.clone(),
        })
    }

    async fn load(&self, source: SourceId) -> Result<Loaded, ControlError> {
        let channels = self.store.channels(source).await?;
        let releases = self.store.release_stamps(source).await?;
        let is_delayed = channels.iter().any(|channel| channel.spec.after.is_some());
        let moves = match releases.first() {
            Some(first) if is_delayed => self.store.channel_moves(source, first.number).await?,
            _ => Vec::new(),
        };
        let default_branch = self.store.source(source).await?.default_branch;
        let followed = self.store.channels_with_devices(source).await?;
        let is_staged =
            |channel: &&ChannelRow| channel.spec.rollout.is_some() && followed.contains(&channel.name);
        let staged = channels.iter().filter(is_staged).map(|channel| channel.name.clone()).collect();
        let quarantined = self.store.quarantined_releases(source).await?;
        Ok(Loaded { channels, releases, moves, default_branch, staged, quarantined })
    }
}

/// What keeps a channel where it is, for the audit trail.
fn stops(channel: &ChannelRow) -> serde_json::Value {
    let pin = channel.pin.as_ref();
    serde_json::json!({
        "hold": channel.hold,
        "pin": pin.map(|pin| pin.release),
        "pin_reason": pin.map(|pin| &pin.reason),
    })
}

fn stops_after(channel: &ChannelRow, change: &ChannelChange) -> serde_json::Value {
    let mut after = channel.clone();
    match change {
        ChannelChange::Hold { reason } => after.hold = Some(reason.clone()),
        ChannelChange::Resume => after.hold = None,
        ChannelChange::Pin(pin) => after.pin = Some(pin.clone()),
        ChannelChange::Unpin => after.pin = None,
    }
    stops(&after)
}

impl Reconciler for Channels {
    fn name(&self) -> String {
        "channels".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let (mut moved, mut next) = (0, None::<Timestamp>);
            for source in self.sources.ids() {
                let advanced = self.advance(source).await?;
                moved += advanced.moved.len();
                next = next.into_iter().chain(advanced.next).min();
            }
            let outcome = Outcome::counted(moved, "moved", "channel");
            let wait = next.map(|at| at.duration_since(self.clock.now()).try_into().unwrap_or_default());
            Ok(wait.map_or(outcome.clone(), |wait| outcome.then(wait)))
        }
        .boxed()
    }
}
