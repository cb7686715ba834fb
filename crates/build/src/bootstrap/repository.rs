//! The repositories of a `bootstrap` step, as `sources.list` lines.

use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::lock::LockedArchive;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::spec::BootstrapStep;

use super::host::Host;
use crate::failure;

/// Debian's keys: on Debian hosts, and in every Debian image.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The package repositories of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    lines: Vec<String>,
    /// The mirror, for messages.
    name: String,
}

impl Repository {
    /// The repositories that a step declares, or else the host's.
    pub fn of(step: &BootstrapStep, host: &Host, phase: Phase) -> Result<Self, JobFailure> {
        // `signed-by` is valid in the image, too; keys of the repository are trusted for all lines instead.
        let options = if step.keys.is_empty() && Path::new(DEBIAN_KEYRING).exists() {
            format!("[signed-by={DEBIAN_KEYRING}] ")
        } else {
            String::new()
        };
        let components =
            if step.components.is_empty() { "main".to_owned() } else { step.components.join(" ") };
        let mut lines = Vec::new();
        let name = if let Some(mirror) = &step.mirror {
            lines.push(format!("deb {options}{mirror} {} {components}", step.suite));
            mirror.clone()
        } else {
            let entries = host.for_suite(&step.suite);
            let Some(first) = entries.first() else {
                let hint = "add `mirror:` to the `bootstrap` step, and `keys:` if it is not Debian's";
                let message = "`mirror:` is required: this host is not Debian, so there is no default";
                return Err(failure::image(phase, message, hint));
            };
            let name = first.uri.clone();
            for entry in entries {
                lines.push(format!("deb {options}{} {} {components}", entry.uri, entry.suite));
            }
            name
        };
        for line in &step.sources {
            if !line.starts_with("deb ") || line.contains(['\n', '\r']) {
                let hint = "write one line of sources.list(5): deb [OPTIONS] URI SUITE COMPONENT…";
                return Err(failure::image(phase, format!("invalid package source `{line}`"), hint));
            }
            lines.push(line.clone());
        }
        Ok(Self { lines, name })
    }

    /// The repositories of a lock: another host's settings may differ from this one's.
    pub fn locked(step: &BootstrapStep, archive: &LockedArchive, phase: Phase) -> Result<Self, JobFailure> {
        if archive.lines.iter().any(|line| !line.starts_with("deb ") || line.contains(['\n', '\r'])) {
            let hint = "resolve a new lock with `edgewright update`";
            return Err(failure::image(phase, "the lock has an invalid package source", hint));
        }
        let name =
            archive.lines.first().and_then(|line| line.split_whitespace().find(|it| it.contains(":/")));
        let name = name.or(step.mirror.as_deref()).unwrap_or("the archive").to_owned();
        Ok(Self { lines: archive.lines.clone(), name })
    }

    /// What a lock records of these repositories.
    pub(crate) fn to_lock(&self) -> LockedArchive {
        LockedArchive { lines: self.lines.clone(), keyring: self.keyring() }
    }

    /// How this host differs from the one that resolved the lock, in words.
    pub(crate) fn difference(&self, archive: &LockedArchive) -> Option<String> {
        let own = self.keyring();
        let differs = archive.keyring.is_some() && own != archive.keyring;
        let own = own.map_or_else(|| "missing".to_owned(), |own| own.short().to_owned());
        differs.then(|| {
            let locked = archive.keyring.as_ref().map(Digest::short).unwrap_or_default();
            format!("{DEBIAN_KEYRING} of this host is {own}; the lock was verified with {locked}")
        })
    }

    /// Digest of the keyring that lines name.
    fn keyring(&self) -> Option<Digest> {
        let is_named = self.lines.iter().any(|line| line.contains(DEBIAN_KEYRING));
        is_named.then(|| std::fs::read(DEBIAN_KEYRING).ok()).flatten().map(Digest::of)
    }

    /// The lines of `sources.list`.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The mirror, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
}
