//! OCI repository names, tags and references (distribution-spec 1.1, "Pull").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::InvalidName;

/// A repository name such as `plant-os/hmi/plant-a`: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` joined by `/`, 255
/// bytes at most.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName(String);

const REPO_RULE: &str =
    "use components of a-z and 0-9, with `.`, `_`, `__` or dashes between, joined by `/`, at most 255 bytes";

fn is_repo_component(text: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators_fit = || {
        text.split(alnum)
            .filter(|separator| !separator.is_empty())
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
    };
    text.starts_with(alnum) && text.ends_with(alnum) && separators_fit()
}

impl RepoName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

const TAG_RULE: &str = "use 1 to 128 of a-z, A-Z, 0-9, `_`, `.` and `-`, not starting with `.` or `-`";

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_type {
    ($name:ident, $kind:literal, $rule:expr, $is_valid:expr) => {
        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName::new($kind, $rule, text))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
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
    };
}

text_type!(RepoName, "repository name", REPO_RULE, |text| text.len() <= 255
    && text.split('/').all(is_repo_component));
text_type!(Tag, "tag", TAG_RULE, |text| {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
});

/// What names a manifest inside a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// By tag: mutable.
    Tag(Tag),
    /// By digest: immutable.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains(':') {
            return text.parse().map(Self::Digest).map_err(|_| {
                InvalidName::new("reference", "use a tag, or sha256 or sha512, a colon and hex digits", text)
            });
        }
        text.parse().map(Self::Tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An image in some registry: `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Registry host, with its port if that is not the default.
    pub registry: String,
    /// Repository within the registry.
    pub repository: RepoName,
    /// Tag, if given.
    pub tag: Option<Tag>,
    /// Digest, if pinned; then the tag is only informative.
    pub digest: Option<Digest>,
}

impl FromStr for ImageReference {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const RULE: &str = "use HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST] with a full host, such as quay.io/fedora/fedora-bootc:42";
        let invalid = || InvalidName::new("image reference", RULE, text);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let (registry, path) = rest.split_once('/').ok_or_else(invalid)?;
        let host_like = registry == "localhost" || registry.contains(['.', ':']);
        let host_bytes = registry
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        if !host_like || !host_bytes {
            return Err(invalid());
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.parse().map_err(|_| invalid())?)),
            None => (path, None),
        };
        let repository = repository.parse().map_err(|_| invalid())?;
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl TryFrom<String> for ImageReference {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_distribution_specification() {
        for good in ["a", "plant-os/hmi/plant-a", "a__b", "a--b", "a.b/c_d", "blobs/blobs"] {
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "A", "a___b", "a..b", "a._b", "-a", "a/../b", &"a".repeat(256)] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn image_references_round_trip() {
        let digest = Digest::of("x");
        for text in
            ["quay.io/fedora/fedora-bootc:42", "localhost:5000/a/b", &format!("r.example/a:t@{digest}")]
        {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), text);
        }
        for bad in
            ["debian", "library/debian", "quay.io/", "quay.io/A", "quay.io/a:b:c", "quay.io/a@sha256:1"]
        {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
        }
    }
}
