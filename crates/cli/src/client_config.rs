//! The client's configuration: the server that commands use when neither flag nor variable names one.
//!
//! `~/.config/edgewright/client.toml` holds `server`, `token_file` and `ca_file`. The token and the
//! authorities belong to that server: they are not used for another one.

use std::path::{Path, PathBuf};

use edgewright_model::error::ErrorClass;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// The keys of the file.
pub(crate) const KEYS: [&str; 3] = ["server", "token_file", "ca_file"];

/// The end of `edgewright config --help`.
pub(crate) const HELP: &str = "\
Examples:
  edgewright config set server https://edgewright.example.org:5443
  edgewright config set token_file ~/.config/edgewright/token
  edgewright config set ca_file /usr/local/share/ca-certificates/plant.crt
  edgewright config show

The file is ~/.config/edgewright/client.toml. Flags and environment variables win over it, and `--data` over its server.";

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientConfig {
    /// URL of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// File with the operator's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with certificate authorities (PEM), besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl ClientConfig {
    /// Reads a file; one that does not exist sets nothing.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::file("cannot read", path, &error)),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let message = format!("invalid client configuration {}: {}", path.display(), error.message());
            Failure::new(ErrorClass::UserFault, message)
                .hint(format!("its keys are {}; see `edgewright config --help`", KEYS.join(", ")))
        })
    }

    /// Writes the file, readable by its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        use std::os::unix::fs::OpenOptionsExt as _;

        let text = toml::to_string(self)
            .map_err(|error| Failure::new(ErrorClass::Bug, format!("cannot write TOML: {error}")))?;
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot create", folder, &error))?;
        // Complete or not at all: other commands may read it now.
        let partial = path.with_extension("toml.new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&partial)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .and_then(|()| std::fs::rename(&partial, path))
            .map_err(|error| Failure::file("cannot write", path, &error))
    }

    /// Sets or removes a value.
    pub(crate) fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), Failure> {
        let path = || value.map(|value| std::path::absolute(value).unwrap_or_else(|_| value.into()));
        match key {
            "server" => {
                if let Some(url) = value {
                    edgewright_api::Client::new(url)?;
                }
                self.server = value.map(str::to_owned);
            }
            "token_file" => self.token_file = path(),
            "ca_file" => self.ca_file = path(),
            _ => {
                return Err(Failure::user(format!(
                    "unknown key `{key}`: expected one of {}",
                    KEYS.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// The values that are set, by key.
    pub(crate) fn values(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let values = [self.server.clone(), path(&self.token_file), path(&self.ca_file)];
        KEYS.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgewright/client.toml");
        assert_eq!(ClientConfig::read(&path).unwrap(), ClientConfig::default());
        let mut config = ClientConfig::default();
        config.set("server", Some("https://edge.example.org:5443")).unwrap();
        config.set("ca_file", Some("/etc/ca.pem")).unwrap();
        config.write(&path).unwrap();
        let read = ClientConfig::read(&path).unwrap();
        assert_eq!(read, config);
        let values =
            [("server", "https://edge.example.org:5443".to_owned()), ("ca_file", "/etc/ca.pem".to_owned())];
        assert_eq!(read.values(), values);
        config.set("ca_file", None).unwrap();
        assert_eq!(config.values().len(), 1);
    }

    #[test]
    fn invalid_values_are_errors() {
        let mut config = ClientConfig::default();
        assert!(config.set("server", Some("edge.example.org")).is_err());
        assert!(config.set("color", Some("red")).is_err());
        let failure = ClientConfig::parse("servr = \"x\"", Path::new("/c.toml")).unwrap_err();
        assert!(failure.to_string().contains("invalid client configuration /c.toml: unknown field `servr`"));
    }
}
