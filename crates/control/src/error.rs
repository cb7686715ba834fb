//! What can go wrong in control.

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::{ChannelName, DeviceId, SlotId, SourceName, UserName};
use edgewright_model::run::{ReleaseNumber, RolloutNumber, RunNumber};
use edgewright_store::StoreError;

use crate::access::NotPermitted;
use crate::approvals::NotCounted;
use crate::hosting::HostingError;

/// Why control did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The database.
    #[error("control's database failed")]
    Store(#[from] StoreError),
    /// The registry.
    #[error("hosting failed")]
    Hosting(#[from] HostingError),
    /// Git.
    #[error("the source cannot be read")]
    Source(#[from] edgewright_source::SourceError),
    /// Locks that could not be pushed.
    #[error("{why}")]
    Push {
        /// Where to.
        why: String,
        /// Why.
        #[source]
        source: Box<edgewright_source::SourceError>,
    },
    /// A file of the data folder.
    #[error("cannot {operation}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The source is not configured any more.
    #[error("the source of run {run} is not followed")]
    NoSource {
        /// The run.
        run: RunNumber,
    },
    /// A run that does not exist.
    #[error("there is no run {run}")]
    NoRun {
        /// The run.
        run: RunNumber,
    },
    /// A digest that no recorded run built.
    #[error("no run of this data folder built that")]
    NotBuilt,
    /// A run whose commit gives other keys by now.
    #[error("run {run} was planned by another version of edgewright: its keys cannot be computed again")]
    OtherKeys {
        /// The run.
        run: RunNumber,
    },
    /// A source of which no commit was run.
    #[error("no commit of the source was run yet: wait for its first poll, or `edgewright poll` it")]
    NothingRun,
    /// A source that is not configured.
    #[error("the source is not configured")]
    UnknownSource,
    /// The caller may not do that.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// A channel that is not there.
    #[error("there is no channel `{channel}`{}", .source_name.as_ref().map(|name| format!(" in source `{name}`")).unwrap_or_default())]
    NoChannel {
        /// The source that was named.
        source_name: Option<SourceName>,
        /// The channel.
        channel: ChannelName,
    },
    /// A channel that several sources have.
    #[error("several sources have a channel `{channel}`")]
    ManyChannels {
        /// The channel.
        channel: ChannelName,
    },
    /// A release that is not there.
    #[error("source `{source_name}` has no release {release}")]
    NoRelease {
        /// The source.
        source_name: SourceName,
        /// The release.
        release: ReleaseNumber,
    },
    /// A channel that does not move.
    #[error("channel `{channel}` does not move: it is {why}")]
    ChannelStays {
        /// The channel.
        channel: ChannelName,
        /// Why.
        why: String,
    },
    /// A release that is not newer than a channel's.
    #[error("channel `{channel}` has release {has}, and {release} is older")]
    NotForward {
        /// The channel.
        channel: ChannelName,
        /// The release.
        release: ReleaseNumber,
        /// What the channel has.
        has: ReleaseNumber,
    },
    /// An update that was not tested.
    #[error(
        "the update from release {from}, which the channel holds, to release {release} {} for {update}",
        failed.as_ref().map_or("is not tested".to_owned(), |why| format!("failed lane `upgrade` ({why})"))
    )]
    NotTested {
        /// The variant and its platform.
        update: String,
        /// The release.
        release: ReleaseNumber,
        /// What the channel has.
        from: ReleaseNumber,
        /// How its test failed; none where it was not tested.
        failed: Option<String>,
    },
    /// A quarantined digest.
    #[error("digest {digest} is quarantined: {why}")]
    Quarantined {
        /// The digest.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// A digest that is not quarantined.
    #[error("digest {digest} is not quarantined")]
    NotQuarantined {
        /// The digest.
        digest: Digest,
    },
    /// A channel that cannot go back.
    #[error("channel `{channel}` has no release with other digests to go back to")]
    NothingBefore {
        /// The channel.
        channel: ChannelName,
    },
    /// A rollout that is not there.
    #[error("there is no rollout `{rollout}`")]
    NoRollout {
        /// Its number or channel.
        rollout: String,
    },
    /// A device that is not in a rollout.
    #[error("device `{device}` is not in the rollout")]
    NoRolloutDevice {
        /// The device.
        device: DeviceId,
    },
    /// An order that a rollout does not take.
    #[error("cannot {verb} rollout {rollout}: {why}")]
    RolloutOrder {
        /// The rollout.
        rollout: RolloutNumber,
        /// What was asked for.
        verb: &'static str,
        /// Why not.
        why: String,
    },
    /// An approval that does not count.
    #[error("cannot approve rollout {rollout}: {why}")]
    Approval {
        /// The rollout.
        rollout: RolloutNumber,
        /// Why not.
        why: NotCounted,
    },
    /// A device that is not there.
    #[error("there is no device `{device}`")]
    NoDevice {
        /// The device.
        device: DeviceId,
    },
    /// A slot that is not declared.
    #[error("no site declares the slot `{slot}`")]
    NoSlot {
        /// As asked for: `SITE/SLOT`.
        slot: String,
    },
    /// A slot that several sites declare.
    #[error("several sites have a slot `{slot}`")]
    ManySlots {
        /// As asked for.
        slot: String,
    },
    /// A slot that has a device.
    #[error("slot `{slot}` has a device already: `{device}`")]
    SlotTaken {
        /// The slot.
        slot: SlotId,
        /// Its device.
        device: DeviceId,
    },
    /// A device whose state does not permit a change.
    #[error("device `{device}` is {state}: this change is not possible")]
    DeviceState {
        /// The device.
        device: DeviceId,
        /// Its state.
        state: &'static str,
    },
    /// A device that does not get an identity.
    #[error("cannot enrol the device: {why}")]
    EnrolmentDenied {
        /// Why.
        why: &'static str,
    },
    /// A sink that did not take an event.
    #[error("cannot notify sink `{name}`: {why}")]
    Sink {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// Packing a context.
    #[error("a context cannot be packed")]
    Pack(#[from] edgewright_source::PackError),
    /// A step of an untrusted ref asks for a build secret.
    #[error(
        "step `{step}` asks for the build secret `{secret}`: pull requests and other untrusted refs get no secrets"
    )]
    UntrustedSecret {
        /// The step.
        step: String,
        /// The secret's id.
        secret: String,
    },
    /// A step asks for a build secret that its source may not use.
    #[error(
        "step `{step}` asks for the build secret `{secret}`: the settings do not grant it to this source"
    )]
    SecretNotGranted {
        /// The step.
        step: String,
        /// The secret's id.
        secret: String,
    },
    /// A run that is over.
    #[error("run {run} is over")]
    Over {
        /// The run.
        run: RunNumber,
    },
    /// A run whose branch has moved on.
    #[error(
        "run {run} is not of the commit that branch `{branch}` holds now: its release would move channels back"
    )]
    Outdated {
        /// The run.
        run: RunNumber,
        /// Its branch.
        branch: String,
    },
    /// A job that cannot be exported.
    #[error("cannot export the job: {why}")]
    Export {
        /// Why.
        why: String,
    },
    /// A user that does not exist.
    #[error("there is no user `{user}`")]
    NoUser {
        /// The user.
        user: UserName,
    },
    /// A token that does not exist.
    #[error("user `{user}` has no token {id}")]
    NoToken {
        /// The user.
        user: UserName,
        /// The token's id.
        id: i64,
    },
    /// A value that cannot be written as JSON.
    #[error("a document cannot be written")]
    Document(#[from] serde_json::Error),
    /// Control is shutting down, or the run was cancelled.
    #[error("stopped")]
    Stopped,
    /// Something that this program itself has to guarantee does not hold.
    #[error("internal error: {what}")]
    Broken {
        /// What does not hold.
        what: &'static str,
    },
}

