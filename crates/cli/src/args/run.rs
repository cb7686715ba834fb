//! Arguments of commands that build, test and follow what is built.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::{ImageName, Platform, SourceName, VariantName};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;

use super::read::PageArgs;
use super::serve::{IsolationArgs, ServeArgs};
use super::{Format, SelectionArgs, values};
use crate::complete;

/// `run`: a target, or a command on runs.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunCommand>,
    /// Folder or git URL of the source [default: .], or a variant: short for `--only VARIANT`
    #[arg(value_name = "DIR|URL|VARIANT", add = ArgValueCompleter::new(complete::variants_and_paths))]
    pub(crate) target: Option<String>,
    /// Folder or git URL of the source
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) dir: Option<String>,
    /// Resolve all locks again first: newest packages and base images
    #[arg(long)]
    pub(crate) update: bool,
    /// Release a folder with uncommitted changes, too
    #[arg(long, conflicts_with_all = ["only", "lane", "keep", "branch"])]
    pub(crate) release: bool,
    /// Rebuild what was built, and compare the digests
    #[arg(long)]
    pub(crate) verify_reproducible: bool,
    /// Branch to build, committed files only [default: of a folder the checked-out one, of a URL the remote's
    /// default]
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// Number of jobs at once [default: by cores and memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Run only these variants and their parent images; no release is made
    #[arg(long, value_name = "VARIANT", num_args = 1.., conflicts_with_all = ["update"], add = ArgValueCompleter::new(complete::variants))]
    pub(crate) only: Vec<VariantName>,
    /// Run only these lanes, even if their verdicts are known; no release is made
    #[arg(long, value_name = "LANE", value_parser = values::lane, conflicts_with_all = ["update"])]
    pub(crate) lane: Vec<Lane>,
    /// Leave the machines of the container and vm lanes running, for `edgewright shell`; no release is made
    #[arg(long, conflicts_with_all = ["update"])]
    pub(crate) keep: bool,
    /// Run again at every change of the folder's files, until stopped; no release is made unless --release is
    /// given
    #[arg(long, conflicts_with_all = ["branch", "update", "json"])]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What jobs work with if no server runs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WorkArgs {
    /// Settings file (TOML): its jobs, build secrets, disk and caches are used [default: that of `serve`]
    #[arg(long, value_name = "FILE", env = "EDGEWRIGHT_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Build secret and the file with its bytes, besides those of the settings file; may be repeated
    #[arg(long, value_name = "ID=FILE", value_parser = values::secret)]
    pub(crate) secret: Vec<(String, PathBuf)>,
    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,
}

impl WorkArgs {
    /// As settings of a server on a free port of this machine, which lives as long as the command.
    pub(crate) fn serve(&self, jobs: Option<u16>) -> ServeArgs {
        let listen = Some(([127, 0, 0, 1], 0).into());
        let Self { config, secret, isolation } = self.clone();
        ServeArgs { config, listen, jobs, secret, isolation, ..ServeArgs::default() }
    }
}

/// `run …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List runs, newest first
    List(PageArgs),
    /// Show a run: its plan with reasons, the state of each node, why something failed
    Show {
        /// Number of the run
        #[arg(value_parser = values::number::<RunNumber>, add = ArgValueCompleter::new(complete::runs))]
        number: RunNumber,
        /// Print Markdown, for a comment on a pull request
        #[arg(long, conflicts_with = "json")]
        comment: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Follow a run, or poll a source and follow the run of a commit; exit with the code of the run
    #[command(
        after_help = "Examples:\n  edgewright run watch 7\n  edgewright run watch --source plants\n  edgewright run watch --source plants --commit 4f1c2d3 --logs --results out"
    )]
    Watch(WatchArgs),
    /// Cancel a run on the server: its jobs end, what was recorded is kept
    Cancel {
        /// Number of the run
        #[arg(value_parser = values::number::<RunNumber>, add = ArgValueCompleter::new(complete::runs))]
        number: RunNumber,
    },
    /// Run a run's commit again on the server: what failed is tried again
    Retry {
        /// Number of the run
        #[arg(value_parser = values::number::<RunNumber>, add = ArgValueCompleter::new(complete::runs))]
        number: RunNumber,
    },
}

