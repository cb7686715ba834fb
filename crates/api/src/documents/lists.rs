//! Lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ChannelView, EvidenceView, ImageSummary, ReleaseView, RunSummary, SiteSummary, SourceView, UserView,
};

macro_rules! lists {
    ($($(#[$doc:meta])* $list:ident { $(#[$field_doc:meta])* $field:ident: $item:ty })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
        pub struct $list {
            $(#[$field_doc])*
            pub $field: Vec<$item>,
        }
    )+};
}

lists! {
    /// Runs.
    RunList {
        /// The newest runs, newest first; their number is limited by `--limit`.
        runs: RunSummary
    }
    /// Images.
    ImageList {
        /// Variants, sorted by source and name.
        images: ImageSummary
    }
    /// Releases.
    ReleaseList {
        /// The newest releases, newest first; their number is limited by `--limit`.
        releases: ReleaseView
    }
    /// Channels.
    ChannelList {
        /// Channels, sorted by source and name.
        channels: ChannelView
    }
    /// Sites.
    SiteList {
        /// Sites, sorted by source and name.
        sites: SiteSummary
    }
    /// Sources.
    SourceList {
        /// Sources, sorted by name.
        sources: SourceView
    }
    /// Users.
    UserList {
        /// Local users, sorted by name.
        users: UserView
    }
    /// Evidence.
    EvidenceList {
        /// Pieces of evidence, sorted by lane and platform.
        evidence: EvidenceView
    }
}
