//! What SIGHUP changes while the server runs.

use edgewright_model::error::Chain;
use edgewright_model::names::SourceName;

use super::{Composition, StartError, holder};
use crate::live::Live;
use crate::settings::{Settings, SettingsError};

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Sentences about what changed.
    pub changes: Vec<String>,
    /// The settings that apply after a restart.
    pub restart: Vec<&'static str>,
}

impl Composition {
    /// Applies other settings while running: sources, sinks, targets, secrets, certificate. All or nothing.
    ///
    /// # Errors
    /// A secret or certificate cannot be read, a client cannot be created, or the database cannot be written;
    /// everything is as it was then.
    pub async fn reload(&self, settings: &Settings) -> Result<Reloaded, StartError> {
        // Everything is read and checked first.
        let certificate = match (&self.certificate, &settings.tls) {
            (Some(certificate), Some(tls)) => Some((certificate, tls.read().map_err(SettingsError::from)?)),
            _ => None,
        };
        let had_token = tokio::fs::try_exists(settings.operator_token_file()).await.unwrap_or(true);
        let live = Live::read(settings, &self.address)?;
        let before = self.live.now();
        let applied = self.apply(&before, &live).await;
        if applied.is_err() {
            self.undo(&live, &before).await;
            if !had_token {
                // A new token was generated, and the earlier one is still the valid one.
                drop(tokio::fs::remove_file(settings.operator_token_file()).await);
            }
        }
        let changes = applied?;
        if let Some((certificate, config)) = certificate {
            certificate.replace(config);
        }
        super::warn_of_settings(settings);
        let restart = self.settings.restart_needed_for(settings);
        if let Err(error) = self.lock.announce(holder(settings, self.local, &self.address)) {
            tracing::warn!(%error, "commands on this machine may not find the server or its token");
        }
        self.live.replace(live);
        Ok(Reloaded { changes, restart })
    }

    /// Follows other sources, sends events to other sinks, and copies to other targets.
    async fn apply(&self, before: &Live, live: &Live) -> Result<Vec<String>, StartError> {
        let mut changes = self.follow_sources(before, live).await?;
        // Also if nothing changed: an operator who fixed a target does not wait for the next attempt.
        self.control.deliver(&live.targets)?;
        if live.targets != before.targets {
            changes.push(format!("{} targets configured", live.targets.len()));
        }
        if live.sinks != before.sinks {
            self.control.notify(&live.sinks).map_err(StartError::Sinks)?;
            changes.push(format!("{} sinks configured", live.sinks.len()));
        }
        Ok(changes)
    }

    /// Goes back to the settings before a failed reload.
    async fn undo(&self, failed: &Live, before: &Live) {
        let mut undone = self.follow_sources(failed, before).await.map(drop);
        if failed.targets != before.targets {
            undone = undone.and(self.control.deliver(&before.targets).map_err(StartError::from));
        }
        if let Err(error) = undone {
            tracing::error!(error = %Chain(&error), "cannot restore the earlier configuration; restart the server");
        }
    }

    /// Follows the sources of `live`. Those that are new are stored before the others are removed.
    async fn follow_sources(&self, before: &Live, live: &Live) -> Result<Vec<String>, StartError> {
        let mut changes = Vec::new();
        let is_in = |live: &Live, name: &SourceName| live.sources.iter().any(|source| source.name == *name);
        let mut added = Vec::new();
        for source in live.sources.iter().filter(|source| !before.sources.contains(source)) {
            added.push(self.control.add_source(source.clone()).await?);
            let what = if is_in(before, &source.name) { "changed" } else { "added" };
            changes.push(format!("source {} {what}", source.name));
        }
        for old in before.sources.iter().filter(|old| !is_in(live, &old.name)) {
            self.control.remove_source(&old.name);
            changes.insert(0, format!("source {} removed", old.name));
        }
        for id in added {
            self.control.start_source(id);
        }
        Ok(changes)
    }
}
