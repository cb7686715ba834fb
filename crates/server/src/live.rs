//! Settings that change while the server runs: sources, the operator's token, secrets, sinks, targets. They
//! are read from files at the start and on SIGHUP.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use edgewright_api::RegistryAddress;
use edgewright_control::SourceSettings;
use edgewright_control::outbound::notify::Sink;
use edgewright_control::outbound::replicate::Target;
use edgewright_model::names::SourceName;
use edgewright_registry::AccessToken;

use crate::oidc::Provider;
use crate::settings::targets::TargetOptions;
use crate::settings::{Secret, Settings, SettingsError, SinkOptions};
use crate::tokens;

/// Settings that change while the server runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// The operator's token.
    pub operator: AccessToken,
    /// The token for reports of devices.
    pub reports: AccessToken,
    /// Whether clients may read without a token.
    pub anonymous: bool,
    /// The provider with which users log in.
    pub provider: Option<Provider>,
    /// The secrets of webhooks, by source.
    pub hooks: BTreeMap<SourceName, Secret>,
    /// Receivers of events.
    pub sinks: Vec<Sink>,
    /// External registries that receive copies.
    pub targets: Vec<Target>,
    /// The configured sources.
    pub sources: Vec<SourceSettings>,
}

impl Live {
    /// Reads all secrets. `address` is the base of links, unless a sink sets another one.
    pub fn read(settings: &Settings, address: &RegistryAddress) -> Result<Self, SettingsError> {
        let mut hooks = BTreeMap::new();
        for (source, file) in &settings.hook_secret_files {
            hooks.insert(source.clone(), Secret::read(file)?);
        }
        let sinks = settings.sinks.iter().map(|options| sink(options, address)).collect::<Result<_, _>>()?;
        let targets = settings.targets.iter().map(TargetOptions::read).collect::<Result<_, _>>()?;
        let provider = settings.oidc.clone().map(Provider::new).transpose();
        let provider = provider.map_err(|error| SettingsError::Provider(Box::new(error)))?;
        // Last: it may be generated, and nothing is if another part is invalid.
        let operator = tokens::operator_token(settings)?;
        let reports = tokens::report_token(&settings.report_token_file())?;
        Ok(Self {
            operator: AccessToken::new(operator.reveal()),
            reports: AccessToken::new(reports.reveal()),
            anonymous: settings.anonymous,
            provider,
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
        mode: options.mode.unwrap_or_default(),
        types: options.types.clone().unwrap_or_default(),
        source: options.source.clone(),
        repository: options.repository.clone(),
        token: token.map(|token| token.reveal().to_owned()),
        link: options.link.clone().unwrap_or_else(|| address.url()),
    })
}

/// [`Live`], shared by components that read it at every use.
#[derive(Debug, Clone)]
pub struct Shared(Arc<RwLock<Arc<Live>>>);

impl Shared {
    /// Wraps a first value.
    pub fn new(live: Live) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(live))))
    }

    /// The current value.
    pub fn now(&self) -> Arc<Live> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value.
    pub fn replace(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_one_line_of_at_least_16_characters_and_never_printed() {
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