/// `run watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Number of the run
    #[arg(value_parser = values::number::<RunNumber>, required_unless_present = "source", conflicts_with_all = ["source", "branch", "commit", "appears_within", "retry"], add = ArgValueCompleter::new(complete::runs))]
    pub(crate) number: Option<RunNumber>,
    /// Poll this source on the server, and follow the run of a commit
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::sources))]
    pub(crate) source: Option<SourceName>,
    /// Branch of the source [default: the one that it follows]
    #[arg(long, value_name = "NAME", requires = "source")]
    pub(crate) branch: Option<String>,
    /// Commit id; 7 digits are enough [default: the newest commit of the branch]
    #[arg(long, value_name = "COMMIT", requires = "source", value_parser = values::commit)]
    pub(crate) commit: Option<String>,
    /// How long the server may take to see the commit
    #[arg(long, value_name = "TIME", requires = "source", default_value = "5m")]
    pub(crate) appears_within: Span,
    /// Run the commit again if its last run failed or was cancelled
    #[arg(long, requires = "source")]
    pub(crate) retry: bool,
    /// Print the logs of its jobs, each line with its node
    #[arg(long, conflicts_with = "json")]
    pub(crate) logs: bool,
    /// Cancel the run on Ctrl-C or SIGTERM; otherwise it continues
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Folder to write results to, one file each: run, state, commit, release, digests
    #[arg(long, value_name = "DIR")]
    pub(crate) results: Option<PathBuf>,
    /// Variants in the result `digests` [default: all of the release]
    #[arg(long, value_name = "VARIANT", num_args = 1.., requires = "results", add = ArgValueCompleter::new(complete::variants))]
    pub(crate) variant: Vec<VariantName>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Number of the run
    #[arg(value_parser = values::number::<RunNumber>, add = ArgValueCompleter::new(complete::runs))]
    pub(crate) run: RunNumber,
    /// Node, such as hmi/plant-a or `lock base` [default: the failed, else the running, else the first one
    /// with a log; with --follow: all]
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    pub(crate) node: Option<String>,
    /// Print what is added until the job ends; without NODE, follow all jobs of the run, each line with its
    /// node
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// `evidence`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArgs {
    /// Number of the run
    #[arg(value_parser = values::number::<RunNumber>, add = ArgValueCompleter::new(complete::runs))]
    pub(crate) run: RunNumber,
    /// Node, such as hmi/plant-a
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    pub(crate) node: String,
    /// Piece to print, such as journal; without it, they are listed
    pub(crate) name: Option<String>,
    /// Only of this lane
    #[arg(long, value_name = "LANE", value_parser = values::lane)]
    pub(crate) lane: Option<Lane>,
    /// Only of this platform, such as linux/amd64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// File to write the piece to, instead of printing it
    #[arg(long, short, value_name = "FILE", requires = "name")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `rebuild`.
#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// Digest (12 digits are enough), or variant such as hmi/plant-a
    #[arg(value_name = "DIGEST|VARIANT", add = ArgValueCompleter::new(complete::variants))]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Images [default: all with an external base or a `bootstrap` step]
    #[arg(add = ArgValueCompleter::new(complete::images))]
    pub(crate) image: Vec<ImageName>,
    /// Folder or git URL of the source; nothing is built, the next `run` does it
    #[arg(long, value_name = "DIR|URL", default_value = ".")]
    pub(crate) dir: String,
    /// Source of the server instead, which builds, tests and releases what moved
    #[arg(long, value_name = "NAME", conflicts_with_all = ["dir", "write"], add = ArgValueCompleter::new(complete::sources))]
    pub(crate) source: Option<SourceName>,
    /// Write `images/IMAGE/edgewright.lock` into the folder, to be committed
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `verdict …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VerdictCommand {
    /// Post what another system found about a digest; a run that waits for it continues
    Post(VerdictArgs),
}

/// `verdict post`.
#[derive(Debug, Args)]
pub(crate) struct VerdictArgs {
    /// Digest of the platform manifest, as `run show` and `image show` print it; 12 digits are enough
    pub(crate) digest: String,
    /// The image passed
    #[arg(long, conflicts_with = "failed", required_unless_present = "failed")]
    pub(crate) passed: bool,
    /// The image failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// What was found, in a line
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Page with more about it
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Check set that was asked for [default: the one that a run waits for]
    #[arg(long, value_name = "DIGEST")]
    pub(crate) check_set: Option<Digest>,
    /// Folder to write results to, one file each: run, awaited-by
    #[arg(long, value_name = "DIR")]
    pub(crate) results: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}
