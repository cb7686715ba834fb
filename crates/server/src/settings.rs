//! Settings: optional layers that are merged, then resolved into total [`Settings`].
//!
//! Precedence, low to high: defaults, the file, the environment, flags. The environment and the flags are the `cli`'s
//! business; this crate sees [`Options`] only, and so tests never touch the environment.

mod error;
pub mod pull_requests;
mod secret;
pub mod targets;
pub mod upkeep;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use edgewright_control::Keep;
use edgewright_control::SourceSettings;
use edgewright_control::outbound::notify::SinkKind;
use edgewright_control::settings::{Schedule, Watching};
use edgewright_job::Floor;
use edgewright_model::duration::Span;
use edgewright_model::names::SourceName;
use edgewright_source::{Remote, SshIdentity};
use serde::Deserialize;

use crate::folder::DataFolder;
use crate::tls::TlsSettings;
use pull_requests::PullRequestOptions;
use targets::TargetOptions;
use upkeep::{DiskOptions, KeepOptions, LockOptions, WatchOptions};

pub use error::SettingsError;
pub use secret::Secret;

/// Where the server listens unless told otherwise: this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:5080";
/// How often a source is polled unless told otherwise.
pub const DEFAULT_POLL: Span = Span::from_secs(30);
/// How far jobs of a server give way unless told otherwise.
const DEFAULT_NICE: u8 = 10;
/// The lowest priority that the system has.
const MOST_NICE: u8 = 19;
/// More jobs than this at once help nobody: builds wait for the disk.
const MOST_DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

/// One layer of settings, also the settings file (TOML). Everything is optional; unknown names are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `[server]`.
    pub server: ServerOptions,
    /// `[jobs]`.
    pub jobs: JobOptions,
    /// `[access]`.
    pub access: AccessOptions,
    /// `[watch]`.
    pub watch: WatchOptions,
    /// `[keep]`.
    pub keep: KeepOptions,
    /// `[disk]`.
    pub disk: DiskOptions,
    /// `[[source]]`, one for each.
    pub source: Vec<SourceOptions>,
    /// `[[sink]]`, one for each.
    pub sink: Vec<SinkOptions>,
    /// `[[target]]`, one for each.
    #[serde(alias = "targets")]
    pub target: Vec<TargetOptions>,
    /// `[secrets]`: files with the bytes of build secrets by their id. A path that is not absolute names a systemd credential.
    pub secrets: BTreeMap<String, PathBuf>,
}

/// `[access]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessOptions {
    /// File with the operator's token; `operator-token` in the data folder, made at the first start, where absent.
    pub token_file: Option<PathBuf>,
    /// Whether everyone who reaches the server may read; true where absent.
    pub anonymous: Option<bool>,
}

/// `[[sink]]`: who is told of what happens.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkOptions {
    /// Its name, unique and lasting: what is still to be delivered is kept under it.
    pub name: String,
    /// What it takes.
    pub kind: SinkKind,
    /// Where: the address that takes events, or a forge's API such as `https://api.github.com`.
    pub url: String,
    /// Only what concerns this source; needed for commit statuses.
    pub source: Option<SourceName>,
    /// The repository on the forge, `OWNER/NAME`; needed for commit statuses.
    pub repository: Option<String>,
    /// File with the token that is sent along.
    pub token_file: Option<PathBuf>,
    /// Where people read more: the base of the links in commit statuses; this server's address where absent.
    pub link: Option<String>,
}

impl std::fmt::Debug for SinkOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkOptions")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// `[server]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Address and port to listen on; port 0 takes any free one.
    pub listen: Option<SocketAddr>,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// `HOST[:PORT]` by which clients reach the registry, where that is not the listening address; `https://HOST[:PORT]`
    /// where somebody in front of the server speaks TLS.
    pub address: Option<String>,
    /// Address and port to listen on with TLS, besides `listen`.
    pub tls_listen: Option<SocketAddr>,
    /// File with the certificate and those between it and its authority (PEM).
    pub tls_certificate_file: Option<PathBuf>,
    /// File with the certificate's key (PEM).
    pub tls_key_file: Option<PathBuf>,
}

/// `[jobs]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobOptions {
    /// How many jobs run at once, at least 1.
    pub parallel: Option<u16>,
    /// The time limit of one job.
    pub within: Option<Span>,
    /// The time limit of one lane, boot included; a check that may take longer raises it.
    pub lane_within: Option<Span>,
    /// How long to wait for a verdict of the lane `external`, where the image says nothing.
    pub external_within: Option<Span>,
    /// Memory that one job takes, in MiB: bounds `parallel` where that is not given; 1024 where absent.
    pub memory_mib: Option<u32>,
    /// How far jobs give way to others, from 0 to 19; 10 where absent.
    pub nice: Option<u8>,
    /// Base URL of the registry as jobs reach it; where the server listens, as this machine reaches it, where absent.
    pub registry: Option<String>,
}

