//! From layers of options to complete settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use edgewright_control::SecretGrant;
use edgewright_control::settings::Watching;
use edgewright_control::{Keep, SourceSettings};
use edgewright_job::Floor;
use edgewright_model::duration::Span;
use edgewright_model::names::SourceName;

use super::cluster::ClusterTable;
use super::oidc::OidcOptions;
use super::on_change::OnChange;
use super::server::{DEFAULT_NICE, JobOptions, MAX_NICE};
use super::sink::SinkOptions;
use super::source::Sources;
use super::targets::TargetOptions;
use super::{MAX_DEFAULT_JOBS, OldSpelling, Options, SettingsError, is_web_address};
use crate::folder::DataFolder;
use crate::tls::TlsSettings;

/// All settings, each with a value.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// `HOST[:PORT]` by which clients reach the registry; the listening address if none.
    pub address: Option<String>,
    /// Whether clients use TLS, with this server or a proxy in front of it.
    pub is_tls: bool,
    /// The server's own TLS listener.
    pub tls: Option<TlsSettings>,
    /// How many jobs run at the same time.
    pub parallel: NonZeroUsize,
    /// How many jobs of untrusted refs run beside them.
    pub untrusted_slots: NonZeroUsize,
    /// Time limit of one job; control's default if none.
    pub job_timeout: Option<Span>,
    /// Processor priority of jobs, from 0 to 19.
    pub job_nice: u8,
    /// Whether jobs run with the host's tools and files instead of in sandboxes.
    pub unsafe_host_tools: bool,
    /// The tool image's folder.
    pub tools: PathBuf,
    /// The most that one job may write, in bytes.
    pub job_disk: u64,
    /// The most memory of a sandboxed job, in bytes.
    pub job_memory: u64,
    /// Addresses of this host that sandboxed jobs reach, `HOST:PORT`.
    pub reach: Vec<String>,
    /// The cluster that runs jobs; none: all run on this host.
    pub cluster: Option<ClusterTable>,
    /// Base URL of the registry as jobs reach it; the listening address if none.
    pub job_registry: Option<String>,
    /// Container storage that stays after a job, in MiB.
    pub storage_mib: u64,
    /// Time limit of one lane; control's default if none.
    pub lane_timeout: Option<Span>,
    /// Time limit for a verdict in the lane `external`; control's default if none.
    pub external_timeout: Option<Span>,
    /// The sources, with distinct names.
    pub sources: Vec<SourceSettings>,
    /// File with the operator's token; the one of the data folder if none.
    pub token_file: Option<PathBuf>,
    /// Whether clients may read without a token.
    pub anonymous: bool,
    /// The provider with which users log in.
    pub oidc: Option<OidcOptions>,
    /// When newer base images and packages are looked for.
    pub updates: Watching,
    /// Bounds of logs and caches.
    pub keep: Keep,
    /// Space that stays free on the data folder's disk.
    pub floor: Floor,
    /// Files with build secrets by id: read by each job, never by this process.
    pub build_secrets: BTreeMap<String, PathBuf>,
    /// Files with the secrets of webhooks, by source.
    pub hook_secret_files: BTreeMap<SourceName, PathBuf>,
    /// Receivers of events, with distinct names.
    pub sinks: Vec<SinkOptions>,
    /// External registries that receive copies, with distinct names.
    pub targets: Vec<TargetOptions>,
    /// What the server does when its files have other content.
    pub on_change: OnChange,
    /// Keys of the settings file that were written as in earlier releases.
    pub old_spellings: Vec<OldSpelling>,
}

