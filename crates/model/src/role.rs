//! Roles of users: what a grant permits, and where.
//!
//! A grant is one role in one scope. Its text form is the same in settings, on the command line, in the
//! database and in the mapping of claims: `viewer`, `operator:source=plants`,
//! `approver:channel=stable,site=plant-*`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::glob::Glob;
use crate::names::{ChannelName, InvalidName, SourceName};

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Read.
    Read,
    /// Change what is built, tested and released.
    Operate,
    /// Approve what others have ordered.
    Approve,
    /// Manage users.
    Administer,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 4] = [Self::Read, Self::Operate, Self::Approve, Self::Administer];

    /// The role that is named for it: the least one that has it.
    pub const fn role(self) -> Role {
        match self {
            Self::Read => Role::Viewer,
            Self::Operate => Role::Operator,
            Self::Approve => Role::Approver,
            Self::Administer => Role::Admin,
        }
    }
}

/// A role of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and changes what is built, tested and released; approves nothing.
    Operator,
    /// Reads and approves; changes nothing else.
    Approver,
    /// Everything, users included.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Whether it has a permission.
    pub const fn has(self, permission: Permission) -> bool {
        match self {
            Self::Viewer => matches!(permission, Permission::Read),
            Self::Operator => matches!(permission, Permission::Read | Permission::Operate),
            Self::Approver => matches!(permission, Permission::Read | Permission::Approve),
            Self::Admin => true,
        }
    }
}

/// What an operation is about. What is absent is not known, or there is more than one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The source.
    pub source: Option<&'a SourceName>,
    /// The site.
    pub site: Option<&'a str>,
    /// The image.
    pub image: Option<&'a str>,
    /// The channel.
    pub channel: Option<&'a ChannelName>,
}

impl<'a> From<Option<&'a SourceName>> for Scope<'a> {
    fn from(source: Option<&'a SourceName>) -> Self {
        Self { source, ..Self::default() }
    }
}

/// A role and where it applies. A part of the scope that it names must be known of the operation, and match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    role: Role,
    limits: Vec<(Part, String, Glob)>,
}

/// A part of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Source,
    Site,
    Image,
    Channel,
}

impl Part {
    const ALL: [Self; 4] = [Self::Source, Self::Site, Self::Image, Self::Channel];

    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Site => "site",
            Self::Image => "image",
            Self::Channel => "channel",
        }
    }

    fn of<'a>(self, scope: &Scope<'a>) -> Option<&'a str> {
        match self {
            Self::Source => scope.source.map(SourceName::as_str),
            Self::Site => scope.site,
            Self::Image => scope.image,
            Self::Channel => scope.channel.map(ChannelName::as_str),
        }
    }
}

impl Grant {
    /// Of a role, everywhere.
    pub const fn everywhere(role: Role) -> Self {
        Self { role, limits: Vec::new() }
    }

    /// Its role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether it permits something in a scope.
    pub fn permits(&self, permission: Permission, scope: &Scope<'_>) -> bool {
        let covers =
            |(part, _, glob): &(Part, String, Glob)| part.of(scope).is_some_and(|name| glob.matches(name));
        self.role.has(permission) && self.limits.iter().all(covers)
    }
}

const GRANT_RULE: &str = "want ROLE or ROLE:PART=PATTERN,… with viewer, operator, approver or admin, and source, site, image or channel";

impl FromStr for Grant {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("grant", GRANT_RULE, text);
        let (role, limits) = match text.split_once(':') {
            Some((role, limits)) => (role, limits.split(',').collect()),
            None => (text, Vec::new()),
        };
        let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or_else(invalid)?;
        let limit = |text: &str| {
            let (part, pattern) = text.split_once('=')?;
            let part = Part::ALL.into_iter().find(|known| known.name() == part)?;
            let is_text = !pattern.is_empty() && !pattern.contains(char::is_whitespace);
            is_text.then_some((part, pattern.to_owned(), Glob::new(pattern).ok()?))
        };
        let mut found: Vec<(Part, String, Glob)> = Vec::new();
        for text in limits {
            let limit = limit(text).ok_or_else(invalid)?;
            if found.iter().any(|(part, ..)| *part == limit.0) {
                return Err(invalid());
            }
            found.push(limit);
        }
        Ok(Self { role, limits: found })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role.name())?;
        for (index, (part, pattern, _)) in self.limits.iter().enumerate() {
            let separator = if index == 0 { ':' } else { ',' };
            write!(f, "{separator}{}={pattern}", part.name())?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Grant {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_back_and_invalid_ones_are_errors() {
        for text in ["viewer", "operator:source=plants", "approver:channel=stable,site=plant-*", "admin"] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "root",
            "viewer:",
            "viewer:source",
            "viewer:source=",
            "viewer:color=red",
            "viewer:site=[",
            "viewer:site=a,site=b",
            "viewer,operator",
            "viewer:site=a b",
        ] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_grant_permits_what_its_role_has_where_its_scope_is() {
        let (plants, tools): (SourceName, SourceName) = ("plants".parse().unwrap(), "tools".parse().unwrap());
        let stable: ChannelName = "stable".parse().unwrap();
        let of = |source| Scope { source: Some(source), ..Scope::default() };
        let on_stable = Scope { channel: Some(&stable), ..of(&plants) };
        let at = |site| Scope { site: Some(site), ..of(&plants) };
        // (grant, permission, scope, whether it is permitted)
        for (grant, permission, scope, expected) in [
            ("viewer", Permission::Read, Scope::default(), true),
            ("viewer", Permission::Operate, of(&plants), false),
            ("operator", Permission::Operate, Scope::default(), true),
            ("operator", Permission::Approve, of(&plants), false),
            ("approver", Permission::Approve, of(&plants), true),
            ("approver", Permission::Operate, of(&plants), false),
            ("admin", Permission::Administer, Scope::default(), true),
            ("admin", Permission::Approve, of(&plants), true),
            ("operator:source=plants", Permission::Operate, of(&plants), true),
            ("operator:source=plants", Permission::Operate, of(&tools), false),
            // What is not known of an operation is not covered by a limit.
            ("operator:source=plants", Permission::Operate, Scope::default(), false),
            ("admin:source=plants", Permission::Administer, Scope::default(), false),
            ("operator:source=p*,channel=stable", Permission::Operate, on_stable, true),
            ("operator:source=p*,channel=beta", Permission::Operate, on_stable, false),
            ("operator:channel=stable", Permission::Operate, of(&plants), false),
            ("operator:site=plant-?", Permission::Operate, at("plant-a"), true),
            ("operator:site=plant-?", Permission::Operate, at("plant-10"), false),
        ] {
            let parsed: Grant = grant.parse().unwrap();
            assert_eq!(parsed.permits(permission, &scope), expected, "{grant} {permission:?} {scope:?}");
        }
    }
}
