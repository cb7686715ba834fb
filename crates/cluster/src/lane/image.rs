//! What an image starts as process 1: its config in the registry.

use std::collections::BTreeMap;

use edgewright_job::ExecutorError;
use edgewright_lab::machine::StartCommand;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_oci::{Client, image};
use serde::Deserialize;

/// The longest config of an image, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;
/// The init of images that name no command.
const DEFAULT_INIT: &str = "/sbin/init";

/// The part of an image's config that determines process 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Start {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    config: Option<Start>,
}

impl Start {
    /// Reads it from the registry.
    pub(crate) async fn read(client: &Client, manifest: &ManifestRef) -> Result<Self, ExecutorError> {
        let ManifestRef { repository, digest } = manifest;
        let failed = |error: &(dyn std::error::Error + 'static), hint| ExecutorError::Platform {
            message: format!("cannot read the config of {repository}@{digest}: {}", Chain(error)),
            hint,
            output: Vec::new(),
        };
        let pulled = client.pull_manifest(repository, &Reference::Digest(digest.clone())).await;
        let pulled = pulled.map_err(|error| failed(&error, error.hint()))?;
        let config = image::config(&pulled.bytes).map_err(|error| failed(&error, None))?;
        let bytes = client.pull_blob_bytes(repository, &config.digest, CONFIG_LIMIT).await;
        let bytes = bytes.map_err(|error| failed(&error, error.hint()))?;
        let config: Config = serde_json::from_slice(&bytes).map_err(|error| failed(&error, None))?;
        Ok(config.config.unwrap_or_default())
    }

    /// The words of process 1.
    pub(crate) fn command(&self) -> Vec<String> {
        let words: Vec<String> =
            [&self.entrypoint, &self.cmd].into_iter().flatten().flatten().cloned().collect();
        if words.is_empty() { vec![DEFAULT_INIT.to_owned()] } else { words }
    }

    /// Its user, as the image names it; none for root.
    pub(crate) fn user(&self) -> Option<&str> {
        let user = self.user.as_deref().unwrap_or_default();
        let name = user.split(':').next().unwrap_or_default();
        (!matches!(name, "" | "root" | "0")).then_some(user)
    }

    /// The image's labels.
    pub(crate) fn labels(self) -> BTreeMap<String, String> {
        self.labels.unwrap_or_default()
    }

    /// For messages.
    pub(crate) fn described(&self) -> StartCommand {
        StartCommand { command: self.command().join(" "), user: self.user().map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_1_is_entrypoint_and_cmd() {
        let start = |json: &str| -> Start {
            serde_json::from_str::<Config>(json).unwrap().config.unwrap_or_default()
        };
        let both = start(r#"{"config":{"Entrypoint":["/init"],"Cmd":["--x"],"User":"app:plant"}}"#);
        assert_eq!(
            (both.command(), both.user()),
            (vec!["/init".to_owned(), "--x".to_owned()], Some("app:plant"))
        );
        for json in ["{}", r#"{"config":null}"#, r#"{"config":{"Cmd":null,"User":"0:0"}}"#] {
            assert_eq!((start(json).command(), start(json).user()), (vec!["/sbin/init".to_owned()], None));
        }
    }
}
