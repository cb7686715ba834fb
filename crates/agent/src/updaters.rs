//! Which updater this device has.

use std::path::PathBuf;

use crate::blocking::blocking;
use crate::bootc::Bootc;
use crate::composefs::Composefs;
use crate::config::UpdaterKind;
use crate::updater::{UpdateError, Updater};

/// The updater of a device: the configured one, or the one that it was installed with. `bootc` is the
/// program.
pub async fn choose(kind: UpdaterKind, bootc: Option<PathBuf>) -> Result<Box<dyn Updater>, UpdateError> {
    let bootc = bootc.map_or_else(|| Bootc::new("bootc"), Bootc::new);
    match kind {
        UpdaterKind::Bootc => Ok(Box::new(bootc)),
        UpdaterKind::Composefs => Ok(Box::new(detect().await?)),
        UpdaterKind::Auto => match detect().await {
            Ok(composefs) => Ok(Box::new(composefs)),
            Err(UpdateError::Unsupported { why, .. }) => match bootc.status().await {
                Ok(found) if found.booted.is_some() => Ok(Box::new(bootc)),
                _ => Err(UpdateError::Unsupported {
                    updater: "known",
                    why: format!("{why}, and `bootc status` reports no booted image"),
                }),
            },
            Err(error) => Err(error),
        },
    }
}

async fn detect() -> Result<Composefs, UpdateError> {
    let stopped =
        |_| UpdateError::Backend { what: "look for a deployment".to_owned(), problem: "stopped".to_owned() };
    blocking(Composefs::detect).await.map_err(stopped)?
}
