//! Releases: what a run's results are called, what channels hold of them, and what their tags answer.

pub(crate) mod awaited;
pub mod channels;
mod decide;
pub(crate) mod newest;
mod promote;
pub(crate) mod publish;
pub mod referrers;
pub mod tags;
pub(crate) mod updates;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::sources::SourceId;

use self::channels::Channels;
use self::newest::Released;
use self::tags::ChannelTags;
use crate::events::Events;
use crate::hosting::Hosting;

/// Makes releases of what runs built. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Releases {
    store: Store,
    hosting: Hosting,
    clock: Clock,
    events: Events,
    tags: ChannelTags,
    channels: Channels,
    /// The release of each source that was read last.
    read: Arc<Mutex<BTreeMap<SourceId, Arc<Released>>>>,
}

impl Releases {
    pub(crate) fn new(
        store: Store,
        hosting: Hosting,
        clock: Clock,
        events: Events,
        (tags, channels): (ChannelTags, Channels),
    ) -> Self {
        Self { store, hosting, clock, events, tags, channels, read: Arc::default() }
    }
}
