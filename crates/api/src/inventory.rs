//! The inventory: what the default branch declares besides images.

use std::collections::BTreeMap;

use edgewright_model::digest::Digest;
use edgewright_model::names::{
    ChannelName, ImageName, LabelKey, LabelValue, SiteId, SiteName, SlotId, SourceName, VariantName,
};
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A site as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteSummary {
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Name of the site: its folder below `sites/`.
    #[schema(value_type = String)]
    pub name: SiteName,
    /// Immutable id of the site.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// Labels.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Number of slots that the site declares.
    pub slot_count: u32,
    /// Time since which the default branch no longer declares it; null if it does.
    pub removed: Option<Timestamp>,
}

/// One site: the fields of the list, and its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    /// The fields of the list.
    #[serde(flatten)]
    pub site: SiteSummary,
    /// Slots, sorted by id; those that are no longer declared, too.
    pub slots: Vec<SlotView>,
}

/// A slot: a place for one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// Immutable id of the slot, unique in its site.
    #[schema(value_type = String)]
    pub id: SlotId,
    /// Display name; null for none.
    pub name: Option<String>,
    /// Name of the image that the device runs.
    #[schema(value_type = String)]
    pub image: ImageName,
    /// Variant of that image; null while the image has errors.
    #[schema(value_type = Option<String>)]
    pub variant: Option<VariantName>,
    /// Channel that the device follows; null if the slot names none.
    #[schema(value_type = Option<String>)]
    pub channel: Option<ChannelName>,
    /// Number of the release that the channel points to; null before the first.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// Digest of the variant's index in that release; null if the release does not have it.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Labels.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Time since which the default branch no longer declares it; null if it does.
    pub removed: Option<Timestamp>,
}

/// The commit that the inventory of a source was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InventoryView {
    /// Commit id; null before the first commit that could be read.
    pub commit: Option<String>,
    /// Time at which the inventory was read.
    pub at: Option<Timestamp>,
    /// Why the inventory of a newer commit could not be read; null if it could.
    pub error: Option<String>,
}

/// A change of a channel by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChannelPost {
    /// Hold the channel at its release.
    Hold {
        /// Why, for the audit trail and for other operators.
        reason: String,
    },
    /// Let the channel move again.
    Resume,
    /// Move the channel to one release, and keep it there.
    Pin {
        /// Number of the release.
        #[schema(value_type = u32)]
        release: ReleaseNumber,
        /// Why, for the audit trail and for other operators.
        reason: String,
    },
    /// End the pin: the channel follows its branch or channel again.
    Unpin,
    /// Move the channel to a newer release before its turn.
    Promote {
        /// Number of the release.
        #[schema(value_type = u32)]
        release: ReleaseNumber,
        /// Why, for the audit trail and for other operators.
        reason: String,
    },
    /// Move the channel back: a new release with the former digests, the replaced ones are quarantined, and
    /// the channel is held.
    RollBack {
        /// Number of the release whose digests it gets; null: the one that the channel had before.
        #[schema(value_type = Option<u32>)]
        #[serde(default)]
        to: Option<ReleaseNumber>,
        /// Why, for the audit trail and for other operators.
        reason: String,
    },
}
