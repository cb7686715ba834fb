//! Why settings cannot be used, and what to do about it.

use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use edgewright_source::InvalidSshPath;
use edgewright_source::remote::InvalidRemote;

use super::MOST_NICE;
use super::targets::TargetError;
use crate::tls::TlsError;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be; the source shows the line.
    #[error("the settings file {} has an error", .path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// No name can be made from a source's URL.
    #[error("no source name can be made from `{url}`")]
    Unnamed {
        /// The URL, without credentials.
        url: String,
    },
    /// A source's URL is none.
    #[error("the address of a source cannot be used")]
    Url(#[from] InvalidRemote),
    /// A source's key or known hosts cannot be used.
    #[error("the ssh settings of a source cannot be used")]
    Ssh(#[from] InvalidSshPath),
    /// Two sources have one name.
    #[error("two sources are called `{name}`")]
    Duplicate {
        /// The name.
        name: SourceName,
    },
    /// `watch` cannot be followed.
    #[error("`watch`: {why}")]
    Watch {
        /// What is wrong.
        why: String,
    },
    /// `locks` cannot be followed.
    #[error("`locks`: {why}")]
    Locks {
        /// What is wrong.
        why: &'static str,
    },
    /// Two sinks have one name.
    #[error("two sinks are called `{name}`")]
    DuplicateSink {
        /// The name.
        name: String,
    },
    /// A sink cannot work as it is.
    #[error("sink `{name}`: {why}")]
    Sink {
        /// The name.
        name: String,
        /// What is missing.
        why: &'static str,
    },
    /// Two targets have one name.
    #[error("two targets are called `{name}`")]
    DuplicateTarget {
        /// The name.
        name: String,
    },
    /// A target cannot work as it is.
    #[error("target `{name}`")]
    Target {
        /// The name.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<TargetError>,
    },
    /// TLS is half configured.
    #[error("TLS wants all of `tls_listen`, `tls_certificate_file` and `tls_key_file` of [server]")]
    HalfTls,
    /// TLS cannot be spoken.
    #[error("there is no TLS")]
    Tls(#[from] TlsError),
    /// Certificates cannot be read.
    #[error("cannot read the certificates in {}", .path.display())]
    Authority {
        /// Their file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A secret cannot be read.
    #[error("cannot read the secret in {}", .path.display())]
    Secret {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No priority of the system.
    #[error("`jobs.nice` is {nice}: want 0 to {MOST_NICE}")]
    Nice {
        /// As given.
        nice: u8,
    },
    /// No job could reach the registry.
    #[error("invalid `jobs.registry` `{url}`: it is neither http:// nor https://")]
    JobRegistry {
        /// As given.
        url: String,
    },
    /// No job could ever run.
    #[error("`jobs.parallel` is 0: nothing would ever be built")]
    NoJobs,
}

impl SettingsError {
    /// What kind of fault it is.
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
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unnamed { .. } | Self::Duplicate { .. } => {
                Some("give it one: `name = \"…\"` under its [[source]] in the settings file")
            }
            Self::Nice { .. } => Some("0 is the server's own priority, 19 the lowest; 10 is the default"),
            Self::JobRegistry { .. } => Some(
                "write it as `registry = \"https://HOST:PORT\"`, or leave it out for jobs on this machine",
            ),
            Self::NoJobs => Some("write 1 or more, or leave it out"),
            Self::Secret { .. } => Some(
                "write the secret, at least 16 characters on one line, into that file, readable by the server",
            ),
            Self::DuplicateSink { .. } => Some("give each [[sink]] a name of its own"),
            Self::Locks { .. } => Some(
                "such as `locks = {mode = \"commit\", branch = \"main\", token_file = \"/etc/edgewright/push\"}`",
            ),
            Self::HalfTls => {
                Some("give all three, or none and let a proxy speak TLS: docs/serving.md, \"TLS\"")
            }
            Self::Tls(_) => Some(
                "want PEM files: the server's certificate first, then those up to its authority; and its key",
            ),
            Self::DuplicateTarget { .. } => Some("give each [[target]] a name of its own"),
            Self::Target { .. } => {
                Some("docs/serving.md, \"Registries of others\", shows what a [[target]] may say")
            }
            Self::Ssh(_) => Some("move the file, or link to it from a path without other characters"),
            Self::Read { .. }
            | Self::Parse { .. }
            | Self::Url(_)
            | Self::Sink { .. }
            | Self::Authority { .. } => None,
            Self::Watch { .. } => Some(
                "such as `every = \"24h\"`, or `at = \"02:00\"` with `zone = \"Europe/Berlin\"`, or `off = true`",
            ),
        }
    }
}
