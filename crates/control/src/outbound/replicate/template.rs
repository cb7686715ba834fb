//! Names in a target: templates such as `team/{source}-{image}-{site}`, because registries differ in what
//! they take.
//!
//! A placeholder may be empty: an image that is the same everywhere has no site. Then one separator beside it
//! goes, too, the one behind it before the one in front of it: `team/{image}-{site}` is `team/base` for
//! `base`.

use std::fmt;

use edgewright_model::names::{ChannelName, SourceName, VariantName};
use edgewright_model::reference::{RepoName, Tag};
use edgewright_model::run::ReleaseNumber;

/// What separates the words of a name.
const SEPARATORS: [char; 4] = ['/', '-', '_', '.'];

/// What is named.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The source, as its definition names itself.
    pub source: &'a SourceName,
    /// The variant.
    pub variant: &'a VariantName,
    /// The channel.
    pub channel: &'a ChannelName,
    /// The release.
    pub release: ReleaseNumber,
}

/// A placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Source,
    Image,
    Site,
    Slot,
    Variant,
    Channel,
    Release,
}

/// Every placeholder with its name.
const PLACEHOLDERS: [(&str, Placeholder); 7] = [
    ("source", Placeholder::Source),
    ("image", Placeholder::Image),
    ("site", Placeholder::Site),
    ("slot", Placeholder::Slot),
    ("variant", Placeholder::Variant),
    ("channel", Placeholder::Channel),
    ("release", Placeholder::Release),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// A name with placeholders. Equal templates are equal texts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    text: String,
    parts: Vec<Part>,
}

/// Why a template cannot name anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that there is not.
    #[error("`{{{name}}}` is no placeholder: want {}", placeholders())]
    Unknown {
        /// As written.
        name: String,
    },
    /// A brace without its other half.
    #[error("`{text}` has a brace without its other half")]
    Brace {
        /// The template.
        text: String,
    },
    /// What comes out is not a name of a registry.
    #[error("`{template}` makes `{name}` of {subject}")]
    Name {
        /// The template.
        template: String,
        /// What it makes.
        name: String,
        /// Of what.
        subject: String,
        /// What is wrong with it.
        #[source]
        source: Box<edgewright_model::names::InvalidName>,
    },
}

fn placeholders() -> String {
    PLACEHOLDERS.map(|(name, _)| format!("{{{name}}}")).join(", ")
}

impl Placeholder {
    fn value(self, subject: &Subject<'_>) -> String {
        let variant = subject.variant;
        match self {
            Self::Source => subject.source.to_string(),
            Self::Image => variant.image.to_string(),
            Self::Site => variant.site.as_ref().map(ToString::to_string).unwrap_or_default(),
            Self::Slot => variant.slot.as_ref().map(ToString::to_string).unwrap_or_default(),
            Self::Variant => variant.to_string(),
            Self::Channel => subject.channel.to_string(),
            Self::Release => subject.release.to_string(),
        }
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let brace = || TemplateError::Brace { text: text.to_owned() };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(brace)?;
            if before.contains('}') || name.contains('{') {
                return Err(brace());
            }
            let found = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
            let (_, placeholder) = found.ok_or_else(|| TemplateError::Unknown { name: name.to_owned() })?;
            parts.extend([Part::Text(before.to_owned()), Part::Value(*placeholder)]);
            rest = behind;
        }
        if rest.contains('}') {
            return Err(brace());
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { text: text.to_owned(), parts })
    }

    fn fill(&self, subject: &Subject<'_>) -> String {
        let mut name = String::new();
        let mut drops = false;
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    let rest = text.strip_prefix(SEPARATORS).filter(|_| drops);
                    drops &= rest.is_none() && text.is_empty();
                    name.push_str(rest.unwrap_or(text));
                }
                Part::Value(placeholder) => {
                    let value = placeholder.value(subject);
                    drops |= value.is_empty();
                    name.push_str(&value);
                }
            }
        }
        // Nothing follows: the separator in front is removed.
        if drops && name.ends_with(SEPARATORS) {
            name.pop();
        }
        name
    }

    fn name<T>(&self, subject: &Subject<'_>) -> Result<T, TemplateError>
    where
        T: std::str::FromStr<Err = edgewright_model::names::InvalidName>,
    {
        let name = self.fill(subject);
        name.parse().map_err(|source| TemplateError::Name {
            template: self.text.clone(),
            subject: format!("`{}` of {}", subject.variant, subject.source),
            name,
            source: Box::new(source),
        })
    }
}

