//! `[[sink]]`: services that receive events.

use std::path::PathBuf;

use edgewright_control::outbound::notify::{EventMode, SinkKind, event_types};
use edgewright_model::names::SourceName;
use serde::Deserialize;

use super::described::described;
use super::{SettingsError, is_web_address};

/// The longest name of a sink or target, in bytes.
pub(super) const LONGEST_NAME: usize = 63;

described! {
    /// `[[sink]]`.
    #[derive(Clone, PartialEq, Eq, Deserialize)]
    pub struct SinkOptions: "sink" {
        /// A unique name. Undelivered events are stored under it, so do not change it.
        pub name: String { Reload, range: "1 to 63 characters", example: "\"ops\"" }
        /// What the service receives: CloudEvents 1.0, or commit statuses in a forge's API.
        pub kind: SinkKind { Reload }
        /// The address that receives events, or the base URL of the forge's API.
        pub url: String {
            Reload,
            range: "http:// or https://",
            example: "\"https://api.github.com\""
        }
        /// How CloudEvents are laid out: all of an event in the body, or its attributes in headers.
        pub mode: Option<EventMode> { Reload, default: "`\"structured\"`" }
        /// Send only CloudEvents of these types.
        pub types: Option<Vec<String>> { Reload, default: "all", example: "[\"dev.edgewright.verdict.awaited\"]" }
        /// Send only what concerns this source.
        pub source: Option<SourceName> { Reload, default: "all sources; commit statuses need one" }
        /// The repository in the forge, `OWNER/NAME`.
        pub repository: Option<String> {
            Reload,
            default: "none; commit statuses need one",
            example: "\"ops/plant-os\""
        }
        /// File with the token that is sent as `Authorization: Bearer`.
        pub token_file: Option<PathBuf> {
            Reload,
            default: "none: no credentials are sent",
            example: "\"/etc/edgewright/github.token\""
        }
        /// Base URL of the links in commit statuses.
        pub link: Option<String> {
            Reload,
            default: "the server's address",
            example: "\"https://edge.example.org\""
        }
    }
}

/// The URL may contain a token.
impl std::fmt::Debug for SinkOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkOptions")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl SinkOptions {
    /// Finds mistakes without reading files or opening connections.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let invalid = |reason| Err(SettingsError::Sink { name: self.name.clone(), reason });
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || self.name.contains(char::is_control) {
            return invalid("invalid `name`: expected 1 to 63 characters");
        }
        if !is_web_address(&self.url) {
            return invalid("invalid `url`: expected http:// or https://");
        }
        let is_known = |name: &String| event_types().contains(name);
        if !self.types.iter().flatten().all(is_known) {
            return invalid("invalid `types`: expected types of docs/reference/events.md");
        }
        if self.kind != SinkKind::CloudEvents && (self.mode.is_some() || self.types.is_some()) {
            return invalid("`mode` and `types` are for the kind `cloud-events`");
        }
        if self.kind != SinkKind::CloudEvents && (self.source.is_none() || self.repository.is_none()) {
            return invalid("commit statuses need `source` and `repository = \"OWNER/NAME\"`");
        }
        Ok(())
    }

    /// Their names must differ.
    pub(super) fn check_all(sinks: &[Self]) -> Result<(), SettingsError> {
        for (index, sink) in sinks.iter().enumerate() {
            sink.check()?;
            if sinks[..index].iter().any(|other| other.name == sink.name) {
                return Err(SettingsError::DuplicateSink { name: sink.name.clone() });
            }
        }
        Ok(())
    }
}
