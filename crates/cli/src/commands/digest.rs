//! Digests as tables print them: their first 12 digits, with or without `sha256:`.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::{SourceName, VariantName};

use crate::exit::Failure;
use crate::reader::Reader;

/// The fewest digits that name a digest.
const FEWEST: usize = 12;
/// How many runs are searched.
const RUNS: u32 = 20;

/// The digits of a shortened digest; none for anything else.
pub(super) fn shortened(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_short = (FEWEST..64).contains(&digits.len());
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_short && is_hex).then_some(digits)
}

/// The platform manifest of a digest, in full or shortened. The digest of an index, as `images` prints it,
/// means its first platform.
pub(super) async fn manifest(reader: &Reader, text: &str) -> Result<Digest, Failure> {
    let full = text.parse::<Digest>().ok();
    let Some(digits) = full.as_ref().map(Digest::hex).or_else(|| shortened(text)) else {
        return Err(Failure::user(format!("`{text}` is not a digest"))
            .hint("give sha256:… or its first 12 digits, as `edgewright images` prints them"));
    };
    let is_meant = |digest: &Digest| digest.hex().starts_with(digits);
    let mut found = BTreeSet::new();
    for image in reader.images(None).await? {
        if image.digest.as_ref().is_some_and(is_meant) {
            let view = reader.image(&image.variant, Some(&image.source)).await?;
            found.extend(view.builds.into_iter().take(1).map(|build| build.manifest.digest));
        }
    }
    if found.is_empty() && full.is_none() {
        for run in reader.runs(None, RUNS).await? {
            let nodes = reader.run(run.number).await?.nodes;
            found.extend(nodes.into_iter().filter_map(|node| node.digest).filter(is_meant));
        }
    }
    let mut found = found.into_iter();
    match (found.next(), found.next(), full) {
        (Some(digest), None, _) | (None, None, Some(digest)) => Ok(digest),
        (None, ..) => {
            Err(Failure::new(ErrorClass::NotFound, format!("there is no image with the digest {text}"))
                .hint("`edgewright images` lists the newest ones; give older ones in full"))
        }
        (Some(_), Some(_), _) => {
            Err(Failure::user(format!("several images have a digest that starts with {text}"))
                .hint("give more digits"))
        }
    }
}

/// The platform manifest of a digest, or of a variant as it was built last.
pub(super) async fn named(
    reader: &Reader,
    what: &str,
    source: Option<&SourceName>,
) -> Result<Digest, Failure> {
    if what.parse::<Digest>().is_ok() || shortened(what).is_some() {
        return manifest(reader, what).await;
    }
    let variant: VariantName = what.parse().map_err(|_| {
        Failure::user(format!("`{what}` is neither a digest nor a variant"))
            .hint("give sha256:…, its first 12 digits, or a variant such as hmi/plant-a; `edgewright images` lists them")
    })?;
    let image = reader.image(&variant, source).await?;
    image.builds.first().map(|build| build.manifest.digest.clone()).ok_or_else(|| {
        Failure::new(ErrorClass::NotFound, format!("`{variant}` was not built yet"))
            .hint("`edgewright images` shows its state")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_as_tables_print_them_are_shortened_ones() {
        let digits = "f0d6f73c87d0";
        assert_eq!(shortened(digits), Some(digits));
        assert_eq!(shortened(&format!("sha256:{digits}")), Some(digits));
        for other in ["f0d6f73c87", "hmi/plant-a", "F0D6F73C87D0", "systembaseabc"] {
            assert_eq!(shortened(other), None, "{other}");
        }
        assert_eq!(shortened(&Digest::of("x").to_string()), None, "in full");
    }
}
