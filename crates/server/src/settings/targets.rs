//! `[[target]]`: external registries that receive copies of what channels point to.

use std::path::{Path, PathBuf};

use edgewright_control::outbound::replicate::{
    ClientError, Credentials, DeviceReads, Names, Target, TemplateError,
};
use edgewright_model::names::{ChannelName, SourceName};
use serde::Deserialize;

use super::described::described;
use super::sink::LONGEST_NAME;
use super::{Secret, SettingsError, is_web_address};

/// The names of repositories by default: as in this server's own registry.
const DEFAULT_REPOSITORY: &str = "{source}/{variant}";
/// The names of tags by default.
const DEFAULT_TAG: &str = "{channel}";
/// The host of Docker Hub's registry.
const DOCKER_HUB: &str = "https://registry-1.docker.io";

described! {
    /// `[[target]]`.
    #[derive(Clone, PartialEq, Eq, Deserialize)]
    pub struct TargetOptions: "target" {
        /// A unique name. What was copied is stored under it, so do not change it.
        pub name: String { Reload, range: "1 to 63 characters", example: "\"harbor\"" }
        /// Address of the registry, without a path: `https://HOST[:PORT]`, or `http://` without TLS. Docker
        /// Hub is `https://docker.io`.
        pub url: String {
            Reload,
            range: "http:// or https://",
            example: "\"https://harbor.example.org\""
        }
        /// Template of the repositories' names. Placeholders: `{source}`, `{image}`, `{site}`, `{slot}`,
        /// `{variant}`, `{channel}`, `{release}`. An empty one removes one separator next to it.
        pub repository: Option<String> {
            Reload,
            default: DEFAULT_REPOSITORY,
            example: "\"team/{source}-{image}-{site}\""
        }
        /// Template of the tags, with the same placeholders.
        pub tag: Option<String> { Reload, default: DEFAULT_TAG, example: "\"{channel}\"" }
        /// Copy only these sources.
        pub sources: Option<Vec<SourceName>> { Reload, default: "all sources" }
        /// Copy only these channels.
        pub channels: Option<Vec<ChannelName>> { Reload, default: "all channels" }
        /// Copy verdicts, check sets and provenance, too. Use `false` for registries that reject such
        /// artifacts.
        pub referrers: Option<bool> { Reload, default: "true", example: "false" }
        /// How devices get the blobs of images that were copied. `"redirect"`: they read them in the
        /// registry, without credentials; `"proxy"`: the server reads there, with these credentials, what it
        /// does not have itself. Manifests are always those of the server.
        pub devices: Option<DeviceReads> { Reload, default: "none: devices get them of this server only" }
        /// User name; needs `password_file`.
        pub user: Option<String> { Reload, default: "none", example: "\"robot$edgewright\"" }
        /// File with the password, or with an access token that the registry accepts as one; needs `user`.
        pub password_file: Option<PathBuf> {
            Reload,
            default: "none",
            example: "\"/etc/edgewright/harbor.password\""
        }
        /// File with a token that is sent as `Authorization: Bearer`; not with `user`.
        pub token_file: Option<PathBuf> { Reload, default: "none", example: "\"/etc/edgewright/harbor.token\"" }
        /// File with certificates (PEM) of the registry's authority, in addition to the system's.
        pub ca_file: Option<PathBuf> {
            Reload,
            default: "the system's authorities",
            example: "\"/etc/edgewright/ca.pem\""
        }
    }
}