/// `[[source]]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOptions {
    /// The repository: a path, or `file://`, `http://` or `https://`.
    pub url: String,
    /// Its name; from the URL's last part where absent.
    pub name: Option<SourceName>,
    /// The branch to follow; the remote's default branch where absent.
    pub branch: Option<String>,
    /// How often to poll.
    pub poll: Option<Span>,
    /// Which pull requests are run, too: `true`, or a table; none where absent.
    pub pull_requests: Option<PullRequestOptions>,
    /// Whether what passes is released: channels move, targets get it. `false`: built and tested only. True where absent.
    pub publish: Option<bool>,
    /// When its base images and distributions are looked at; as `[watch]` says where absent.
    pub watch: Option<WatchOptions>,
    /// Where locks that moved go; overlays of the server where absent.
    pub locks: Option<LockOptions>,
    /// File with the secret of the source's webhooks; without one they are refused.
    pub hook_secret_file: Option<PathBuf>,
    /// File with the private key for an ssh remote; the account's own keys where absent.
    pub ssh_key: Option<PathBuf>,
    /// File with the host keys that an ssh remote may have; the account's own known hosts where absent.
    pub known_hosts: Option<PathBuf>,
}

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

/// All settings, each with a value.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// `HOST[:PORT]` by which clients reach the registry; the listening address where absent.
    pub address: Option<String>,
    /// Whether clients reach it with TLS: the server's own, or somebody's in front of it.
    pub is_tls: bool,
    /// TLS of our own.
    pub tls: Option<TlsSettings>,
    /// How many jobs run at once.
    pub parallel: NonZeroUsize,
    /// The time limit of one job; control's own where absent.
    pub job_within: Option<Span>,
    /// How far jobs give way to others, from 0 to 19.
    pub job_nice: u8,
    /// Base URL of the registry as jobs reach it; none: where the server listens.
    pub job_registry: Option<String>,
    /// Container storage that stays after a job, in MiB.
    pub storage_mib: u64,
    /// The time limit of one lane; control's own where absent.
    pub lane_within: Option<Span>,
    /// The wait for a verdict of the lane `external`; control's own where absent.
    pub external_within: Option<Span>,
    /// The sources, with distinct names.
    pub sources: Vec<SourceSettings>,
    /// File with the operator's token; the one of the data folder where absent.
    pub token_file: Option<PathBuf>,
    /// Whether everyone who reaches the server may read.
    pub anonymous: bool,
    /// When base images and distributions are looked at.
    pub watching: Watching,
    /// Bounds of logs and caches.
    pub keep: Keep,
    /// What the data folder's disk keeps free.
    pub floor: Floor,
    /// Files with build secrets by id: read by each job, never by this process.
    pub build_secrets: BTreeMap<String, PathBuf>,
    /// Files with the secrets of webhooks, by source.
    pub hook_secret_files: BTreeMap<SourceName, PathBuf>,
    /// Who is told of what happens, with distinct names.
    pub sinks: Vec<SinkOptions>,
    /// Registries of others that get what channels hold, with distinct names.
    pub targets: Vec<TargetOptions>,
}

impl Options {
    /// Reads a settings file.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
            .map_err(|source| SettingsError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads the text of a settings file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// This layer over a lower one: what this one says wins; sources add up.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let mut source = lower.source;
        source.extend(self.source);
        let mut sink = lower.sink;
        sink.extend(self.sink);
        let mut target = lower.target;
        target.extend(self.target);
        let mut secrets = lower.secrets;
        secrets.extend(self.secrets);
        Self {
            server: ServerOptions {
                listen: self.server.listen.or(lower.server.listen),
                data: self.server.data.or(lower.server.data),
                address: self.server.address.or(lower.server.address),
                tls_listen: self.server.tls_listen.or(lower.server.tls_listen),
                tls_certificate_file: self.server.tls_certificate_file.or(lower.server.tls_certificate_file),
                tls_key_file: self.server.tls_key_file.or(lower.server.tls_key_file),
            },
            jobs: JobOptions {
                parallel: self.jobs.parallel.or(lower.jobs.parallel),
                within: self.jobs.within.or(lower.jobs.within),
                lane_within: self.jobs.lane_within.or(lower.jobs.lane_within),
                external_within: self.jobs.external_within.or(lower.jobs.external_within),
                memory_mib: self.jobs.memory_mib.or(lower.jobs.memory_mib),
                nice: self.jobs.nice.or(lower.jobs.nice),
                registry: self.jobs.registry.or(lower.jobs.registry),
            },
            access: AccessOptions {
                token_file: self.access.token_file.or(lower.access.token_file),
                anonymous: self.access.anonymous.or(lower.access.anonymous),
            },
            watch: self.watch.over(lower.watch),
            keep: self.keep.over(lower.keep),
            disk: DiskOptions { floor_mib: self.disk.floor_mib.or(lower.disk.floor_mib) },
            source,
            sink,
            target,
            secrets,
        }
    }

