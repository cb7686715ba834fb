//! The inventory: what the default branch declares apart from images.

use std::collections::BTreeMap;

use edgewright_model::digest::Digest;
use edgewright_model::names::{
    ChannelName, ImageName, LabelKey, LabelValue, SiteId, SiteName, SlotId, SourceName, VariantName,
};
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A site in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteSummary {
    /// Its source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Its name: the folder below `sites/`.
    #[schema(value_type = String)]
    pub name: SiteName,
    /// Its immutable id.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// Its labels.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// How many slots it declares.
    pub slots: u32,
    /// Since when the default branch no longer declares it; absent where it does.
    pub removed: Option<Timestamp>,
}

/// A site with its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    /// The site as in the list.
    pub site: SiteSummary,
    /// Its slots, by id; those that are no longer declared, too.
    pub slots: Vec<SlotView>,
}

/// A place for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// Its immutable id, unique in its site.
    #[schema(value_type = String)]
    pub id: SlotId,
    /// For people.
    pub name: Option<String>,
    /// The image that its device runs.
    #[schema(value_type = String)]
    pub image: ImageName,
    /// The variant of that image; absent while the image has errors.
    #[schema(value_type = Option<String>)]
    pub variant: Option<VariantName>,
    /// The channel that its device follows, where the slot names one.
    #[schema(value_type = Option<String>)]
    pub channel: Option<ChannelName>,
    /// The release that this channel holds.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// The index of the variant in that release.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Its labels.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Since when the default branch no longer declares it; absent where it does.
    pub removed: Option<Timestamp>,
}

/// Which commit the inventory of a source is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InventoryView {
    /// The commit; absent before the first one that could be read.
    pub commit: Option<String>,
    /// When it was taken over.
    pub at: Option<Timestamp>,
    /// Why a newer commit was not taken over; absent where nothing is wrong.
    pub error: Option<String>,
}

/// What an operator changes about a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChannelPost {
    /// The channel stays where it is.
    Hold {
        /// Why.
        reason: String,
    },
    /// It moves again.
    Resume,
    /// It is set to one release and stays there.
    Pin {
        /// The release.
        #[schema(value_type = u32)]
        release: ReleaseNumber,
        /// Why.
        reason: String,
    },
    /// It follows again.
    Unpin,
}
