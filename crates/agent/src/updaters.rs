//! Which updater this device has.

use std::path::PathBuf;

use crate::bootc::Bootc;
use crate::config::UpdaterKind;
use crate::updater::{UpdateError, Updater};

/// The updater of a device: the configured one, or the one that it was installed with. `bootc` is the
/// program.
pub async fn choose(kind: UpdaterKind, bootc: Option<PathBuf>) -> Result<Box<dyn Updater>, UpdateError> {
    let bootc = bootc.map_or_else(|| Bootc::new("bootc"), Bootc::new);
    match kind {
        UpdaterKind::Bootc => Ok(Box::new(bootc)),
        UpdaterKind::Composefs => Err(UpdateError::Unsupported {
            updater: "composefs",
            why: "this build of the agent does not have it".to_owned(),
        }),
        UpdaterKind::Auto => match bootc.status().await {
            Ok(found) if found.booted.is_some() => Ok(Box::new(bootc)),
            _ => Err(UpdateError::Unsupported {
                updater: "known",
                why: "`bootc status` reports no booted image".to_owned(),
            }),
        },
    }
}
