//! Principals: who acts. Every request and every operation has exactly one; nothing is allowed because of an
//! address.
//!
//! A principal has a kind, by which the access tables decide, and a stable text form for logs and the audit
//! trail: `anonymous`, `operator:token`, `user:anna`, `job:0192…`, `hook:plants`, `system:control`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::grants::Grants;
use crate::names::{DeviceId, InvalidName, SourceName};
use crate::order::JobId;
use crate::role::Grant;

/// The kind of a principal: the columns of the access tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// Anyone who reaches the server and presents no credentials.
    Anonymous,
    /// The holder of the operator's token, or the person whose command works on the data folder itself.
    Operator,
    /// A person or a program with roles.
    User,
    /// A job, by the token that it was given for as long as it runs.
    Job,
    /// A forge that proves that it knows a source's webhook secret.
    Hook,
    /// A device, by its credential; or one that is not enrolled, by the shared token for reports.
    Device,
    /// A part of the server: its reconcilers, control's own writes to the registry.
    System,
}

impl PrincipalKind {
    /// Every kind, in the order of the access tables.
    pub const ALL: [Self; 7] =
        [Self::Anonymous, Self::Operator, Self::User, Self::Job, Self::Hook, Self::Device, Self::System];

    /// Its name in text forms and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Operator => "operator",
            Self::User => "user",
            Self::Job => "job",
            Self::Hook => "hook",
            Self::Device => "device",
            Self::System => "system",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// No credentials were presented.
    Anonymous,
    /// The operator.
    Operator {
        /// How the operator proved it: `token` for the server's token, `command` for a command on the data
        /// folder itself.
        name: &'static str,
    },
    /// A user, by a token of this server, or of the provider that it trusts.
    User {
        /// The name: of a local user without `@`, of the provider with.
        name: Arc<str>,
        /// What the user may do, and where.
        grants: Arc<[Grant]>,
    },
    /// A job that runs now.
    Job {
        /// Its id.
        id: JobId,
        /// What its order needs.
        grants: Arc<Grants>,
    },
    /// A forge with the right secret.
    Hook {
        /// The source whose secret it is.
        source: SourceName,
    },
    /// A device.
    Device {
        /// Its id, by its own credential. None: by the token that devices share until they are enrolled.
        id: Option<DeviceId>,
    },
    /// A part of the server.
    System {
        /// Which one, such as `control`.
        component: &'static str,
    },
}

impl Principal {
    /// Its kind.
    pub const fn kind(&self) -> PrincipalKind {
        match self {
            Self::Anonymous => PrincipalKind::Anonymous,
            Self::Operator { .. } => PrincipalKind::Operator,
            Self::User { .. } => PrincipalKind::User,
            Self::Job { .. } => PrincipalKind::Job,
            Self::Hook { .. } => PrincipalKind::Hook,
            Self::Device { .. } => PrincipalKind::Device,
            Self::System { .. } => PrincipalKind::System,
        }
    }

    /// Its identity, without what it may do: for logs and the audit trail.
    pub fn id(&self) -> PrincipalId {
        let name = match self {
            Self::Anonymous => None,
            Self::Operator { name } => Some((*name).to_owned()),
            Self::User { name, .. } => Some(name.to_string()),
            Self::Device { id } => Some(id.as_ref().map_or_else(|| "token".to_owned(), ToString::to_string)),
            Self::Job { id, .. } => Some(id.to_string()),
            Self::Hook { source } => Some(source.to_string()),
            Self::System { component } => Some((*component).to_owned()),
        };
        PrincipalId { kind: self.kind(), name }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

/// The longest name of a principal, in bytes.
const LONGEST_NAME: usize = 128;

/// Whether a text can be the name of a principal.
pub fn is_principal_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@+|".contains(&b))
}

const ID_RULE: &str = "want `anonymous`, or KIND:NAME with operator, user, job, hook, device or system and a name of letters, digits and `-_.@+|`";

/// A principal's identity as it is stored: `KIND:NAME`, or `anonymous`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalId {
    kind: PrincipalKind,
    name: Option<String>,
}

impl PrincipalId {
    /// The kind of the principal.
    pub const fn kind(&self) -> PrincipalKind {
        self.kind
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => f.write_str(self.kind.name()),
            Some(name) => write!(f, "{}:{name}", self.kind.name()),
        }
    }
}

impl FromStr for PrincipalId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("principal", ID_RULE, text);
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        let kind = PrincipalKind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(invalid)?;
        match name {
            None if kind == PrincipalKind::Anonymous => Ok(Self { kind, name: None }),
            Some(name) if kind != PrincipalKind::Anonymous && is_principal_name(name) => {
                Ok(Self { kind, name: Some(name.to_owned()) })
            }
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for PrincipalId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<PrincipalId> for String {
    fn from(id: PrincipalId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principals() -> [(Principal, &'static str); 7] {
        let job = JobId(uuid::Uuid::from_u128(7));
        [
            (Principal::Anonymous, "anonymous"),
            (Principal::Operator { name: "token" }, "operator:token"),
            (Principal::User { name: "anna@example.org".into(), grants: [].into() }, "user:anna@example.org"),
            (Principal::Job { id: job, grants: Arc::default() }, "job:00000000-0000-0000-0000-000000000007"),
            (Principal::Hook { source: "plant-os".parse().unwrap() }, "hook:plant-os"),
            (Principal::Device { id: None }, "device:token"),
            (Principal::System { component: "control" }, "system:control"),
        ]
    }

    #[test]
    fn every_principal_has_a_text_form_that_reads_back() {
        for ((principal, text), kind) in principals().into_iter().zip(PrincipalKind::ALL) {
            assert_eq!((principal.kind(), principal.to_string().as_str()), (kind, text));
            assert_eq!(text.parse::<PrincipalId>(), Ok(principal.id()));
            assert_eq!(serde_json::to_value(principal.id()).unwrap(), text);
        }
    }

    #[test]
    fn an_enrolled_device_is_named_by_its_id() {
        let device = Principal::Device { id: Some("dev-1".parse().unwrap()) };
        assert_eq!(device.to_string(), "device:dev-1");
    }

    #[test]
    fn other_texts_are_no_principals() {
        for text in ["", "root", "operator", "operator:", "anonymous:x", "job:a b", "job:\u{1b}[0m", "Hook:a"]
        {
            assert!(text.parse::<PrincipalId>().is_err(), "{text}");
        }
        assert!(format!("hook:{}", "a".repeat(129)).parse::<PrincipalId>().is_err());
    }
}
