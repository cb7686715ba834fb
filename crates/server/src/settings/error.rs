//! Errors of the settings, with hints that show a correct value.

use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use edgewright_source::InvalidSshPath;
use edgewright_source::remote::InvalidRemote;

use super::server::MAX_NICE;
use super::targets::TargetError;
use crate::tls::TlsError;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file has a syntax error, an unknown key or a wrong value; the source names the line.
    #[error("invalid settings file {}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line and the cause.
        #[source]
        source: Box<toml::de::Error>,
        /// What a correct line looks like, if the key is known.
        hint: Option<String>,
    },
    /// A provider whose keys could be replaced on the way.
    #[error("invalid `[access.oidc] issuer` {issuer}: expected https://, or http:// on loopback")]
    Issuer {
        /// Its address.
        issuer: String,
    },
    /// A provider's authority cannot be read.
    #[error("cannot use the provider of `[access.oidc]`")]
    Provider(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No name can be derived from a source's URL.
    #[error("cannot derive a source name from `{url}`")]
    UnnamedSource {
        /// The URL, without credentials.
        url: String,
    },
    /// A source's URL cannot be used.
    #[error("invalid source address")]
    Url(#[from] InvalidRemote),
    /// A source's ssh key or known hosts cannot be used.
    #[error("invalid ssh settings of a source")]
    Ssh(#[from] InvalidSshPath),
    /// Two sources have one name.
    #[error("duplicate source name `{name}`")]
    DuplicateSource {
        /// The name.
        name: SourceName,
    },
    /// `updates` contradicts itself.
    #[error("invalid `updates`: {reason}")]
    Updates {
        /// The cause.
        reason: String,
    },
    /// `[cluster]` is incomplete, or a name in it is invalid.
    #[error("invalid `[cluster]`: {reason}")]
    Cluster {
        /// The cause.
        reason: String,
    },
    /// `locks` contradicts itself.
    #[error("invalid `locks`: {reason}")]
    Locks {
        /// The cause.
        reason: &'static str,
    },
    /// Two sinks have one name.
    #[error("duplicate sink name `{name}`")]
    DuplicateSink {
        /// The name.
        name: String,
    },
    /// A sink's settings cannot be used.
    #[error("invalid sink `{name}`: {reason}")]
    Sink {
        /// The name.
        name: String,
        /// The cause.
        reason: &'static str,
    },
    /// Two targets have one name.
    #[error("duplicate target name `{name}`")]
    DuplicateTarget {
        /// The name.
        name: String,
    },
    /// A target's settings cannot be used.
    #[error("invalid target `{name}`")]
    Target {
        /// The name.
        name: String,
        /// The cause.
        #[source]
        source: Box<TargetError>,
    },
    /// One or two of the three TLS keys are set.
    #[error(
        "incomplete TLS configuration: [server] needs all of `tls_listen`, `tls_certificate_file` and `tls_key_file`"
    )]
    IncompleteTls,
    /// Certificate or key cannot be used.
    #[error("invalid TLS configuration")]
    Tls(#[from] TlsError),
    /// Certificates cannot be read.
    #[error("cannot read the certificates in {}", .path.display())]
    Authority {
        /// Their file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A secret cannot be read.
    #[error("cannot read the secret in {}", .path.display())]
    Secret {
        /// Its file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kernel has no such priority.
    #[error("invalid `jobs.nice` {nice}: expected 0 to {MAX_NICE}")]
    Nice {
        /// As given.
        nice: u8,
    },
    /// Jobs could not reach the registry.
    #[error("invalid `jobs.registry` `{url}`: expected http:// or https://")]
    JobRegistry {
        /// As given.
        url: String,
    },
    /// No job could run.
    #[error("invalid `jobs.parallel` 0: no job could run")]
    NoJobs,
    /// No untrusted job could run.
    #[error("invalid `jobs.untrusted_slots` 0: no job of a pull request could run")]
    NoUntrustedSlots,
}

impl SettingsError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Read { source, .. } | Self::Secret { source, .. } | Self::Authority { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                ErrorClass::NotFound
            }
            _ => ErrorClass::UserFault,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Parse { hint, .. } => return hint.clone(),
            Self::Read { .. } | Self::Authority { .. } => "check the path and its permissions",
            Self::Url(_) => {
                "write `url = \"https://git.example.org/plant-os.git\"`, a path, or an ssh address such as \
                 `git@git.example.org:plants/plant-os.git`"
            }
            Self::UnnamedSource { .. } | Self::DuplicateSource { .. } => {
                "set a unique `name = \"…\"` under its [[source]] in the settings file"
            }
            Self::Nice { .. } => "write `nice = 10`: 0 is the server's own priority, 19 the lowest",
            Self::JobRegistry { .. } => {
                "write `registry = \"https://HOST:PORT\"`, or omit it if jobs run on this machine"
            }
            Self::NoJobs => "write `parallel = 1` or more, or omit it",
            Self::NoUntrustedSlots => {
                "write `untrusted_slots = 1` or more; omit `pull_requests` to run no pull requests"
            }
            Self::Secret { .. } => {
                "write the secret to that file, at least 16 characters on one line, readable by the server"
            }
            Self::DuplicateSink { .. } => "give each [[sink]] a unique name",
            Self::Sink { .. } => {
                "write `name = \"ops\"`, `kind = \"cloud-events\"` and `url = \"https://events.example.org/\"`"
            }
            Self::Cluster { .. } => "see [cluster] in docs/reference/settings.md",
            Self::Locks { .. } => {
                "write `locks = {mode = \"commit\", branch = \"main\", token_file = \"/etc/edgewright/push.token\"}`"
            }
            Self::IncompleteTls => "set all three, or none and let a proxy terminate TLS",
            Self::Tls(_) => {
                "use PEM files: the server's certificate first, then the intermediate ones; and its private key"
            }
            Self::Issuer { .. } => {
                "write `issuer = \"https://id.example.org\"`, as the provider's tokens name it in `iss`"
            }
            Self::Provider(_) => "name a file with certificates in PEM format as `ca_file`, or omit it",
            Self::DuplicateTarget { .. } => "give each [[target]] a unique name",
            Self::Target { .. } => "see [[target]] in docs/reference/settings.md",
            Self::Ssh(_) => "move the file, or link to it from a path without these characters",
            Self::Updates { .. } => {
                "write `every = \"24h\"`, or `at = \"02:00\"` with `zone = \"Europe/Berlin\"`, or `off = true`"
            }
        };
        Some(hint.to_owned())
    }
}
