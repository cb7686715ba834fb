//! What can go wrong with a registry.

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("`{url}` is not a registry's address: want http://HOST[:PORT] or https://HOST[:PORT]")]
    Address {
        /// What was given.
        url: String,
    },
    /// No certificate in what should hold the registry's authority.
    #[error("there is no certificate (PEM) for {registry} in the file of its authority")]
    Authority {
        /// Host and port.
        registry: String,
    },
    /// No connection, or it broke too often.
    #[error("the registry {registry} could not be reached for {what}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Not there.
    #[error("{registry} has no {what}")]
    NotFound {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
    },
    /// Not allowed.
    #[error("{registry} refuses {what}{detail}")]
    Denied {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// The registry's own words, with a leading colon, or nothing.
        detail: String,
    },
    /// Any other answer than success.
    #[error("{registry} answered {status} to {what}{detail}")]
    Status {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
        /// The registry's own words, with a leading colon, or nothing.
        detail: String,
    },
    /// The bytes are not the ones asked for.
    #[error("{registry} sent other bytes than asked for as {what}: their digest is {actual}")]
    Corrupt {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// The digest of what came.
        actual: Digest,
    },
    /// The connection ended early again and again.
    #[error("{registry} broke off {what} after {done} bytes, {attempts} times")]
    BrokenOff {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// Bytes that came.
        done: u64,
        /// How often it was tried.
        attempts: u32,
    },
    /// More than the caller can take.
    #[error("{what} of {registry} is larger than {limit} bytes")]
    TooLarge {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// An answer that makes no sense.
    #[error("{registry} answered {what} with {problem}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Reading or writing here failed.
    #[error("{what} failed on this side")]
    Local {
        /// What was done.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl ClientError {
    /// Its class.
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

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { registry, .. } => Some(format!(
                "check that {registry} is up and reachable from this machine: `curl -I {registry}/v2/`"
            )),
            Self::Denied { registry, .. } => Some(format!(
                "give credentials for {registry} that may do this (auth.json, or the token of the order)"
            )),
            Self::NotFound { .. } => {
                Some("check the repository's name and the digest; it may have been deleted there".to_owned())
            }
            Self::Status { status: 429, .. } => {
                Some("the registry limits the rate of requests: sign in, or try again later".to_owned())
            }
            Self::Corrupt { registry, .. } => Some(format!(
                "{registry} or a proxy on the way damages content: try again, then scrub the registry"
            )),
            _ => None,
        }
    }

    /// Whether the thing asked for does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
