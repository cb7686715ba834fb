//! What may change while the server runs: sources, the operator's token, secrets, sinks, targets. Read from files at the
//! start and again on SIGHUP.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use edgewright_api::RegistryAddress;
use edgewright_control::SourceSettings;
use edgewright_control::outbound::notify::Sink;
use edgewright_control::outbound::replicate::Target;
use edgewright_model::names::SourceName;
use edgewright_registry::AccessToken;

use crate::settings::targets::TargetOptions;
use crate::settings::{Secret, Settings, SettingsError, SinkOptions};
use crate::tokens;

/// What may change while the server runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// The operator's token.
    pub operator: AccessToken,
    /// Whether reading needs no token.
    pub anonymous: bool,
    /// The secrets of webhooks, by source.
    pub hooks: BTreeMap<SourceName, Secret>,
    /// Who is told of what happens.
    pub sinks: Vec<Sink>,
    /// Registries of others that get what channels hold.
    pub targets: Vec<Target>,
    /// The sources that are followed.
    pub sources: Vec<SourceSettings>,
}

impl Live {
    /// Reads all secrets. `address` is where links lead unless a sink says otherwise.
    pub fn read(settings: &Settings, address: &RegistryAddress) -> Result<Self, SettingsError> {
        let operator = tokens::operator_token(settings)?;
        let mut hooks = BTreeMap::new();
        for (source, file) in &settings.hook_secret_files {
            hooks.insert(source.clone(), Secret::read(file)?);
        }
        let sinks = settings.sinks.iter().map(|options| sink(options, address)).collect::<Result<_, _>>()?;
        let targets = settings.targets.iter().map(TargetOptions::read).collect::<Result<_, _>>()?;
        Ok(Self {
            operator: AccessToken::new(operator.reveal()),
            anonymous: settings.anonymous,
            hooks,
            sinks,
            targets,
            sources: settings.sources.clone(),
        })
    }
}

fn sink(options: &SinkOptions, address: &RegistryAddress) -> Result<Sink, SettingsError> {
    let token = options.token_file.as_deref().map(Secret::read_any).transpose()?;
    Ok(Sink {
        name: options.name.clone(),
        kind: options.kind,
        url: options.url.trim_end_matches('/').to_owned(),
        source: options.source.clone(),
        repository: options.repository.clone(),
        token: token.map(|token| token.reveal().to_owned()),
        link: options.link.clone().unwrap_or_else(|| address.url()),
    })
}

/// [`Live`], shared by those who read it at every use.
#[derive(Debug, Clone)]
pub struct Shared(Arc<RwLock<Arc<Live>>>);

impl Shared {
    /// Starts with a value.
    pub fn new(live: Live) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(live))))
    }

    /// As it is now.
    pub fn now(&self) -> Arc<Live> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the place of what was.
    pub fn replace(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_one_long_line_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (text, good) in [("0123456789abcdef\n", true), ("short\n", false), ("two words in here", false)] {
            std::fs::write(&path, text).unwrap();
            let secret = Secret::read(&path);
            assert_eq!(secret.is_ok(), good, "{text}");
            assert!(!format!("{secret:?}").contains(text.trim()), "{secret:?}");
        }
        assert!(Secret::read(&folder.path().join("none")).is_err());
    }
}
