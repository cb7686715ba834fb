//! Contents by id, kept across commits: the least recently used are evicted first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use edgewright_model::tree::ContentId;

/// Holds contents up to a number of bytes.
#[derive(Debug)]
pub struct ContentCache {
    limit: usize,
    bytes: usize,
    clock: u64,
    contents: HashMap<ContentId, (Arc<[u8]>, u64)>,
    by_use: BTreeMap<u64, ContentId>,
}

impl ContentCache {
    /// An empty cache of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, clock: 0, contents: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// The content; marks it as used.
    pub fn get(&mut self, id: &ContentId) -> Option<Arc<[u8]>> {
        self.clock += 1;
        let (content, used) = self.contents.get_mut(id)?;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, id.clone());
        Some(Arc::clone(content))
    }

    /// Adds a content; evicts others if needed. A content larger than the whole cache is not kept.
    pub fn insert(&mut self, id: ContentId, content: Arc<[u8]>) {
        if content.len() > self.limit || self.get(&id).is_some() {
            return;
        }
        self.bytes += content.len();
        self.clock += 1;
        self.by_use.insert(self.clock, id.clone());
        self.contents.insert(id, (content, self.clock));
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            if let Some((content, _)) = self.contents.remove(&oldest) {
                self.bytes -= content.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_evicted_first() {
        let mut cache = ContentCache::new(10);
        let id = |text: &str| ContentId::new(text);
        for name in ["a", "b"] {
            cache.insert(id(name), vec![0; 5].into());
        }
        assert!(cache.get(&id("a")).is_some());
        cache.insert(id("c"), vec![0; 5].into());
        cache.insert(id("huge"), vec![0; 11].into());
        let there: Vec<_> = ["a", "b", "c", "huge"].map(|name| cache.get(&id(name)).is_some()).into();
        assert_eq!(there, [true, false, true, false]);
        assert_eq!((cache.bytes, cache.by_use.len()), (10, 2));
    }
}