impl ControlError {
    /// The class by which exit code, HTTP status and retry are chosen.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Source(error) => error.class(),
            Self::Push { source, .. } => source.class(),
            Self::Hosting(_) | Self::Pack(_) | Self::File { .. } | Self::Sink { .. } | Self::Stopped => {
                ErrorClass::Unavailable
            }
            Self::NoSource { .. }
            | Self::UnknownSource
            | Self::NothingRun
            | Self::OtherKeys { .. }
            | Self::Outdated { .. }
            | Self::Export { .. }
            | Self::ManyChannels { .. }
            | Self::ChannelStays { .. }
            | Self::NotForward { .. }
            | Self::NotTested { .. }
            | Self::Quarantined { .. }
            | Self::NothingBefore { .. }
            | Self::RolloutOrder { .. }
            | Self::ManySlots { .. }
            | Self::SlotTaken { .. }
            | Self::DeviceState { .. }
            | Self::Over { .. } => ErrorClass::Conflict,
            Self::NoRun { .. }
            | Self::NotBuilt
            | Self::NoChannel { .. }
            | Self::NoRelease { .. }
            | Self::NoUser { .. }
            | Self::NoToken { .. }
            | Self::NotQuarantined { .. }
            | Self::NoRollout { .. }
            | Self::NoRolloutDevice { .. }
            | Self::NoDevice { .. }
            | Self::NoSlot { .. } => ErrorClass::NotFound,
            Self::EnrolmentDenied { .. }
            | Self::Approval { .. }
            | Self::NotPermitted(_)
            | Self::UntrustedSecret { .. }
            | Self::SecretNotGranted { .. } => ErrorClass::Denied,
            Self::Document(_) | Self::Broken { .. } => ErrorClass::Bug,
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRun { .. } => Some("`edgewright runs` lists them"),
            Self::NoUser { .. } | Self::NoToken { .. } => Some("`edgewright user list` lists them"),
            Self::NoChannel { .. } => Some("`edgewright channels` lists them"),
            Self::ManyChannels { .. } => Some("name the source: `--source NAME`"),
            Self::NoDevice { .. } => Some("`edgewright devices` lists them"),
            Self::NoSlot { .. } => Some("`edgewright site show SITE` lists the slots of a site"),
            Self::ManySlots { .. } => Some("name the site, too: SITE/SLOT; or the source: `--source NAME`"),
            Self::SlotTaken { .. } => {
                Some("`edgewright device replace SLOT` gives the slot to another device")
            }
            Self::DeviceState { .. } => Some("`edgewright device show DEVICE` shows its state and why"),
            Self::EnrolmentDenied { .. } => {
                Some("ask an operator for another token: `edgewright device enrol SLOT`")
            }
            Self::NoRelease { .. } => Some("`edgewright releases` lists them"),
            Self::UntrustedSecret { .. } => Some(
                "merge it, or push it to a branch that a channel follows; what needs no secret is built and tested all the same",
            ),
            Self::SecretNotGranted { .. } => Some(
                "add its id to `secrets` in the source's [[source]] of the settings file, then retry the run",
            ),
            Self::ChannelStays { .. } => Some("`edgewright channel resume` or `channel unpin` lets it move"),
            Self::NotForward { .. } => {
                Some("`edgewright rollback CHANNEL` goes back and quarantines, `channel pin` only goes back")
            }
            Self::NotTested { failed: None, .. } => {
                Some("a run tests it now: `edgewright channels` shows which; try again when it has passed")
            }
            Self::NotTested { .. } => Some(
                "fix the update, or promote a release in between from which the update to this one is tested",
            ),
            Self::Quarantined { .. } => Some("if it is good after all: `edgewright quarantine clear DIGEST`"),
            Self::NotQuarantined { .. } => Some("`edgewright quarantine list` lists them"),
            Self::NothingBefore { .. } => {
                Some("name a release with `--to`; `edgewright releases` lists them")
            }
            Self::NoRollout { .. } => Some("`edgewright rollouts` lists them"),
            Self::NoRolloutDevice { .. } => Some("`edgewright rollout explain ROLLOUT` lists its devices"),
            Self::Approval { .. } => {
                Some("another user with the role approver can: `edgewright rollout approve ROLLOUT`")
            }
            Self::RolloutOrder { .. } => Some("`edgewright rollout show ROLLOUT` shows what it does"),
            Self::NotBuilt => Some("`edgewright images` and `edgewright releases` list digests"),
            Self::Outdated { .. } => {
                Some("retry the branch's newest run; to go back to an older commit, push it to the branch")
            }
            Self::Export { .. } => {
                Some("export is for jobs on a cluster: `[cluster]` of the settings names one")
            }
            Self::Over { .. } => Some("`edgewright run retry RUN` queues its commit again"),
            Self::NoSource { .. } | Self::UnknownSource => {
                Some("follow it again: [[source]] in the settings file, or `serve --source URL`")
            }
            _ => None,
        }
    }
}