/// How a target names images.
#[derive(Clone, PartialEq, Eq)]
pub struct Names {
    repository: Template,
    tag: Template,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository.text, self.tag.text)
    }
}

impl Names {
    /// Takes both templates.
    ///
    /// # Errors
    /// A placeholder is unknown, or names of the shortest source, image and site are none of a registry.
    pub fn parse(repository: &str, tag: &str) -> Result<Self, TemplateError> {
        let names = Self { repository: Template::parse(repository)?, tag: Template::parse(tag)? };
        names.try_shortest()?;
        Ok(names)
    }

    fn try_shortest(&self) -> Result<(), TemplateError> {
        let source = "a".parse().expect("a letter is a source's name");
        let channel = "a".parse().expect("a letter is a channel's name");
        for variant in ["a", "a/a", "a/a/a"] {
            let variant = variant.parse().expect("letters are a variant's name");
            let release = ReleaseNumber(1);
            self.of(&Subject { source: &source, variant: &variant, channel: &channel, release })?;
        }
        Ok(())
    }

    /// The repository and tag of something.
    ///
    /// # Errors
    /// What comes out is too long for a registry.
    pub fn of(&self, subject: &Subject<'_>) -> Result<(RepoName, Tag), TemplateError> {
        Ok((self.repository.name(subject)?, self.tag.name(subject)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(repository: &str, tag: &str, variant: &str) -> Result<String, String> {
        let names = Names::parse(repository, tag).map_err(|error| error.to_string())?;
        let subject = Subject {
            source: &"plants".parse().unwrap(),
            variant: &variant.parse().unwrap(),
            channel: &"stable".parse().unwrap(),
            release: ReleaseNumber(7),
        };
        names
            .of(&subject)
            .map(|(repository, tag)| format!("{repository}:{tag}"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn templates_name_repositories_and_tags() {
        let cases = [
            ("{source}/{variant}", "{channel}", "hmi/plant-a", "plants/hmi/plant-a:stable"),
            ("team/{source}-{image}-{site}", "{channel}", "hmi/plant-a", "team/plants-hmi-plant-a:stable"),
            ("team/{source}-{image}-{site}", "{channel}", "base", "team/plants-base:stable"),
            ("team/{site}-{image}", "{channel}", "base", "team/base:stable"),
            ("{site}/{image}", "{channel}", "base", "base:stable"),
            ("t/{image}/{site}/{slot}", "{channel}", "base", "t/base:stable"),
            ("t/{image}/{site}/{slot}", "{channel}", "hmi/a", "t/hmi/a:stable"),
            ("t/{image}{site}", "{channel}-{release}", "hmi/a", "t/hmia:stable-7"),
            ("team/os", "{image}-{site}-{channel}", "base", "team/os:base-stable"),
            ("team/os", "{image}-{site}-{slot}-{channel}", "hmi/a/1", "team/os:hmi-a-1-stable"),
        ];
        for (repository, tag, variant, expected) in cases {
            assert_eq!(name(repository, tag, variant).as_deref(), Ok(expected), "{repository} {tag}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let cases = [
            ("{sourc}", "a", "`{sourc}` is no placeholder: want {source}, {image}"),
            ("{image", "a", "a brace without its other half"),
            ("image}", "a", "a brace without its other half"),
            ("{{image}}", "a", "a brace without its other half"),
            ("Team/{image}", "a", "`Team/{image}` makes `Team/a` of `a` of a"),
            ("team/{site}", "{site}", "`{site}` makes `` of `a` of a"),
            ("team//{image}", "a", "makes `team//a`"),
            ("team/{image}", "{variant}", "`{variant}` makes `a/a`"),
        ];
        for (repository, tag, part) in cases {
            let error = name(repository, tag, "hmi/plant-a").unwrap_err();
            assert!(error.contains(part), "{repository} {tag}: {error}");
        }
        let long = "x".repeat(200);
        assert!(name(&format!("{long}/{{variant}}/{{variant}}"), "a", "hmi/plant-a").is_ok());
    }
}
