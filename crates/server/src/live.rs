//! What may change while the server runs: sources, the operator's token, secrets, sinks, targets. Read from files at the
//! start and again on SIGHUP.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use edgewright_api::RegistryAddress;
use edgewright_control::SourceSettings;
use edgewright_control::notify::Sink;
use edgewright_control::targets::Target;
use edgewright_model::names::SourceName;
use edgewright_registry::AccessToken;

use crate::composition::url;
use crate::settings::{Settings, SettingsError, SinkOptions};
use crate::targets::TargetOptions;

/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;
/// A file of secrets is not longer: tokens that say much of themselves have some KiB.
const LONGEST_SECRET: u64 = 16 * 1024;

/// A secret that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// Reads a file with one line: a secret of ours, which nobody should guess.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        Self::read_of(path, SHORTEST_SECRET)
    }

    /// As [`Secret::read`], for a secret that others made: it is as it is.
    pub fn read_any(path: &Path) -> Result<Self, SettingsError> {
        Self::read_of(path, 1)
    }

    fn read_of(path: &Path, shortest: usize) -> Result<Self, SettingsError> {
        use std::io::Read as _;
        let fail = |source| SettingsError::Secret { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(LONGEST_SECRET).read_to_string(&mut text).map_err(fail)?;
        let secret = text.trim();
        if secret.len() < shortest || secret.contains(char::is_whitespace) {
            let why = format!("want at least {shortest} characters on one line");
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, why)));
        }
        Ok(Self(secret.to_owned()))
    }

    /// The secret itself: for sending and comparing only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

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
        let operator = settings.operator_token()?;
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
        link: options.link.clone().unwrap_or_else(|| url(address)),
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
