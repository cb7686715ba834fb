//! Names of images in Containerfiles.

use serde::{Deserialize, Serialize};

use crate::names::Platform;
use crate::reference::ImageReference;

/// An image of a registry that a Containerfile names, besides its base.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignImage {
    /// Its name, with its registry's host.
    pub reference: ImageReference,
    /// The platform that is taken from it.
    pub platform: Platform,
}

/// The registry of names without a host, as Docker reads them.
const DEFAULT_HOST: &str = "docker.io";
/// The folder of names without a folder in that registry.
const DEFAULT_FOLDER: &str = "library";

/// A name as Docker reads it: `golang` is `docker.io/library/golang`.
pub(super) fn image(text: &str) -> Option<ImageReference> {
    let first = text.split_once('/').map(|(first, _)| first);
    let has_host = first.is_some_and(|first| first == "localhost" || first.contains(['.', ':']));
    let mut reference: ImageReference = if has_host {
        text.parse().ok()?
    } else if first.is_some() {
        format!("{DEFAULT_HOST}/{text}").parse().ok()?
    } else {
        format!("{DEFAULT_HOST}/{DEFAULT_FOLDER}/{text}").parse().ok()?
    };
    // A transport, such as `docker-archive:/…`, is no host.
    if reference.registry.ends_with(':') {
        return None;
    }
    if reference.registry == DEFAULT_HOST && !reference.repository.as_str().contains('/') {
        reference.repository = format!("{DEFAULT_FOLDER}/{}", reference.repository).parse().ok()?;
    }
    Some(reference)
}