/// The URL may contain a token.
impl std::fmt::Debug for TargetOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a target's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A key is missing, wrong or excluded by another one.
    #[error("{0}")]
    Options(&'static str),
    /// One of its sources is not configured.
    #[error("unknown source `{0}` in `sources`")]
    Source(SourceName),
    /// `repository` or `tag`.
    #[error("invalid `repository` or `tag`")]
    Names(#[from] TemplateError),
    /// Its address or certificates.
    #[error("cannot create an HTTP client")]
    Client(#[from] ClientError),
}

impl TargetOptions {
    /// Finds mistakes without reading files or opening connections. Names must differ.
    pub(super) fn check_all(targets: &[Self], sources: &[&SourceName]) -> Result<(), SettingsError> {
        for (index, target) in targets.iter().enumerate() {
            target.check(sources).map_err(|source| target.fault(source))?;
            if targets[..index].iter().any(|other| other.name == target.name) {
                return Err(SettingsError::DuplicateTarget { name: target.name.clone() });
            }
        }
        Ok(())
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
            sources: self.sources.clone().unwrap_or_default(),
            channels: self.channels.clone().unwrap_or_default(),
            referrers: self.referrers.unwrap_or(true),
            devices: self.devices,
            credentials,
            authority,
        };
        target.client().map_err(|source| self.fault(source.into()))?;
        Ok(target)
    }

    fn check(&self, sources: &[&SourceName]) -> Result<(), TargetError> {
        let invalid = |reason| Err(TargetError::Options(reason));
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || self.name.contains(char::is_control) {
            return invalid("invalid `name`: expected 1 to 63 characters");
        }
        if !is_web_address(&self.url) {
            return invalid("invalid `url`: expected http:// or https://");
        }
        if host(&self.url).contains('@') {
            return invalid("invalid `url`: credentials belong in `user` and `password_file`");
        }
        if host(&self.url).contains(['/', '?', '#']) {
            return invalid("invalid `url`: expected host and port only; the path belongs in `repository`");
        }
        match (&self.user, &self.password_file, &self.token_file) {
            (None, None, _) | (Some(_), Some(_), None) => {}
            (Some(_), None, _) => return invalid("`user` needs `password_file`"),
            (None, Some(_), _) => return invalid("`password_file` needs `user`"),
            (Some(_), Some(_), Some(_)) => {
                return invalid("`token_file` excludes `user` and `password_file`");
            }
        }
        let mut wanted = self.sources.iter().flatten();
        if let Some(unknown) = wanted.find(|source| !sources.contains(source)) {
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

/// The rest of a URL after its scheme, without a slash at the end.
fn host(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

/// A secret of another service, of any length.
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

    fn error(more: &str) -> String {
        let source = "[[source]]\nurl = \"/git/plants\"\n";
        let options = Options::parse(&format!("{source}{GOOD}{more}")).unwrap();
        match options.resolve(Path::new("/d"), NonZeroUsize::MIN) {
            Ok(_) => String::new(),
            Err(error) => Chain(&error).to_string(),
        }
    }

    #[test]
    fn mistakes_are_reported_when_settings_are_resolved() {
        let cases = [
            ("", ""),
            (
                "sources = [\"plants\"]\nchannels = [\"stable\"]\nrepository = \"team/{source}-{image}-{site}\"",
                "",
            ),
            ("user = \"me\"\npassword_file = \"/p\"", ""),
            ("sources = [\"plantz\"]", "invalid target `hub`: unknown source `plantz`"),
            ("repository = \"team/{sight}\"", "invalid target `hub`: invalid `repository` or `tag`: "),
            ("repository = \"Team/{image}\"", "`Team/{image}` makes `Team/a`"),
            ("tag = \"{variant}\"", "`{variant}` makes `a/a`"),
            ("user = \"me\"", "`user` needs `password_file`"),
            ("password_file = \"/p\"", "`password_file` needs `user`"),
            ("user = \"me\"\npassword_file = \"/p\"\ntoken_file = \"/t\"", "`token_file` excludes"),
            ("[[target]]\nname = \"hub\"\nurl = \"http://r\"", "duplicate target name `hub`"),
            ("[[target]]\nname = \"b\"\nurl = \"r.example\"", "expected http:// or https://"),
            ("[[target]]\nname = \"b\"\nurl = \"https://r/artifactory/api\"", "belongs in `repository`"),
            ("[[target]]\nname = \"b\"\nurl = \"https://me:x@r\"", "credentials belong in `user`"),
        ];
        for (more, part) in cases {
            let error = error(more);
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
        assert!(error.contains("registry.example.org"), "{error}");
        let hub = TargetOptions {
            url: "https://docker.io".to_owned(),
            ..Options::parse(GOOD).unwrap().target.remove(0)
        };
        assert_eq!(hub.read().unwrap().url, DOCKER_HUB);
    }
}
