//! `[server]`, `[access]` and `[jobs]`: where the server listens, who may read, and what jobs may take.

use std::net::SocketAddr;
use std::path::PathBuf;

use edgewright_control::ControlSettings;
use edgewright_model::duration::Span;
use serde::Deserialize;

use super::described::described;
use super::oidc::OidcOptions;
use super::on_change::OnChange;
use super::{DEFAULT_LISTEN, SettingsError};
use crate::tls::TlsSettings;

/// The processor priority of a server's jobs by default.
pub(super) const DEFAULT_NICE: u8 = 10;
/// The most that one job may write by default, in GiB.
pub(super) const DEFAULT_DISK_GIB: u32 = 64;
/// The most memory of a sandboxed job by default, in MiB.
pub(super) const DEFAULT_MAX_MEMORY_MIB: u32 = 4096;
/// Where the tool image is by default.
pub const DEFAULT_TOOLS: &str = "/var/cache/edgewright/tools";
/// The lowest processor priority that the kernel has.
pub(super) const MAX_NICE: u8 = 19;

described! {
    /// `[server]`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct ServerOptions: "server", layered {
        /// Address and port of the registry and the API, without TLS. Port 0 takes any free port.
        pub listen: Option<SocketAddr> { Restart, default: DEFAULT_LISTEN, flag: "--listen" }
        /// The data folder: databases, images, logs, caches and clones.
        pub data: Option<PathBuf> {
            Restart,
            default: "/var/lib/edgewright for root, otherwise ~/.local/share/edgewright",
            example: "\"/var/lib/edgewright\"",
            flag: "--data"
        }
        /// How clients reach the registry and the API, if not at the listening address: `HOST[:PORT]`, or
        /// `https://HOST[:PORT]` behind a proxy that terminates TLS.
        pub address: Option<String> {
            Restart,
            default: "the listening address; with `tls_listen`, that one",
            example: "\"https://images.example.org\"",
            flag: "--address"
        }
        /// Address and port of the same services with TLS, besides `listen`.
        pub tls_listen: Option<SocketAddr> {
            Restart,
            default: "none",
            range: "needs `tls_certificate_file` and `tls_key_file`",
            example: "\"0.0.0.0:443\""
        }
        /// File with the TLS certificate and the intermediate certificates up to its authority (PEM, the
        /// server's own first).
        pub tls_certificate_file: Option<PathBuf> {
            Reload,
            default: "none",
            example: "\"/etc/edgewright/tls/fullchain.pem\""
        }
        /// File with the private key of the certificate (PEM).
        pub tls_key_file: Option<PathBuf> {
            Reload,
            default: "none",
            example: "\"/etc/edgewright/tls/key.pem\""
        }
        /// What happens when this file, or a secret or certificate that it names, has other content.
        /// `signal`: nothing before a SIGHUP. `reload`: it is read again within seconds. `restart`: also, if
        /// a change needs a restart, the server ends in order, for Kubernetes to start it again.
        pub on_change: Option<OnChange> { Reload, default: "signal" }
    }
}

described! {
    /// `[access]`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct AccessOptions: "access", layered {
        /// File with the operator's token: one line of at least 16 characters.
        pub token_file: Option<PathBuf> {
            Reload,
            default: "`operator-token` in the data folder, created at the first start",
            example: "\"/etc/edgewright/token\"",
            flag: "--token-file"
        }
        /// Whether clients may read without a token. `/healthz` and `/readyz` never need one; writing always
        /// does.
        pub anonymous: Option<bool> { Reload, default: "true" }
        /// An OpenID Connect provider with which users log in.
        pub oidc: Option<OidcOptions> { Reload, default: "none" }
    }
}

/// Control's own time limits, for the defaults of the reference.
fn limits() -> ControlSettings {
    ControlSettings::new(PathBuf::new())
}

described! {
    /// `[jobs]`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct JobOptions: "jobs", layered {
        /// How many jobs run at the same time.
        pub parallel: Option<u16> {
            Restart,
            default: format!("the number of cores, at most {}, and no more than fit into available memory", super::MAX_DEFAULT_JOBS),
            range: "1 to 65535",
            flag: "--jobs"
        }
        /// How many jobs of untrusted refs, such as pull requests, run beside them. Sources take turns.
        pub untrusted_slots: Option<u16> { Restart, default: "1", range: "1 to 65535", example: "2" }
        /// Time limit of one job: all its steps and lanes.
        pub timeout: Option<Span>, was "within" {
            Restart,
            default: limits().job_within.to_string(),
            example: "\"2h\""
        }
        /// Time limit of one lane, boot included. A check with a longer timeout raises it.
        pub lane_timeout: Option<Span>, was "lane_within" {
            Restart,
            default: limits().lane_within.to_string(),
            example: "\"10m\""
        }
        /// How long a run waits for a verdict in the lane `external` of images that set no time limit of
        /// their own.
        pub external_timeout: Option<Span>, was "external_within" {
            Restart,
            default: limits().external_within.to_string(),
            example: "\"24h\""
        }
        /// Memory that one job is expected to need, in MiB. It bounds `parallel` if that is not set.
        pub memory_mib: Option<u32> { Restart, default: "1024", range: "MiB", example: "1024" }
        /// The most that one job may write to disk, in GiB. No job may take more than half of the space that
        /// is free when it starts.
        pub disk_gib: Option<u32> { Restart, default: DEFAULT_DISK_GIB.to_string(), range: "GiB", example: "128" }
        /// The most memory that one sandboxed job may take, in MiB. The kernel ends a process of a job that
        /// takes more.
        pub max_memory_mib: Option<u32> {
            Restart,
            default: DEFAULT_MAX_MEMORY_MIB.to_string(),
            range: "MiB",
            example: "8192"
        }
        /// Processor priority of jobs, as for `nice`: 0 is the server's own, 19 the lowest. The disk priority
        /// follows from it. `edgewright run` uses 0 by default.
        pub nice: Option<u8> { Restart, default: DEFAULT_NICE.to_string(), range: "0 to 19" }
        /// Whether jobs that start programs run with the tools and files of this host, as root, instead of in
        /// sandboxes. Everyone who can change a definition or a base image is then root on this host.
        pub unsafe_host_tools: Option<bool> { Restart, default: "false", flag: "--unsafe-host-tools" }
        /// Folder of the tool image, with whose programs sandboxed jobs work. The first start makes it.
        pub tools: Option<PathBuf> {
            Restart,
            default: DEFAULT_TOOLS,
            example: "\"/srv/edgewright/tools\"",
            flag: "--tools"
        }
        /// Addresses of this host that sandboxed jobs reach: `HOST:PORT`, such as a package cache on
        /// loopback. The registry of the server, and registries of base images, are reached without that.
        pub reach: Option<Vec<String>> { Restart, default: "none", example: "[\"127.0.0.1:3142\"]" }
        /// Base URL of the registry as jobs reach it.
        pub registry: Option<String> {
            Restart,
            default: "the listening address, as this machine reaches it",
            range: "http:// or https://",
            example: "\"https://hub.example.org:5443\""
        }
    }
}

impl ServerOptions {
    /// The TLS listener; none without one.
    pub(super) fn tls(&self) -> Result<Option<TlsSettings>, SettingsError> {
        match (self.tls_listen, &self.tls_certificate_file, &self.tls_key_file) {
            (None, None, None) => Ok(None),
            (Some(listen), Some(certificate), Some(key)) => {
                Ok(Some(TlsSettings { listen, certificate: certificate.clone(), key: key.clone() }))
            }
            _ => Err(SettingsError::IncompleteTls),
        }
    }
}