impl Options {
    /// Complete settings. `data` and `cores` are the defaults of this machine.
    pub fn resolve(self, data: &Path, cores: NonZeroUsize) -> Result<Settings, SettingsError> {
        let parallel = self.jobs.parallel(cores)?;
        let untrusted_slots = self.jobs.untrusted_slots()?;
        let job_nice = self.jobs.nice()?;
        if let Some(url) = self.jobs.registry.as_ref().filter(|url| !is_web_address(url)) {
            return Err(SettingsError::JobRegistry { url: url.clone() });
        }
        let Sources { all: sources, hook_secret_files, schedules } = Sources::resolve(self.source)?;
        SinkOptions::check_all(&self.sink)?;
        let names: Vec<&SourceName> = sources.iter().map(|source| &source.name).collect();
        TargetOptions::check_all(&self.target, &names)?;
        let tls = self.server.tls()?;
        self.access.oidc.as_ref().map_or(Ok(()), OidcOptions::check)?;
        let address = self.server.address.as_deref();
        let is_https = address.is_some_and(|address| address.starts_with("https://"));
        let address = address.map(|address| address.split_once("://").map_or(address, |(_, host)| host));
        let address = address.map(|address| address.trim_end_matches('/').to_owned());
        let for_jobs =
            self.jobs.registry.as_deref().map(|url| url.split_once("://").map_or(url, |(_, host)| host));
        let cluster = self.cluster.resolve(for_jobs.or(address.as_deref()))?;
        let default_listen = || SocketAddr::from(([127, 0, 0, 1], 5080));
        Ok(Settings {
            listen: self.server.listen.unwrap_or_else(default_listen),
            data: self.server.data.unwrap_or_else(|| data.to_owned()),
            address,
            is_tls: is_https || tls.is_some(),
            tls,
            parallel,
            untrusted_slots,
            job_timeout: self.jobs.timeout,
            job_nice,
            unsafe_host_tools: self.jobs.unsafe_host_tools.unwrap_or(false),
            tools: self.jobs.tools.unwrap_or_else(|| super::DEFAULT_TOOLS.into()),
            job_disk: u64::from(self.jobs.disk_gib.unwrap_or(super::server::DEFAULT_DISK_GIB)) << 30,
            job_memory: u64::from(self.jobs.max_memory_mib.unwrap_or(super::server::DEFAULT_MAX_MEMORY_MIB))
                << 20,
            reach: self.jobs.reach.unwrap_or_default(),
            cluster,
            job_registry: self.jobs.registry,
            storage_mib: self.keep.storage_mib(),
            lane_timeout: self.jobs.lane_timeout,
            external_timeout: self.jobs.external_timeout,
            updates: Watching { default: self.updates.resolve()?, sources: schedules },
            keep: self.keep.resolve(),
            floor: self.disk.resolve(),
            sources,
            token_file: self.access.token_file,
            anonymous: self.access.anonymous.unwrap_or(true),
            oidc: self.access.oidc,
            build_secrets: self.secrets,
            hook_secret_files,
            sinks: self.sink,
            targets: self.target,
            on_change: self.server.on_change.unwrap_or_default(),
            old_spellings: self.old_spellings,
        })
    }
}

impl JobOptions {
    fn parallel(&self, cores: NonZeroUsize) -> Result<NonZeroUsize, SettingsError> {
        match self.parallel {
            Some(jobs) => NonZeroUsize::new(jobs.into()).ok_or(SettingsError::NoJobs),
            None => Ok(cores.min(MAX_DEFAULT_JOBS)),
        }
    }

    fn untrusted_slots(&self) -> Result<NonZeroUsize, SettingsError> {
        NonZeroUsize::new(self.untrusted_slots.unwrap_or(1).into()).ok_or(SettingsError::NoUntrustedSlots)
    }

    fn nice(&self) -> Result<u8, SettingsError> {
        let nice = self.nice.unwrap_or(DEFAULT_NICE);
        if nice > MAX_NICE { Err(SettingsError::Nice { nice }) } else { Ok(nice) }
    }
}

impl Settings {
    /// The sources that may use none of the build secrets: since there is more than one source, each needs a
    /// grant of its own.
    pub(crate) fn without_secrets(&self) -> impl Iterator<Item = &SourceName> {
        let none = SecretGrant::Only(std::collections::BTreeSet::new());
        let all = self.sources.iter().filter(|_| !self.build_secrets.is_empty());
        all.filter(move |source| source.secrets == none).map(|source| &source.name)
    }

    /// The file with the token for reports of devices.
    pub fn report_token_file(&self) -> PathBuf {
        DataFolder::new(&self.data).report_token()
    }

    /// The file with the operator's token.
    pub fn operator_token_file(&self) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| DataFolder::new(&self.data).operator_token())
    }

    /// The settings that differ from others and apply only after a restart: tables such as `keep`, or keys
    /// such as `server.listen`.
    pub(crate) fn restart_needed_for(&self, other: &Self) -> Vec<&'static str> {
        let tls = |settings: &Self| settings.tls.as_ref().map(|tls| tls.listen);
        [
            ("server.listen", self.listen == other.listen),
            ("server.data", self.data == other.data),
            ("server.address", (&self.address, self.is_tls) == (&other.address, other.is_tls)),
            ("server.tls_listen", tls(self) == tls(other)),
            ("jobs.parallel", self.parallel == other.parallel),
            ("jobs.untrusted_slots", self.untrusted_slots == other.untrusted_slots),
            ("jobs.timeout", self.job_timeout == other.job_timeout),
            ("jobs.lane_timeout", self.lane_timeout == other.lane_timeout),
            ("jobs.external_timeout", self.external_timeout == other.external_timeout),
            ("jobs.nice", self.job_nice == other.job_nice),
            ("jobs.unsafe_host_tools", self.unsafe_host_tools == other.unsafe_host_tools),
            ("jobs.tools", self.tools == other.tools),
            ("jobs.disk_gib", self.job_disk == other.job_disk),
            ("jobs.max_memory_mib", self.job_memory == other.job_memory),
            ("jobs.reach", self.reach == other.reach),
            ("jobs.registry", self.job_registry == other.job_registry),
            ("cluster", self.cluster == other.cluster),
            ("updates", self.updates.default == other.updates.default),
            ("source.updates", self.updates.sources == other.updates.sources),
            ("keep", (&self.keep, self.storage_mib) == (&other.keep, other.storage_mib)),
            ("disk", self.floor == other.floor),
        ]
        .into_iter()
        .filter_map(|(name, is_same)| (!is_same).then_some(name))
        .collect()
    }
}
