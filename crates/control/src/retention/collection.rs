//! What is not needed any longer: builds, releases' images, retired variants, old evidence. The database
//! forgets first, then pins go, then the registry collects; each step may be the last before a crash.

use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use edgewright_model::run::RunNumber;
use edgewright_registry::{Collected, Pin};
use edgewright_store::retention::{Forgotten, Horizon, Needed};
use jiff::Timestamp;

use super::Retention;
use crate::ControlError;
use crate::pins;
use crate::settings::Keep;

/// What left control's database and the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) forgotten: Forgotten,
    pub(crate) collected: Collected,
    pub(crate) packages: usize,
    pub(crate) evidence: usize,
}

fn horizon(keep: &Keep, now: Timestamp) -> Horizon {
    let since = |kept| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
    Horizon {
        releases: since(keep.releases_for),
        retired: since(keep.retired_for),
        builds: since(keep.builds_for),
    }
}

/// The run whose pin it is, by its name: `results/run-7`, `contexts/run-7`, `release/plant-os/run-7`.
fn run_of(pin: &Pin) -> Option<RunNumber> {
    let (kind, rest) = pin.name.split_once('/')?;
    if !matches!(kind, "results" | "contexts" | "release") {
        return None;
    }
    rest.rsplit('/').next()?.strip_prefix("run-")?.parse().ok()
}

impl Retention {
    /// Removes what is no longer needed. Does nothing while a run is being planned: the next pass is an hour
    /// later.
    pub(crate) async fn collect(&self, now: Timestamp) -> Result<Removed, ControlError> {
        let horizon = horizon(&self.keep, now);
        let Some(needed) = self.store.needed(&horizon).await? else { return Ok(Removed::default()) };
        let Some(forgotten) = self.store.forget(&needed, &horizon, now).await? else {
            return Ok(Removed::default());
        };
        let mut removed = Removed { forgotten, ..Removed::default() };
        for key in self.store.unneeded_packages(horizon.builds, &needed.keys).await? {
            // The row goes last: a pin that a crash left is found again by it.
            self.hosting.unpin(&pins::packages(&key)).await?;
            self.store.forget_packages(&key).await?;
            removed.packages += 1;
        }
        self.release_pins(&needed, &horizon).await?;
        let evidence = now.checked_sub(self.keep.evidence_for).unwrap_or(Timestamp::MIN);
        for row in self.store.superseded_verdicts(evidence).await? {
            self.hosting.remove(&row.repository, &row.referrer).await?;
            self.store.note_withdrawn(row.id).await?;
            removed.evidence += 1;
        }
        removed.collected = self.hosting.collect(now).await?;
        Ok(removed)
    }

    async fn release_pins(&self, needed: &Needed, horizon: &Horizon) -> Result<(), ControlError> {
        let young = self.store.young_runs(horizon.builds).await?;
        for pin in self.hosting.pins().await? {
            if run_of(&pin).is_none_or(|run| young.contains(&run)) {
                continue;
            }
            let surplus: Vec<(RepoName, Digest)> =
                pin.held.iter().filter(|(_, digest)| !needed.digests.contains(digest)).cloned().collect();
            if !surplus.is_empty() {
                self.hosting.release(&pin.name, &surplus).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_runs_are_known_by_their_names() {
        for (name, run) in [
            ("results/run-7", Some(7)),
            ("contexts/run-12", Some(12)),
            ("release/plant-os/run-3", Some(3)),
            ("packages/0123", None),
            ("results/other", None),
            ("mine/run-7", None),
        ] {
            let pin = Pin { name: name.to_owned(), held: Vec::new() };
            assert_eq!(run_of(&pin), run.map(RunNumber), "{name}");
        }
    }
}
