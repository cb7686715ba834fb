//! Errors of registries.

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is invalid.
    #[error("invalid registry address `{url}`: expected http://HOST[:PORT] or https://HOST[:PORT]")]
    Address {
        /// The given text.
        url: String,
    },
    /// The file of the registry's certificate authority has no certificate.
    #[error("invalid certificate authority for {registry}: the file has no PEM certificate")]
    Authority {
        /// Host and port.
        registry: String,
    },
    /// No connection, or it failed too often.
    #[error("cannot reach the registry {registry} for {what}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// Not found.
    #[error("{registry} has no {what}")]
    NotFound {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
    },
    /// Access denied.
    #[error("{registry} denied access to {what}{detail}")]
    Denied {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// The registry's message with a leading colon, or empty.
        detail: String,
    },
    /// Any other response than success.
    #[error("{registry} responded with {status} to {what}{detail}")]
    Status {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// The status.
        status: u16,
        /// The registry's message with a leading colon, or empty.
        detail: String,
    },
    /// The received bytes have another digest.
    #[error("{registry} sent wrong content for {what}: its digest is {actual}")]
    Corrupt {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// The digest of the received bytes.
        actual: Digest,
    },
    /// The connection broke on every attempt.
    #[error("the connection to {registry} broke during {what} after {done} bytes, {attempts} times")]
    BrokenOff {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// Number of received bytes.
        done: u64,
        /// Number of attempts.
        attempts: u32,
    },
    /// Larger than the caller's limit.
    #[error("{what} of {registry} is larger than {limit} bytes")]
    TooLarge {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A response that violates the protocol.
    #[error("unexpected response from {registry} to {what}: {problem}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// The requested object or operation.
        what: String,
        /// What is wrong with the response.
        problem: String,
    },
    /// A local file cannot be read or written.
    #[error("{what} failed locally")]
    Local {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl ClientError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Denied { .. } => ErrorClass::Denied,
            Self::Status { status: 409 | 412 | 416, .. } => ErrorClass::Conflict,
            Self::Status { status: 408 | 429 | 500.., .. }
            | Self::Unreachable { .. }
            | Self::Corrupt { .. }
            | Self::BrokenOff { .. }
            | Self::Protocol { .. }
            | Self::Local { .. } => ErrorClass::Unavailable,
            Self::Address { .. } | Self::Authority { .. } | Self::Status { .. } | Self::TooLarge { .. } => {
                ErrorClass::UserFault
            }
        }
    }

    /// The next action, if it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { registry, .. } => Some(format!(
                "check that {registry} is up and reachable from this machine: `curl -I {registry}/v2/`"
            )),
            Self::Denied { registry, .. } => Some(format!(
                "set credentials for {registry} that allow this (auth.json, or the token of the order)"
            )),
            Self::NotFound { .. } => {
                Some("check the repository's name and the digest; it may have been deleted".to_owned())
            }
            Self::Status { status: 429, .. } => Some(
                "set credentials, or try again later: the registry limits the rate of requests".to_owned(),
            ),
            Self::Corrupt { registry, .. } => Some(format!(
                "try again, then verify the content of {registry}: the registry or a proxy damages content"
            )),
            _ => None,
        }
    }

    /// Whether the thing asked for does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
