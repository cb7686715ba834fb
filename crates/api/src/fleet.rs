//! Devices of a fleet: enrolment, what each is answered with, what is known about it.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::digest::Digest;
use edgewright_model::names::{
    ChannelName, DeviceId, LabelKey, LabelValue, SiteId, SiteName, SlotId, SourceName, VariantName,
};
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// State of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It enrolled and waits for an approval.
    Waiting,
    /// It follows its channel.
    Active,
    /// An operator keeps it at what it has.
    Held,
    /// Its credentials are invalid.
    Revoked,
    /// It left the fleet.
    Retired,
}

/// A device as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceSummary {
    /// Id, given by the server.
    #[schema(value_type = String)]
    pub id: DeviceId,
    /// Name of the source; null if it was removed.
    #[schema(value_type = Option<String>)]
    pub source: Option<SourceName>,
    /// Immutable id of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Name of the site; null if it was never declared.
    #[schema(value_type = Option<String>)]
    pub site_name: Option<SiteName>,
    /// Immutable id of the slot.
    #[schema(value_type = String)]
    pub slot: SlotId,
    /// Variant that its slot gives it; null while the image has errors.
    #[schema(value_type = Option<String>)]
    pub variant: Option<VariantName>,
    /// Channel that it follows; null if its slot names none and the source has several.
    #[schema(value_type = Option<String>)]
    pub channel: Option<ChannelName>,
    /// State of the device.
    pub state: DeviceState,
    /// Why it is held, revoked or retired; null otherwise.
    pub state_reason: Option<String>,
    /// Release that an operator pinned it to; null for none.
    #[schema(value_type = Option<u32>)]
    pub pin: Option<ReleaseNumber>,
    /// Whether the default branch no longer declares its slot: it keeps its image until it is retired.
    pub orphan: bool,
    /// Time of its last authenticated request, with a delay of seconds; null for none.
    pub seen: Option<Timestamp>,
    /// Digest that it would be answered with now; null for none.
    #[schema(value_type = Option<String>)]
    pub offer: Option<Digest>,
    /// Digest of the last answer that it got; null for none.
    #[schema(value_type = Option<String>)]
    pub delivered: Option<Digest>,
    /// Last digest that it reported as healthy; null for none.
    #[schema(value_type = Option<String>)]
    pub confirmed: Option<Digest>,
    /// Why it may be two machines with one credential; null if nothing suggests it. It is no proof.
    pub clone: Option<String>,
}

/// One device: the fields of the list, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// The fields of the list.
    #[serde(flatten)]
    pub device: DeviceSummary,
    /// Serial number, as the device gave it.
    pub serial: Option<String>,
    /// Time of its enrolment.
    pub enrolled: Timestamp,
    /// Why it is answered with `offer`, or with nothing.
    pub reason: String,
    /// Why an operator pinned it; null if none did.
    pub pin_reason: Option<String>,
    /// What is known about images on the device, newest first.
    pub evidence: Vec<DeviceEvidence>,
}

/// A step of the evidence ladder that a device reached with an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceEvidence {
    /// Digest of the image's index.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Step: `offered`, `downloaded`, `booted`, `healthy`, or `failed`.
    pub step: String,
    /// How it is known: `observed` by the registry, `reported` by the device, or `inferred` without proof.
    pub basis: String,
    /// Time at which it became known.
    pub at: Timestamp,
}

/// A change of a device by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum DevicePost {
    /// Let a device that waits join the fleet.
    Approve,
    /// Keep the device at what it has.
    Hold {
        /// Why, for other operators.
        reason: String,
    },
    /// End the hold. After a restore: the device needs no newer release.
    Release,
    /// Give the device the image of one release.
    Pin {
        /// Number of the release.
        #[schema(value_type = u32)]
        release: ReleaseNumber,
        /// Why, for other operators.
        reason: String,
    },
    /// End the pin.
    Unpin,
    /// End its credentials now.
    Revoke {
        /// Why, for other operators.
        reason: String,
    },
    /// Take it out of the fleet.
    Retire {
        /// Why, for other operators.
        reason: String,
    },
}

/// A request for an enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentPost {
    /// Source; needed if several have the site.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub source: Option<SourceName>,
    /// Id or name of the site; needed if several have the slot.
    #[serde(default)]
    pub site: Option<String>,
    /// Slot; null: any free slot of the site.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub slot: Option<SlotId>,
    /// Labels that the slot must have.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Serial numbers of the devices that may use it; empty: any.
    #[serde(default)]
    pub serials: BTreeSet<String>,
    /// Number of devices that may use it, if it is not for one slot.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Whether devices wait for an approval after they enrolled.
    #[serde(default)]
    pub approval: bool,
    /// Whether the slot's device is replaced: it is retired when the new one enrols.
    #[serde(default)]
    pub replace: bool,
    /// Seconds until it expires; 24 hours by default, at most 90 days.
    #[serde(default)]
    pub expires_seconds: Option<u32>,
}

/// An enrolment token. It is shown once: the server keeps its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentView {
    /// The token.
    pub token: String,
    /// Immutable id of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Slot; null: any free slot of the site that matches.
    #[schema(value_type = Option<String>)]
    pub slot: Option<SlotId>,
    /// Number of devices that may use it.
    pub uses: u32,
    /// Whether devices wait for an approval after they enrolled.
    pub approval: bool,
    /// Device that is retired by its use; null for none.
    #[schema(value_type = Option<String>)]
    pub replaces: Option<DeviceId>,
    /// Time at which it expires.
    pub expires: Timestamp,
}

/// A device's exchange of a token for an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolPost {
    /// The enrolment token: the proof that the device may enrol.
    pub token: String,
    /// A secret text that the device chose: repeating the exchange with it gives the same device.
    #[serde(default)]
    pub attempt: Option<String>,
    /// Slot that the device wants.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub slot: Option<SlotId>,
    /// Serial number of the device.
    #[serde(default)]
    pub serial: Option<String>,
}

/// A device's identity. The credential is shown once: the server keeps its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceIdentity {
    /// Id of the device: the user name of its credential.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The credential: the password for the registry, the bearer token for the API.
    pub credential: String,
    /// Address of the registry, as `HOST:PORT`.
    pub registry: String,
    /// Whether the registry is reached over TLS.
    pub tls: bool,
    /// Reference that the device pulls, for life.
    pub image: String,
    /// Immutable id of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Immutable id of the slot.
    #[schema(value_type = String)]
    pub slot: SlotId,
    /// State of the device: `waiting` until an operator approves it.
    pub state: DeviceState,
    /// Time until which the credential before stays valid, after a rotation; null otherwise.
    pub old_until: Option<Timestamp>,
}