    /// Total settings: `data` and `cores` are what this machine offers by default.
    pub fn resolve(self, data: &Path, cores: NonZeroUsize) -> Result<Settings, SettingsError> {
        let parallel = match self.jobs.parallel {
            Some(jobs) => NonZeroUsize::new(jobs.into()).ok_or(SettingsError::NoJobs)?,
            None => cores.min(MOST_DEFAULT_JOBS),
        };
        let job_nice = self.jobs.nice.unwrap_or(DEFAULT_NICE);
        if job_nice > MOST_NICE {
            return Err(SettingsError::Nice { nice: job_nice });
        }
        if let Some(url) = self.jobs.registry.as_ref().filter(|url| !is_web_address(url)) {
            return Err(SettingsError::JobRegistry { url: url.clone() });
        }
        let Followed { sources, hook_secret_files, watching } = Followed::of(self.source)?;
        for (index, sink) in self.sink.iter().enumerate() {
            sink.check()?;
            if self.sink[..index].iter().any(|other| other.name == sink.name) {
                return Err(SettingsError::DuplicateSink { name: sink.name.clone() });
            }
        }
        let names: Vec<&SourceName> = sources.iter().map(|source| &source.name).collect();
        for (index, target) in self.target.iter().enumerate() {
            target.check(&names)?;
            if self.target[..index].iter().any(|other| other.name == target.name) {
                return Err(SettingsError::DuplicateTarget { name: target.name.clone() });
            }
        }
        let tls = self.server.tls()?;
        let address = self.server.address.as_deref();
        let is_https = address.is_some_and(|address| address.starts_with("https://"));
        let address = address.map(|address| address.split_once("://").map_or(address, |(_, host)| host));
        let address = address.map(|address| address.trim_end_matches('/').to_owned());
        let default_listen = || SocketAddr::from(([127, 0, 0, 1], 5080));
        Ok(Settings {
            listen: self.server.listen.unwrap_or_else(default_listen),
            data: self.server.data.unwrap_or_else(|| data.to_owned()),
            address,
            is_tls: is_https || tls.is_some(),
            tls,
            parallel,
            job_within: self.jobs.within,
            job_nice,
            job_registry: self.jobs.registry,
            storage_mib: self.keep.storage_mib(),
            lane_within: self.jobs.lane_within,
            external_within: self.jobs.external_within,
            watching: Watching { default: self.watch.resolve()?, sources: watching },
            keep: self.keep.resolve(),
            floor: self.disk.resolve(),
            sources,
            token_file: self.access.token_file,
            anonymous: self.access.anonymous.unwrap_or(true),
            build_secrets: self.secrets,
            hook_secret_files,
            sinks: self.sink,
            targets: self.target,
        })
    }
}

impl Settings {
    /// The file with the operator's token.
    pub fn operator_token_file(&self) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| DataFolder::new(&self.data).operator_token())
    }
}

/// What the sections of all sources come to.
#[derive(Debug, Default)]
struct Followed {
    sources: Vec<SourceSettings>,
    hook_secret_files: BTreeMap<SourceName, PathBuf>,
    watching: BTreeMap<SourceName, Schedule>,
}

impl Followed {
    fn of(all: Vec<SourceOptions>) -> Result<Self, SettingsError> {
        let mut followed = Self::default();
        for options in all {
            let remote: Remote = options.url.parse()?;
            let unnamed = || SettingsError::Unnamed { url: remote.address().to_owned() };
            let name = options.name.or_else(|| name_of(remote.address())).ok_or_else(unnamed)?;
            if followed.sources.iter().any(|other| other.name == name) {
                return Err(SettingsError::Duplicate { name });
            }
            let poll = options.poll.unwrap_or(DEFAULT_POLL).get();
            if let Some(file) = options.hook_secret_file {
                followed.hook_secret_files.insert(name.clone(), file);
            }
            if let Some(watch) = options.watch {
                followed.watching.insert(name.clone(), watch.resolve()?);
            }
            let pull_requests = options.pull_requests.and_then(|options| options.0);
            let publish = options.publish.unwrap_or(true);
            let locks = options.locks.unwrap_or_default().resolve()?;
            let ssh = SshIdentity::new(options.ssh_key, options.known_hosts)?;
            let branch = options.branch;
            let source = SourceSettings { name, remote, branch, poll, pull_requests, publish, locks, ssh };
            followed.sources.push(source);
        }
        Ok(followed)
    }
}

