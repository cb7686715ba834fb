//! Arguments of the server and of its jobs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use edgewright_model::duration::Span;
use edgewright_model::order::JobId;
use edgewright_server::Options;
use edgewright_server::settings::{ServerOptions, SourceOptions};

use super::{Format, values};

/// `tools …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// Make the tool image, or make it again with the newest packages
    Update {
        /// Folder of the tool image
        #[arg(long = "tools", alias = "dir", value_name = "DIR", env = "EDGEWRIGHT_TOOLS", hide_env_values = true, default_value = edgewright_server::settings::DEFAULT_TOOLS)]
        dir: PathBuf,
        /// Only if there is none that this version can use
        #[arg(long)]
        if_needed: bool,
    },
    /// Show the programs of the tool image with their versions
    Show {
        /// Folder of the tool image
        #[arg(long = "tools", alias = "dir", value_name = "DIR", env = "EDGEWRIGHT_TOOLS", hide_env_values = true, default_value = edgewright_server::settings::DEFAULT_TOOLS)]
        dir: PathBuf,
    },
}

/// `job …`.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Read one order, execute it, write events and the outcome
    Run(JobRunArgs),
    /// In a Pod: read one order from a file, execute it, write events as frames to the log
    Pod(JobPodArgs),
    /// In a Pod: print the versions of the programs that decide about the bytes of images, as JSON
    Tools,
    /// In a Pod: write the check runner to a file
    InstallRunner {
        /// The file
        path: PathBuf,
    },
}

/// `job pod`.
#[derive(Debug, Args)]
pub(crate) struct JobPodArgs {
    /// File with the order
    #[arg(long, value_name = "FILE")]
    pub(crate) order: PathBuf,
    /// File that gets the digest of the outcome
    #[arg(long, value_name = "FILE")]
    pub(crate) report: PathBuf,
    /// File that gets the digest of the manifest that was built
    #[arg(long, value_name = "FILE")]
    pub(crate) digest: Option<PathBuf>,
    /// Folder for scratch files, container storage and caches
    #[arg(long, value_name = "DIR")]
    pub(crate) work: PathBuf,
    /// Build secret and the file with its bytes; may be repeated
    #[arg(long, value_name = "ID=FILE")]
    pub(crate) secret: Vec<String>,
    /// Folder of base images, shared with other jobs of its trust domain on this node
    #[arg(long, value_name = "DIR")]
    pub(crate) bases: Option<PathBuf>,
    /// Make the order's image a machine for KubeVirt, and push that
    #[arg(long)]
    pub(crate) machine: bool,
}

/// `job run`.
#[derive(Debug, Args)]
pub(crate) struct JobRunArgs {
    /// Folder for scratch files, container storage and caches
    #[arg(long, value_name = "DIR")]
    pub(crate) work: PathBuf,
    /// Build secret and the file with its bytes; may be repeated
    #[arg(long, value_name = "ID=FILE")]
    pub(crate) secret: Vec<String>,
    /// Niceness, from 0 to 19
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub(crate) nice: u8,
    /// Size of container storage to keep, in MiB; the least recently used is removed first
    #[arg(long, value_name = "MIB", default_value_t = edgewright_server::DEFAULT_STORAGE_MIB)]
    pub(crate) storage_mib: u64,
    /// The job is in a sandbox
    #[arg(long)]
    pub(crate) sandboxed: bool,
    /// Tool image with QEMU, for a host without
    #[arg(long, value_name = "DIR")]
    pub(crate) tools: Option<PathBuf>,
    /// Folder with the host's `os-release` and apt sources
    #[arg(long, value_name = "DIR", default_value = "/etc")]
    pub(crate) host_etc: PathBuf,
    /// Killed job of the same work folder, whose containers are removed first; may be repeated
    #[arg(long, value_name = "JOB")]
    pub(crate) killed: Vec<JobId>,
    /// Address of the host and the socket to which its connections go; may be repeated
    #[arg(long, value_name = "ADDR=SOCKET")]
    pub(crate) forward: Vec<String>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Settings file (TOML) [default: that of `serve`]
    #[arg(long, value_name = "FILE", env = "EDGEWRIGHT_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Image of jobs in the cluster, as for `serve`
    #[arg(long, value_name = "IMAGE", env = "EDGEWRIGHT_CLUSTER_IMAGE", hide_env_values = true)]
    pub(crate) cluster_image: Option<String>,
    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Where jobs run: for every command that starts some.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct IsolationArgs {
    /// Folder of the tool image, with whose programs jobs work; made if it is missing [default:
    /// /var/cache/edgewright/tools]
    #[arg(long, value_name = "DIR", env = "EDGEWRIGHT_TOOLS", hide_env_values = true)]
    pub(crate) tools: Option<PathBuf>,
    /// Run jobs with the tools and files of this host, as root, instead of in sandboxes: only if every
    /// definition and base image is trusted
    #[arg(long)]
    pub(crate) unsafe_host_tools: bool,
}

/// `serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Settings file (TOML) [default: /etc/edgewright/edgewright.toml if it exists]
    #[arg(long, value_name = "FILE", env = "EDGEWRIGHT_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Address and port for registry and API [default: 127.0.0.1:5080]
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    pub(crate) listen: Option<SocketAddr>,
    /// HOST:PORT by which clients reach the registry [default: the listening address]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// Source to follow, besides those of the settings file; may be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) source: Vec<String>,
    /// Poll interval of sources without one of their own [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) poll: Option<Span>,
    /// Number of jobs at once [default: by cores and memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Image of jobs in the cluster, by digest [default: that of the settings file]
    #[arg(long, value_name = "IMAGE", env = "EDGEWRIGHT_CLUSTER_IMAGE", hide_env_values = true)]
    pub(crate) cluster_image: Option<String>,
    /// Build secret and the file with its bytes, besides those of the settings file; may be repeated
    #[arg(long, value_name = "ID=FILE", value_parser = values::secret)]
    pub(crate) secret: Vec<(String, PathBuf)>,
    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,
}

impl ServeArgs {
    /// The flags as a layer of settings.
    pub(crate) fn options(&self, data: Option<PathBuf>) -> Options {
        let mut options = Options {
            server: ServerOptions {
                listen: self.listen,
                data,
                address: self.address.clone(),
                ..ServerOptions::default()
            },
            source: self.source.iter().map(|url| SourceOptions::new(url.clone())).collect(),
            ..Options::default()
        };
        options.jobs.parallel = self.jobs;
        options.cluster.image.clone_from(&self.cluster_image);
        options.jobs.tools.clone_from(&self.isolation.tools);
        options.jobs.unsafe_host_tools = self.isolation.unsafe_host_tools.then_some(true);
        options.secrets = self.secret.iter().cloned().collect();
        options
    }
}
