//! `[[source]]`: the repositories that the server follows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use edgewright_control::SourceSettings;
use edgewright_control::settings::{Schedule, SecretGrant};
use edgewright_model::duration::Span;
use edgewright_model::names::SourceName;
use edgewright_source::{Remote, SshIdentity};
use serde::Deserialize;

use super::described::described;
use super::locks::LockOptions;
use super::pull_requests::PullRequestOptions;
use super::updates::UpdateOptions;
use super::{DEFAULT_POLL, SettingsError};

/// The longest source name, in characters.
const LONGEST_NAME: usize = 63;

described! {
    /// `[[source]]`.
    #[derive(Clone, PartialEq, Eq, Deserialize)]
    pub struct SourceOptions: "source" {
        /// The repository: a path, or a `file://`, `http://`, `https://` or ssh address.
        pub url: String { Reload, example: "\"https://git.example.org/plant-os.git\"", flag: "--source" }
        /// The name by which settings, webhooks and commands refer to the source.
        pub name: Option<SourceName> { Reload, default: "the last part of the URL, without `.git`" }
        /// The branch to follow.
        pub branch: Option<String> { Reload, default: "the remote's default branch", example: "\"main\"" }
        /// How often the remote is polled. A remote that does not respond is polled less often, down to every
        /// 10 minutes.
        pub poll: Option<Span> { Reload, default: DEFAULT_POLL.to_string(), flag: "--poll" }
        /// Whether pull requests are built and tested, too: `true` for all, or a table that selects some.
        /// They are never released.
        pub pull_requests: Option<PullRequestOptions> { Reload, default: "false" }
        /// Whether runs that pass are released: `false` only builds and tests.
        pub publish: Option<bool> { Reload, default: "true" }
        /// When newer base images and packages are looked for, instead of `[updates]`.
        pub updates: Option<UpdateOptions>, was "watch" { Restart, default: "as in `[updates]`" }
        /// Where new locks go: the server's database, or a commit.
        pub locks: Option<LockOptions> { Reload, default: "the server's database" }
        /// The build secrets (ids of `[secrets]`) that the trusted refs of this source may use. Pull requests
        /// and other untrusted refs get none.
        pub secrets: Option<Vec<String>> {
            Reload,
            default: "all if it is the only source, else none",
            example: "[\"npm\"]"
        }
        /// File with the secret of the source's webhooks: one line of at least 16 characters. Without it
        /// webhooks are rejected.
        pub hook_secret_file: Option<PathBuf> {
            Reload,
            default: "none",
            example: "\"/etc/edgewright/plant-os.hook\""
        }
        /// File with the private key (without a passphrase) for an ssh remote.
        pub ssh_key: Option<PathBuf> {
            Reload,
            default: "the keys of the account that runs the server",
            example: "\"/etc/edgewright/plant-os.key\""
        }
        /// File with the host keys that are accepted from an ssh remote.
        pub known_hosts: Option<PathBuf> {
            Reload,
            default: "the known hosts of the account that runs the server",
            example: "\"/etc/edgewright/known_hosts\""
        }
    }
}

impl SourceOptions {
    /// A source with all defaults.
    pub const fn new(url: String) -> Self {
        Self {
            url,
            name: None,
            branch: None,
            poll: None,
            pull_requests: None,
            publish: None,
            updates: None,
            locks: None,
            secrets: None,
            hook_secret_file: None,
            ssh_key: None,
            known_hosts: None,
        }
    }
}

/// The URL may contain a token.
impl std::fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceOptions")
            .field("url", &"…")
            .field("name", &self.name)
            .field("branch", &self.branch)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

/// All sources, resolved.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) all: Vec<SourceSettings>,
    pub(super) hook_secret_files: BTreeMap<SourceName, PathBuf>,
    pub(super) schedules: BTreeMap<SourceName, Schedule>,
}

impl Sources {
    /// Resolves the sources; their names must differ.
    pub(super) fn resolve(all: Vec<SourceOptions>) -> Result<Self, SettingsError> {
        let mut resolved = Self::default();
        let is_only = all.len() == 1;
        for options in all {
            let remote: Remote = options.url.parse()?;
            let unnamed = || SettingsError::UnnamedSource { url: remote.address().to_owned() };
            let name = options.name.or_else(|| name_of(remote.address())).ok_or_else(unnamed)?;
            if resolved.all.iter().any(|other| other.name == name) {
                return Err(SettingsError::DuplicateSource { name });
            }
            if let Some(file) = options.hook_secret_file {
                resolved.hook_secret_files.insert(name.clone(), file);
            }
            if let Some(updates) = options.updates {
                resolved.schedules.insert(name.clone(), updates.resolve()?);
            }
            resolved.all.push(SourceSettings {
                name,
                remote,
                branch: options.branch,
                poll: options.poll.unwrap_or(DEFAULT_POLL).get(),
                pull_requests: options.pull_requests.and_then(|options| options.0),
                publish: options.publish.unwrap_or(true),
                locks: options.locks.unwrap_or_default().resolve()?,
                ssh: SshIdentity::new(options.ssh_key, options.known_hosts)?,
                secrets: match options.secrets {
                    Some(ids) => SecretGrant::Only(ids.into_iter().collect()),
                    None if is_only => SecretGrant::All,
                    None => SecretGrant::Only(BTreeSet::new()),
                },
            });
        }
        Ok(resolved)
    }
}

/// A source name from a URL's or path's last part: `https://git.example/Team/Plant_OS.git` gives `plant-os`.
pub fn name_of(url: &str) -> Option<SourceName> {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next()?;
    let stem = last.strip_suffix(".git").unwrap_or(last);
    let words: Vec<String> = stem
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-").chars().take(LONGEST_NAME).collect::<String>().trim_end_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Options;

    #[test]
    fn source_names_come_from_urls_and_debug_output_hides_credentials() {
        let names = [
            ("https://git.example/Team/Plant_OS.git", Some("plant-os")),
            ("git@git.example:plants.git", Some("plants")),
            ("/srv/git/plant.os/", Some("plant-os")),
            ("file:///", None),
        ];
        for (url, name) in names {
            assert_eq!(name_of(url).as_ref().map(SourceName::as_str), name, "{url}");
        }
        let options = Options::parse("[[source]]\nurl = \"https://me:s3cret@h/a\"").unwrap();
        let debug = format!("{options:?}");
        assert!(!debug.contains("s3cret"), "{debug}");
    }
}