impl ServerOptions {
    fn tls(&self) -> Result<Option<TlsSettings>, SettingsError> {
        match (self.tls_listen, &self.tls_certificate_file, &self.tls_key_file) {
            (None, None, None) => Ok(None),
            (Some(listen), Some(certificate), Some(key)) => {
                Ok(Some(TlsSettings { listen, certificate: certificate.clone(), key: key.clone() }))
            }
            _ => Err(SettingsError::HalfTls),
        }
    }
}

impl SinkOptions {
    /// What can be said without asking anybody.
    fn check(&self) -> Result<(), SettingsError> {
        let refuse = |why| Err(SettingsError::Sink { name: self.name.clone(), why });
        if self.name.is_empty() || self.name.len() > 63 || self.name.contains(char::is_control) {
            return refuse("want a name of 1 to 63 characters");
        }
        if !is_web_address(&self.url) {
            return refuse("`url` is neither http:// nor https://");
        }
        if self.kind != SinkKind::CloudEvents && (self.source.is_none() || self.repository.is_none()) {
            return refuse("commit statuses need `source` and `repository = \"OWNER/NAME\"`");
        }
        Ok(())
    }
}

fn is_web_address(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
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
    words.join("-").chars().take(63).collect::<String>().trim_end_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::parse(text).unwrap()
    }

    fn cores(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[test]
    fn layers_merge_and_resolve() {
        let file = "[server]\nlisten = \"0.0.0.0:80\"\ndata = \"/file\"\n[[source]]\nurl = \"/git/one\"";
        let flags = "[server]\ndata = \"/flag\"\n[[source]]\nurl = \"/git/two.git\"\npoll = \"5s\"";
        let settings = options(flags).over(options(file)).resolve(Path::new("/default"), cores(2)).unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:80");
        assert_eq!(settings.data, Path::new("/flag"));
        let sources: Vec<_> =
            settings.sources.iter().map(|source| format!("{} {:?}", source.name, source.poll)).collect();
        assert_eq!(sources, ["one 30s", "two 5s"]);
        let secrets = "[secrets]\nnpm = \"/run/npm\"\nkey = \"key\"";
        let secrets = options("[secrets]\nnpm = \"/new\"").over(options(secrets));
        let secrets = secrets.resolve(Path::new("/d"), cores(1)).unwrap().build_secrets;
        assert_eq!(
            (secrets["npm"].as_path(), secrets["key"].as_path()),
            (Path::new("/new"), Path::new("key"))
        );
        let bare = Options::default().resolve(Path::new("/default"), cores(64)).unwrap();
        assert_eq!(bare.listen.to_string(), DEFAULT_LISTEN);
        assert!(bare.listen.ip().is_loopback());
        assert_eq!((bare.data.as_path(), bare.parallel), (Path::new("/default"), MOST_DEFAULT_JOBS));
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        let unknown = Options::parse("[server]\nlisten = \"127.0.0.1:1\"\nprot = 1").unwrap_err().to_string();
        assert!(unknown.contains("line 3") && unknown.contains("unknown field `prot`"), "{unknown}");
        let wrong = Options::parse("[[source]]\nurl = \"/a\"\npoll = \"soon\"").unwrap_err().to_string();
        assert!(wrong.contains("line 3") && wrong.contains("is not a duration"), "{wrong}");
        let resolve = |text: &str| options(text).resolve(Path::new("/d"), cores(1)).unwrap_err();
        assert!(matches!(resolve("[jobs]\nparallel = 0"), SettingsError::NoJobs));
        assert!(matches!(resolve("[jobs]\nregistry = \"hub:5080\""), SettingsError::JobRegistry { .. }));
        assert!(matches!(resolve("[[source]]\nurl = \"plants\""), SettingsError::Url(_)));
        let twice = "[[source]]\nurl = \"/x/a\"\n[[source]]\nurl = \"/y/a.git\"";
        assert!(matches!(resolve(twice), SettingsError::Duplicate { .. }));
        assert!(matches!(resolve("[[source]]\nurl = \"/srv/___\""), SettingsError::Unnamed { .. }));
    }

    #[test]
    fn names_come_from_urls_and_credentials_stay_inside() {
        let names = [
            ("https://git.example/Team/Plant_OS.git", Some("plant-os")),
            ("git@git.example:plants.git", Some("plants")),
            ("/srv/git/plant.os/", Some("plant-os")),
            ("file:///", None),
        ];
        for (url, name) in names {
            assert_eq!(name_of(url).as_ref().map(SourceName::as_str), name, "{url}");
        }
        let debug = format!("{:?}", options("[[source]]\nurl = \"https://me:s3cret@h/a\""));
        assert!(!debug.contains("s3cret"), "{debug}");
    }
}
