//! Names: newtypes that are parsed once, at the edge, and never travel as plain strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{text}`: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

impl InvalidName {
    pub(crate) fn new(kind: &'static str, rule: &'static str, text: &str) -> Self {
        Self { kind, rule, text: text.chars().take(160).collect() }
    }

    /// The kind of name that was expected, such as `image name`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The rule that the text breaks, for a hint.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}

/// One path component of an OCI repository name, and so safe as folder, DNS label and container name.
const COMPONENT_RULE: &str = "use 1 to 63 of a-z, 0-9, with single `-`, `_` or `.` between them";

fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && alnum(bytes[0])
        && alnum(bytes[bytes.len() - 1])
        && bytes.iter().all(|&b| alnum(b) || matches!(b, b'-' | b'_' | b'.'))
        && bytes.windows(2).all(|pair| alnum(pair[0]) || alnum(pair[1]))
}

const VAR_RULE: &str = "use 1 to 63 of a-z, A-Z, 0-9 and `_`, not starting with a digit";

fn is_var(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

const LABEL_RULE: &str =
    "use 1 to 63 of A-Z, a-z, 0-9, `-`, `_` and `.`, starting and ending with a letter or digit";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

const COMMIT_RULE: &str = "use 40 or 64 lower-case hex digits";

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($kind:literal, $is_valid:path, $rule:expr);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $is_valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName::new($kind, $rule, text)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

names! {
    /// A source's name: the first component of every repository that it makes.
    SourceName("source name", is_component, COMPONENT_RULE);
    /// An image's name: its folder under `images/`.
    ImageName("image name", is_component, COMPONENT_RULE);
    /// A site's name: its folder under `sites/` when its id was first declared. The folder may be renamed.
    SiteName("site name", is_component, COMPONENT_RULE);
    /// A site's immutable id.
    SiteId("site id", is_component, COMPONENT_RULE);
    /// A slot's immutable id, unique within its site.
    SlotId("slot id", is_component, COMPONENT_RULE);
    /// A device's id, which it sends with its reports.
    DeviceId("device id", is_component, COMPONENT_RULE);
    /// A local user.
    UserName("user name", is_component, COMPONENT_RULE);
    /// A group of sites.
    GroupName("group name", is_component, COMPONENT_RULE);
    /// A channel: also the tag that projects it.
    ChannelName("channel name", is_component, COMPONENT_RULE);
    /// A rollout policy.
    RolloutName("rollout name", is_component, COMPONENT_RULE);
    /// A stage of a rollout policy.
    StageName("stage name", is_component, COMPONENT_RULE);
    /// A check's id: the same id in a child replaces its ancestor's check.
    CheckId("check id", is_component, COMPONENT_RULE);
    /// A declared variable.
    VarName("variable name", is_var, VAR_RULE);
    /// A label's key.
    LabelKey("label key", is_label, LABEL_RULE);
    /// A label's value.
    LabelValue("label value", is_label, LABEL_RULE);
    /// A commit of a source: git's object id in full.
    CommitId("commit id", is_commit, COMMIT_RULE);
}

/// One concrete image of a source: definition × site? × slot?. Prints as `hmi/plant-a/press-1`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VariantName {
    /// The definition.
    pub image: ImageName,
    /// The site, if the image is `per: site` or `per: slot`.
    pub site: Option<SiteName>,
    /// The slot, if the image is `per: slot`; then there is a site, too.
    pub slot: Option<SlotId>,
}

impl VariantName {
    /// The variant of an image that is the same everywhere.
    pub const fn of_image(image: ImageName) -> Self {
        Self { image, site: None, slot: None }
    }
}

impl fmt::Display for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.image.as_str().to_owned();
        for part in [self.site.as_ref().map(SiteName::as_str), self.slot.as_ref().map(SlotId::as_str)]
            .into_iter()
            .flatten()
        {
            text.push('/');
            text.push_str(part);
        }
        f.pad(&text)
    }
}

impl fmt::Debug for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for VariantName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.split('/');
        let image = parts.next().unwrap_or_default().parse()?;
        let site = parts.next().map(str::parse).transpose()?;
        let slot = parts.next().map(str::parse).transpose()?;
        match parts.next() {
            None => Ok(Self { image, site, slot }),
            Some(_) => Err(InvalidName::new("variant", "use IMAGE, IMAGE/SITE or IMAGE/SITE/SLOT", text)),
        }
    }
}

impl TryFrom<String> for VariantName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<VariantName> for String {
    fn from(name: VariantName) -> Self {
        name.to_string()
    }
}

/// A platform as OCI writes it: `linux/amd64`, `linux/arm64`, `linux/arm/v7`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// Operating system, in Go's spelling.
    pub os: String,
    /// Architecture, in Go's spelling.
    pub architecture: String,
    /// Architecture variant, such as `v7`.
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for Platform {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() < 2 && parts.iter().all(word) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: rest.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(InvalidName::new(
                "platform",
                "use OS/ARCHITECTURE in OCI's spelling, such as linux/amd64",
                text,
            )),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_safe_as_folder_and_repository() {
        for good in ["a", "hmi", "plant-a", "s-7f3a", "a.b_c", "0"] {
            assert!(good.parse::<ImageName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a--b", "a..b", "..", "a/b", "ä", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn variants_and_platforms_round_trip() {
        for text in ["base", "hmi/plant-a", "hmi/plant-a/press-1"] {
            assert_eq!(text.parse::<VariantName>().unwrap().to_string(), text);
        }
        assert!("a/b/c/d".parse::<VariantName>().is_err());
        assert!("a/".parse::<VariantName>().is_err());
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        assert!("linux".parse::<Platform>().is_err());
    }
}
