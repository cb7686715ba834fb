//! Turns: exchanges of tokens at a site, one after the other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use edgewright_model::names::SiteId;
use edgewright_store::sources::SourceId;
use tokio::sync::Mutex;

/// How many sites can have an exchange at the same time, at most.
const TURNS: usize = 256;

/// Exchanges at a site are made one after the other: a whole site is often switched on at once, and two of
/// its devices must not choose the same free slot. Sites that share a turn by chance only wait.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    /// The turn of a site.
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash choose one")]
    pub(super) fn of(&self, source: SourceId, site: &SiteId) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        (source.0, site).hash(&mut hasher);
        &self.0[hasher.finish() as usize % TURNS]
    }
}
