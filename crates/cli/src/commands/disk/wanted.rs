//! What is installed, and what the device follows.

use edgewright_api::SlotView;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::{ChannelName, SiteName, SlotId, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::{ImageReference, Reference, Tag};
use edgewright_oci::client::Credentials;
use edgewright_oci::{Client, image};
use edgewright_provision::ProvisionError;
use edgewright_vm::Source;

use crate::args::{DiskArgs, Global};
use crate::exit::Failure;
use crate::reader::Reader;

const DEFAULT_TAG: &str = "stable";

/// What is installed, and what the device follows.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The image.
    pub(super) image: ImageReference,
    /// The reference that the device follows.
    pub(super) follow: String,
    /// The host name of the device.
    pub(super) hostname: Option<String>,
}

/// Reads the arguments, and what a slot declares.
pub(super) async fn read(args: &DiskArgs, global: &Global) -> Result<Wanted, Failure> {
    let (image, follow, hostname) = match (&args.slot, &args.image) {
        (Some((site, id)), _) => {
            let reader = Reader::open(global).await?;
            let slot = slot(&reader, site, id).await?;
            let image = of_slot(&reader, &slot).await?;
            let follow = followed(&image, slot.channel.as_ref().map(ChannelName::as_str));
            // An id may have `_`, a host name may not.
            (image, follow, Some(id.as_str().replace('_', "-")))
        }
        (None, Some(text)) => {
            let image = reference(text, global).await?;
            let follow = followed(&image, None);
            (image, follow, None)
        }
        (None, None) => return Err(Failure::user("neither an image nor a slot")),
    };
    let follow = args.follow.clone().unwrap_or(follow);
    Ok(Wanted { image, follow, hostname: args.hostname.clone().or(hostname) })
}

async fn slot(reader: &Reader, site: &SiteName, id: &SlotId) -> Result<SlotView, Failure> {
    let view = reader.site(site, None).await?;
    let found = view.slots.into_iter().find(|slot| slot.id == *id && slot.removed.is_none());
    found.ok_or_else(|| {
        Failure::new(ErrorClass::NotFound, format!("site {site} has no slot {id}"))
            .hint(format!("`edgewright site show {site}` lists its slots"))
    })
}

/// What the channel of a slot holds for it, or its newest release.
async fn of_slot(reader: &Reader, slot: &SlotView) -> Result<ImageReference, Failure> {
    let missing = |what: String| Failure::new(ErrorClass::NotFound, what);
    let variant = slot.variant.as_ref().ok_or_else(|| {
        missing(format!("slot {} has no variant: its image {} has errors", slot.id, slot.image))
            .hint("fix the errors that `edgewright check` shows")
    })?;
    let mut image = newest(reader, variant).await?;
    if let Some(channel) = &slot.channel {
        let digest = slot.digest.clone().ok_or_else(|| {
            missing(format!("channel {channel} of slot {} has no release with {variant}", slot.id))
                .hint("wait until the channel moves: see `edgewright channel show`")
        })?;
        image.tag = None;
        image.digest = Some(digest);
    }
    Ok(image)
}

/// The reference that was given, or that of a variant's newest release.
async fn reference(text: &str, global: &Global) -> Result<ImageReference, Failure> {
    match text.parse::<VariantName>() {
        Ok(variant)
            if !text.contains(['@', ':'])
                && !text.split('/').next().is_some_and(|host| host.contains('.')) =>
        {
            newest(&Reader::open(global).await?, &variant).await
        }
        _ => parse(text),
    }
}

/// A variant's newest release.
async fn newest(reader: &Reader, variant: &VariantName) -> Result<ImageReference, Failure> {
    let pull = reader.image(variant, None).await?.pull.ok_or_else(|| {
        Failure::new(ErrorClass::NotFound, format!("{variant} has no image that can be pulled"))
            .hint("start the server with `edgewright serve`, and wait for its first release")
    })?;
    parse(&pull.reference)
}

fn parse(text: &str) -> Result<ImageReference, Failure> {
    text.parse().map_err(|error| Failure::user(format!("invalid image `{text}`: {error}")))
}

/// The platform manifest of a reference, for this machine.
pub(super) async fn find(wanted: &ImageReference) -> Result<Source, Failure> {
    let pull = |error| Failure::from(ProvisionError::Pull(Box::new(error)));
    let client = Client::for_host(&wanted.registry, Credentials::Anonymous).map_err(pull)?;
    let reference = match (&wanted.digest, &wanted.tag) {
        (Some(digest), _) => Reference::Digest(digest.clone()),
        (None, Some(tag)) => Reference::Tag(tag.clone()),
        (None, None) => {
            let message = format!("{wanted} has neither a tag nor a digest");
            return Err(Failure::user(message).hint("add a tag, such as `:stable`"));
        }
    };
    let manifest = client.pull_manifest(&wanted.repository, &reference).await.map_err(pull)?;
    let digest = if image::is_index(&manifest) {
        let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
        let platform = platform.parse().map_err(|_| Failure::user("unknown platform"))?;
        let found = image::select(&manifest.bytes, &platform);
        found.map_err(|error| Failure::user(format!("cannot use {wanted}: {error}")))?.digest
    } else {
        manifest.digest
    };
    Ok(Source { client, manifest: ManifestRef { repository: wanted.repository.clone(), digest } })
}

/// What a device follows: a channel of the repository, or its tag; else the default channel.
fn followed(wanted: &ImageReference, channel: Option<&str>) -> String {
    let tag = wanted.tag.as_ref().map(Tag::as_str);
    format!("{}/{}:{}", wanted.registry, wanted.repository, channel.or(tag).unwrap_or(DEFAULT_TAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_follows_its_channel_then_the_tag_then_the_default() {
        let by_tag = parse("r.example/plant-os/hmi:next").unwrap();
        assert_eq!(followed(&by_tag, Some("canary")), "r.example/plant-os/hmi:canary");
        assert_eq!(followed(&by_tag, None), "r.example/plant-os/hmi:next");
        let digest = format!("r.example/plant-os/hmi@sha256:{}", "0".repeat(64));
        assert_eq!(followed(&parse(&digest).unwrap(), None), "r.example/plant-os/hmi:stable");
    }
}
