//! Which image gets which name in a target, and whether two would get the same.

use std::collections::BTreeMap;

use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::reference::{RepoName, Tag};
use edgewright_model::run::ReleaseNumber;
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::SourceId;
use edgewright_store::targets::CopyKey;

use super::copy::CopyError;
use super::template::{Names, Subject};

/// What a channel holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) source: SourceId,
    /// The source's configured name.
    pub(super) configured: SourceName,
    /// As its definition names itself.
    pub(super) name: SourceName,
    pub(super) channel: ChannelName,
    pub(super) release: ReleaseNumber,
    pub(super) entries: Vec<EntryRow>,
}

impl Held {
    pub(super) fn key(&self, target: &str) -> CopyKey {
        CopyKey {
            target: target.to_owned(),
            source: self.source,
            channel: self.channel.clone(),
            release: self.release,
        }
    }

    fn subject<'a>(&'a self, entry: &'a EntryRow) -> Subject<'a> {
        Subject { source: &self.name, variant: &entry.variant, channel: &self.channel, release: self.release }
    }
}

/// An image with its name in a target.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) entry: &'a EntryRow,
    pub(super) repository: RepoName,
    pub(super) tag: Tag,
}

/// The names of a channel's images. Refused where one is also that of another image of any channel that the
/// target takes: they would overwrite each other.
pub(super) fn named<'a>(
    names: &Names,
    held: &[Held],
    channel: &'a Held,
) -> Result<Vec<Named<'a>>, CopyError> {
    let mut all: BTreeMap<(RepoName, Tag), (bool, String)> = BTreeMap::new();
    for other in held {
        let is_this = std::ptr::eq(other, channel);
        for entry in &other.entries {
            // What has no name at all is reported for its own channel.
            let Ok(name) = names.of(&other.subject(entry)) else { continue };
            let words = format!("{}/{} ({})", other.name, entry.variant, other.channel);
            let clash = match all.get(&name) {
                Some((was_this, words)) if is_this || *was_this => Some(words.clone()),
                _ => None,
            };
            if let Some(first) = clash {
                let name = format!("{}:{}", name.0, name.1);
                return Err(CopyError::Clash { first, second: words, name });
            }
            all.insert(name, (is_this, words));
        }
    }
    let name = |entry: &'a EntryRow| {
        let (repository, tag) = names.of(&channel.subject(entry))?;
        Ok(Named { entry, repository, tag })
    };
    channel.entries.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use edgewright_model::Digest;
    use edgewright_model::run::EntryOrigin;

    use super::*;

    fn held(id: i64, name: &str, channel: &str, variants: &[&str]) -> Held {
        let entry = |variant: &&str| EntryRow {
            variant: variant.parse().unwrap(),
            repository: format!("{name}/{variant}").parse().unwrap(),
            digest: Digest::of(variant),
            origin: EntryOrigin::New,
            reason: String::new(),
        };
        Held {
            source: SourceId(id),
            configured: name.parse().unwrap(),
            name: name.parse().unwrap(),
            channel: channel.parse().unwrap(),
            release: ReleaseNumber(1),
            entries: variants.iter().map(entry).collect(),
        }
    }

    #[test]
    fn images_that_would_overwrite_each_other_are_refused() {
        let held = [
            held(1, "plants", "stable", &["base", "hmi/a", "hmi/b"]),
            held(1, "plants", "dev", &["base", "hmi/a", "hmi/b"]),
            held(2, "yards", "stable", &["gate"]),
        ];
        let outcome = |repository: &str, tag: &str| {
            let templates = Names::parse(repository, tag).unwrap();
            let problems = held.iter().map(|channel| match named(&templates, &held, channel) {
                Ok(images) => images.iter().map(|n| format!("{}:{}", n.repository, n.tag)).collect(),
                Err(error) => vec![error.to_string()],
            });
            problems.collect::<Vec<Vec<String>>>()
        };
        let fine = outcome("t/{source}-{image}-{site}", "{channel}");
        assert_eq!(fine[0], ["t/plants-base:stable", "t/plants-hmi-a:stable", "t/plants-hmi-b:stable"]);
        assert_eq!(fine[2], ["t/yards-gate:stable"]);

        let no_site = outcome("t/{source}-{image}", "{channel}");
        assert_eq!(
            no_site[0],
            ["`plants/hmi/a (stable)` and `plants/hmi/b (stable)` both become t/plants-hmi:stable"]
        );
        // Other channels and sources are not held up.
        assert!(no_site[1][0].contains("(dev)"), "{no_site:?}");
        assert_eq!(no_site[2], ["t/yards-gate:stable"]);

        let no_channel = outcome("t/{image}-{site}", "latest");
        assert!(
            no_channel[0][0].contains("`plants/base (stable)` and `plants/base (dev)`"),
            "{no_channel:?}"
        );
        assert_eq!(no_channel[2], ["t/gate:latest"]);
    }
}
