//! Images that a Containerfile uses besides its base: from their registry into this one's, and from there into
//! the storage that all jobs share, as bases are.

use std::collections::BTreeMap;

use edgewright_model::containerfile::ForeignImage;
use edgewright_model::outcome::{JobFailure, Phase};

use super::Order;
use super::parse::Text;
use super::store::Store;
use crate::context::{BuildContext, Events};
use crate::{base, failure};

/// Pulls the images; gives their names in the storage.
pub(super) async fn pull(
    store: &Store,
    ctx: &BuildContext,
    order: &Order<'_>,
    text: &Text,
    events: Events<'_>,
) -> Result<BTreeMap<ForeignImage, String>, JobFailure> {
    let mut names = BTreeMap::new();
    for image in text.images() {
        let Some(locked) = order.images.iter().find(|locked| locked.is(image)) else {
            let message = format!("the order has no digest of {} for {}", image.reference, image.platform);
            return Err(failure::infrastructure(Phase::Fetch, message, Some("run the commit again")));
        };
        let manifest = base::foreign(locked, order.task, ctx, events).await?;
        names.insert(image.clone(), store.pull_base(ctx, &manifest).await?);
    }
    Ok(names)
}
