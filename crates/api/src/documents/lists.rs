//! Lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ChannelView, DeviceSummary, EvidenceView, ImageSummary, QuarantineView, ReleaseView, RolloutDeviceView,
    RolloutSummary, RunSummary, SiteSummary, SourceView, UserView,
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
    /// Rollouts.
    RolloutList {
        /// The newest rollouts, newest first; their number is limited by `--limit`.
        rollouts: RolloutSummary
    }
    /// Devices of a rollout.
    RolloutDeviceList {
        /// Devices, sorted by stage and id.
        devices: RolloutDeviceView
    }
    /// Quarantined digests.
    QuarantineList {
        /// Digests, the newest first.
        quarantine: QuarantineView
    }
    /// Sites.
    SiteList {
        /// Sites, sorted by source and name.
        sites: SiteSummary
    }
    /// Devices.
    DeviceList {
        /// Devices, sorted by id.
        devices: DeviceSummary
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
