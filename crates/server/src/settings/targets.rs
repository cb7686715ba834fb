//! `[[target]]`: registries of others that get what channels hold.

use std::path::{Path, PathBuf};

use edgewright_control::outbound::replicate::{ClientError, Credentials, Names, Target, TemplateError};
use edgewright_model::names::{ChannelName, SourceName};
use serde::Deserialize;

use super::{Secret, SettingsError};

/// How repositories are named unless told otherwise: as in our own registry.
const DEFAULT_REPOSITORY: &str = "{source}/{variant}";
/// How tags are named unless told otherwise.
const DEFAULT_TAG: &str = "{channel}";
/// Docker Hub's registry, which is not where its name says.
const DOCKER_HUB: &str = "https://registry-1.docker.io";

/// `[[target]]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetOptions {
    /// Its name, unique and lasting: what was copied is remembered under it.
    pub name: String,
    /// Address of the registry: `https://HOST[:PORT]`, or `http://` without TLS.
    pub url: String,
    /// Template of the repositories' names; `{source}/{variant}` where absent.
    pub repository: Option<String>,
    /// Template of the tags; `{channel}` where absent.
    pub tag: Option<String>,
    /// Only these sources; all where absent.
    #[serde(default)]
    pub sources: Vec<SourceName>,
    /// Only these channels; all where absent.
    #[serde(default)]
    pub channels: Vec<ChannelName>,
    /// Whether to copy verdicts, check sets and provenance, too; true where absent.
    pub referrers: Option<bool>,
    /// The user, with `password_file`.
    pub user: Option<String>,
    /// File with the password, or an access token that the registry takes as one.
    pub password_file: Option<PathBuf>,
    /// File with a token that is sent as it is: `Authorization: Bearer …`.
    pub token_file: Option<PathBuf>,
    /// File with certificates (PEM) of the registry's authority, besides those that this machine knows.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for TargetOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a target cannot work as it is.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It says too little or too much.
    #[error("{0}")]
    Options(&'static str),
    /// Its sources are not followed.
    #[error("no source is called `{0}`")]
    Source(SourceName),
    /// `repository` or `tag`.
    #[error("its images cannot be named")]
    Names(#[from] TemplateError),
    /// Its address or certificates.
    #[error("it cannot be spoken to")]
    Client(#[from] ClientError),
}

impl TargetOptions {
    /// What can be said without reading files or asking anybody.
    pub(crate) fn check(&self, sources: &[&SourceName]) -> Result<(), SettingsError> {
        self.checked(sources).map_err(|source| self.fault(source))
    }

    /// The target, with its secrets.
    pub(crate) fn read(&self) -> Result<Target, SettingsError> {
        let credentials = match (&self.user, &self.password_file, &self.token_file) {
            (Some(user), Some(file), None) => {
                Credentials::Basic { user: user.clone(), password: secret(file)? }
            }
            (None, None, Some(file)) => Credentials::Bearer(secret(file)?),
            _ => Credentials::Anonymous,
        };
        let authority = match &self.ca_file {
            Some(path) => {
                let fail = |source| SettingsError::Authority { path: path.clone(), source };
                Some(std::fs::read(path).map_err(fail)?)
            }
            None => None,
        };
        let target = Target {
            name: self.name.clone(),
            url: match host(&self.url) {
                "docker.io" | "index.docker.io" | "hub.docker.com" => DOCKER_HUB.to_owned(),
                _ => self.url.trim_end_matches('/').to_owned(),
            },
            names: self.names().map_err(|source| self.fault(source.into()))?,
            sources: self.sources.clone(),
            channels: self.channels.clone(),
            referrers: self.referrers.unwrap_or(true),
            credentials,
            authority,
        };
        target.client().map_err(|source| self.fault(source.into()))?;
        Ok(target)
    }

    fn checked(&self, sources: &[&SourceName]) -> Result<(), TargetError> {
        let refuse = |why| Err(TargetError::Options(why));
        if self.name.is_empty() || self.name.len() > 63 || self.name.contains(char::is_control) {
            return refuse("want a name of 1 to 63 characters");
        }
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return refuse("`url` is neither http:// nor https://");
        }
        if host(&self.url).contains('@') {
            return refuse("credentials do not belong into `url`: want `user` and `password_file`");
        }
        if host(&self.url).contains(['/', '?', '#']) {
            return refuse("`url` is host and port alone: what follows belongs into `repository`");
        }
        match (&self.user, &self.password_file, &self.token_file) {
            (None, None, _) | (Some(_), Some(_), None) => {}
            (Some(_), None, _) => return refuse("`user` goes with `password_file`"),
            (None, Some(_), _) => return refuse("`password_file` goes with `user`"),
            (Some(_), Some(_), Some(_)) => return refuse("give `user` and `password_file`, or `token_file`"),
        }
        if let Some(unknown) = self.sources.iter().find(|source| !sources.contains(source)) {
            return Err(TargetError::Source(unknown.clone()));
        }
        self.names()?;
        Ok(())
    }

    fn names(&self) -> Result<Names, TemplateError> {
        let repository = self.repository.as_deref().unwrap_or(DEFAULT_REPOSITORY);
        Names::parse(repository, self.tag.as_deref().unwrap_or(DEFAULT_TAG))
    }

    fn fault(&self, source: TargetError) -> SettingsError {
        SettingsError::Target { name: self.name.clone(), source: Box::new(source) }
    }
}

/// What follows the scheme, without a slash at the end.
fn host(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

/// Passwords of others may be as short as they like.
fn secret(path: &Path) -> Result<String, SettingsError> {
    Ok(Secret::read_any(path)?.reveal().to_owned())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use edgewright_model::error::Chain;

    use super::*;
    use crate::settings::Options;

    const GOOD: &str = "[[target]]\nname = \"hub\"\nurl = \"https://registry.example.org/\"\n";

    fn refusal(more: &str) -> String {
        let source = "[[source]]\nurl = \"/git/plants\"\n";
        let options = Options::parse(&format!("{source}{GOOD}{more}")).unwrap();
        match options.resolve(Path::new("/d"), NonZeroUsize::MIN) {
            Ok(_) => String::new(),
            Err(error) => Chain(&error).to_string(),
        }
    }

    #[test]
    fn mistakes_are_said_when_settings_are_read() {
        let cases = [
            ("", ""),
            (
                "sources = [\"plants\"]\nchannels = [\"stable\"]\nrepository = \"team/{source}-{image}-{site}\"",
                "",
            ),
            ("user = \"me\"\npassword_file = \"/p\"", ""),
            ("sources = [\"plantz\"]", "target `hub`: no source is called `plantz`"),
            (
                "repository = \"team/{sight}\"",
                "target `hub`: its images cannot be named: `{sight}` is no placeholder",
            ),
            ("repository = \"Team/{image}\"", "`Team/{image}` makes `Team/a`"),
            ("tag = \"{variant}\"", "`{variant}` makes `a/a`"),
            ("user = \"me\"", "`user` goes with `password_file`"),
            ("password_file = \"/p\"", "`password_file` goes with `user`"),
            ("user = \"me\"\npassword_file = \"/p\"\ntoken_file = \"/t\"", "or `token_file`"),
            ("[[target]]\nname = \"hub\"\nurl = \"http://r\"", "two targets are called `hub`"),
            ("[[target]]\nname = \"b\"\nurl = \"r.example\"", "neither http:// nor https://"),
            ("[[target]]\nname = \"b\"\nurl = \"https://r/artifactory/api\"", "belongs into `repository`"),
            ("[[target]]\nname = \"b\"\nurl = \"https://me:x@r\"", "want `user` and `password_file`"),
        ];
        for (more, part) in cases {
            let error = refusal(more);
            assert!(error.contains(part) && error.is_empty() == part.is_empty(), "{more}: {error}");
        }
    }

    #[test]
    fn secrets_and_certificates_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let read = |more: String| {
            let options = Options::parse(&format!("{GOOD}{more}")).unwrap();
            options.target[0].read().map_err(|error| Chain(&error).to_string())
        };
        let target = read(format!("user = \"me\"\npassword_file = \"{}\"", file("p", "short\n"))).unwrap();
        let basic = Credentials::Basic { user: "me".to_owned(), password: "short".to_owned() };
        assert_eq!(
            (target.credentials.clone(), target.url.as_str()),
            (basic, "https://registry.example.org")
        );
        assert!(!format!("{target:?}").contains("short"));
        let target = read(format!("token_file = \"{}\"", file("t", "abc"))).unwrap();
        assert_eq!(target.credentials, Credentials::Bearer("abc".to_owned()));
        let error = read(format!("token_file = \"{}\"", file("e", "\n"))).unwrap_err();
        assert!(error.contains("cannot read the secret"), "{error}");
        let error = read("ca_file = \"/nonexistent\"".to_owned()).unwrap_err();
        assert!(error.contains("certificates in /nonexistent"), "{error}");
        let error = read(format!("ca_file = \"{}\"", file("c", "no certificate"))).unwrap_err();
        assert!(error.contains("there is no certificate (PEM) for registry.example.org"), "{error}");
        let hub = TargetOptions {
            url: "https://docker.io".to_owned(),
            ..Options::parse(GOOD).unwrap().target.remove(0)
        };
        assert_eq!(hub.read().unwrap().url, DOCKER_HUB);
    }
}
