//! What SIGHUP changes while the server runs.

use edgewright_model::names::SourceName;

use super::{Composition, StartError, holder};
use crate::folder::FolderError;
use crate::live::Live;
use crate::settings::{OldSpelling, Settings, SettingsError};

impl Composition {
    /// Applies other settings while running: sources, sinks, targets, secrets, certificate. Returns sentences
    /// about what changed, and about what needs a restart.
    ///
    /// # Errors
    /// A secret or certificate cannot be read; nothing has changed then.
    pub async fn reload(&self, settings: &Settings) -> Result<Vec<String>, StartError> {
        let live = Live::read(settings, &self.address)?;
        if let (Some(certificate), Some(tls)) = (&self.certificate, &settings.tls) {
            certificate.replace(tls.read().map_err(SettingsError::from)?);
        }
        settings.old_spellings.iter().for_each(OldSpelling::warn);
        super::warn_of_secrets(settings);
        let before = self.live.now();
        let mut changes = self.reload_sources(&before, &live).await?;
        if live.sinks != before.sinks {
            self.control.notify(&live.sinks).map_err(StartError::Sinks)?;
            changes.push(format!("{} sinks configured", live.sinks.len()));
        }
        // Also if nothing changed: an operator who fixed a target does not wait for the next attempt.
        self.control.deliver(&live.targets)?;
        if live.targets != before.targets {
            changes.push(format!("{} targets configured", live.targets.len()));
        }
        let restart = self.settings.restart_needed_for(settings);
        changes.extend(restart.into_iter().map(|name| format!("`{name}` applies after a restart")));
        let io = |source| FolderError::Io { root: self.settings.data.clone(), source };
        self.lock.announce(holder(settings, self.local, &self.address)).map_err(io)?;
        self.live.replace(live);
        Ok(changes)
    }

    async fn reload_sources(&self, before: &Live, live: &Live) -> Result<Vec<String>, StartError> {
        let mut changes = Vec::new();
        let is_in = |live: &Live, name: &SourceName| live.sources.iter().any(|source| source.name == *name);
        for old in before.sources.iter().filter(|old| !is_in(live, &old.name)) {
            self.control.remove_source(&old.name);
            changes.push(format!("source {} removed", old.name));
        }
        for source in live.sources.iter().filter(|source| !before.sources.contains(source)) {
            let id = self.control.add_source(source.clone()).await?;
            self.control.start_source(id);
            let what = if is_in(before, &source.name) { "changed" } else { "added" };
            changes.push(format!("source {} {what}", source.name));
        }
        Ok(changes)
    }
}
