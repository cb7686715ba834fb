//! The command line.
//!
//! | module | holds |
//! |---|---|
//! | [`source`] | commands on a source's files: `init`, `check`, `vars`, `plan`, `schema` |
//! | [`rollout`] | simulated rollouts |
//! | [`run`] | commands that build: `run`, `logs`, `update`, `rebuild`, `verdict` |
//! | [`disk`] | disk images of devices |
//! | [`export`] | jobs as objects of other systems |
//! | [`read`] | what is listed and shown: images, releases, channels, sites, sources, the audit trail |
//! | [`user`] | users and logins |
//! | [`serve`] | the server and its jobs |
//! | [`values`] | parsers of option values |

mod device;
mod disk;
mod export;
mod read;
mod rollout;
mod run;
mod serve;
mod source;
#[cfg(test)]
mod tests;
mod user;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::names::{SourceName, VariantName};

use crate::{complete, exit};

pub(crate) use self::device::{DeviceArgs, DeviceCommand, EnrolArgs, FileFormat, FilesArgs};
pub(crate) use self::disk::DiskArgs;
pub(crate) use self::export::{ExportArgs, ExportCommand};
pub(crate) use self::read::{
    AuditArgs, AuditCommand, AuditListArgs, ChannelArgs, ChannelCommand, ImageCommand, ListArgs, PageArgs,
    ReleaseCommand, RowsArgs, SelectionArgs, SiteCommand, SourceCommand,
};
pub(crate) use self::rollout::{
    PromoteArgs, QuarantineCommand, RollbackArgs, RolloutArgs, RolloutCommand, SimulateArgs,
};
pub(crate) use self::run::{
    EvidenceArgs, LogsArgs, RebuildArgs, RunArgs, RunCommand, UpdateArgs, VerdictArgs, VerdictCommand,
    WatchArgs,
};
pub(crate) use self::serve::{DoctorArgs, JobCommand, JobPodArgs, JobRunArgs, ServeArgs, ToolsCommand};
pub(crate) use self::source::{PlanArgs, VarsArgs};
pub(crate) use self::user::{LoginArgs, TokenArgs, UserCommand};

/// Build, test and host operating-system images from a git repository, hands-free.
#[derive(Debug, Parser)]
#[command(name = "edgewright", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Data folder [default: /var/lib/edgewright for root, else ~/.local/share/edgewright]
    #[arg(long, global = true, value_name = "DIR", env = "EDGEWRIGHT_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// Use this server instead of the local data folder, such as http://127.0.0.1:5080
    #[arg(long, global = true, value_name = "URL", env = "EDGEWRIGHT_SERVER", hide_env_values = true)]
    pub(crate) server: Option<String>,
    /// File with the operator's token [default: that of the server on this machine]; for `serve`, the token
    /// that its clients need
    #[arg(long, global = true, value_name = "FILE", env = "EDGEWRIGHT_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// File with certificate authorities (PEM) to trust for the server, besides the system's
    #[arg(long, global = true, value_name = "FILE", env = "EDGEWRIGHT_CA_FILE", hide_env_values = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, or filters such as edgewright_control=debug
    #[arg(long, global = true, value_name = "FILTER", env = "EDGEWRIGHT_LOG", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// Log format
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// Log format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a sample source: a git repository to start from
    #[command(
        after_help = "Examples:\n  edgewright init plants\n  edgewright init --from ../old/Containerfile plants\n  edgewright init --from ../old plants"
    )]
    Init {
        /// Folder to create; an empty one may exist
        dir: PathBuf,
        /// Create a source around this Containerfile and the files beside it, or around all Containerfiles of
        /// this folder, instead of the sample
        #[arg(long, value_name = "CONTAINERFILE|FOLDER")]
        from: Option<PathBuf>,
    },
    /// Print the JSON Schema of a kind of file, for editors
    Schema {
        /// edgewright, image, site or exception [default: all of them]
        kind: Option<String>,
    },
    /// Check a source's files, uncommitted changes included
    #[command(after_help = "Examples:\n  edgewright check\n  edgewright check ../plants --json")]
    Check {
        /// Folder of the source
        #[arg(default_value = ".")]
        dir: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Print a variant's variables, each with where it is set
    #[command(
        after_help = "Examples:\n  edgewright vars hmi/plant-a\n  edgewright vars hmi/plant-a --dir ../plants"
    )]
    Vars(VarsArgs),
    /// Show what a run would build, test, reuse and retire, and why
    #[command(
        after_help = "Examples:\n  edgewright plan\n  edgewright plan --since origin/main\n  edgewright plan hmi/plant-a"
    )]
    Plan(PlanArgs),
    /// Build, test and release a source once, without a server; list, show, watch, cancel and retry runs
    #[command(
        after_help = "Examples:\n  edgewright run\n  edgewright run https://git.example.org/plants.git\n  edgewright run hmi/plant-a --lane container --keep\n  edgewright run --watch\n  edgewright run list\n  edgewright run watch 7\n\nOnly committed files are released: a folder with uncommitted changes is built and tested, and released with --release.\nA folder called `list` is written as ./list."
    )]
    Run(RunArgs),
    /// Follow sources: poll, build, test, release and host them, until stopped
    #[command(
        after_help = "Examples:\n  edgewright serve --source https://git.example.org/plants.git\n  edgewright serve --config /etc/edgewright/edgewright.toml"
    )]
    Serve(ServeArgs),
    /// Show the state of the server, or of the data folder
    Status {
        /// Show the server's reconcilers, too: when each ran last, why, with what result, and when it runs
        /// next
        #[arg(long, short)]
        verbose: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Short for `run list`
    Runs(PageArgs),
    /// Print a job's log
    #[command(
        after_help = "Examples:\n  edgewright logs 7\n  edgewright logs 7 hmi/plant-a --follow\n  edgewright logs -f 7"
    )]
    Logs(LogsArgs),
    /// List what the lanes of a node left behind, or print a piece: journal, failed units, console
    #[command(
        after_help = "Examples:\n  edgewright evidence 7 hmi/plant-a\n  edgewright evidence 7 hmi/plant-a journal\n  edgewright evidence 7 hmi/plant-a journal --output journal.txt"
    )]
    Evidence(EvidenceArgs),
    /// List images, or show one: a variant with what the newest release holds
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Short for `image list`
    Images(ListArgs),
    /// List releases, or show one
    Release {
        #[command(subcommand)]
        command: ReleaseCommand,
    },
    /// Short for `release list`
    Releases(PageArgs),
    /// List, show, hold, resume, pin or unpin channels
    #[command(
        after_help = "Examples:\n  edgewright channel list\n  edgewright channel hold stable --reason \"fault at plant-a\"\n  edgewright channel resume stable\n  edgewright channel pin stable 41 --reason \"42 fails at plant-a\"\n  edgewright channel unpin stable"
    )]
    Channel {
        #[command(subcommand)]
        command: ChannelCommand,
    },
    /// Short for `channel list`
    Channels(ListArgs),
    /// List, show, enrol and change devices
    #[command(
        after_help = "Examples:\n  edgewright device enrol plant-a/press-1\n  edgewright device enrol plant-a/press-1 --out ./press-1\n  edgewright device enrol plant-a --any-slot --uses 20 --label line=3 --approval\n  edgewright device show dev-4f1c9a02b7de5566\n  edgewright device hold dev-4f1c9a02b7de5566 --reason \"repair\"\n  edgewright device revoke dev-4f1c9a02b7de5566 --reason \"stolen\""
    )]
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Short for `device list`
    Devices(ListArgs),
    /// List rollouts, show one, or give it an order; simulate one
    #[command(
        after_help = "Examples:\n  edgewright rollout show stable\n  edgewright rollout explain stable\n  edgewright rollout approve stable\n  edgewright rollout resume 7"
    )]
    Rollout {
        #[command(subcommand)]
        command: RolloutCommand,
    },
    /// Short for `rollout list`
    Rollouts(PageArgs),
    /// Move a channel to a newer release before its turn
    #[command(after_help = "Examples:\n  edgewright promote stable 42 --reason \"fix for plant-a\"")]
    Promote(PromoteArgs),
    /// Move a channel back: a new release with the former digests; what they replace is quarantined, and the
    /// channel is held
    #[command(
        after_help = "Examples:\n  edgewright rollback stable --reason \"presses stop\"\n  edgewright rollback stable --to 40 --reason \"presses stop since 41\""
    )]
    Rollback(RollbackArgs),
    /// List quarantined digests, or clear one
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// List sites, or show one
    Site {
        #[command(subcommand)]
        command: SiteCommand,
    },
    /// Short for `site list`
    Sites(ListArgs),
    /// List sources, or poll one now
    Source {
        #[command(subcommand)]
        command: SourceCommand,
    },
    /// Short for `source poll`
    Poll {
        /// Name of the source
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        source: SourceName,
    },
    /// List who changed what, newest first; verify or export the trail
    #[command(
        after_help = "Examples:\n  edgewright audit --object plants/channels/stable\n  edgewright audit --actor operator:token --since 2026-01-31T08:00:00Z --json\n  edgewright audit verify"
    )]
    Audit(AuditArgs),
    /// List, add or remove users of the server; issue or revoke their tokens
    #[command(
        after_help = "Examples:\n  edgewright user add anna --role operator:source=plants\n  edgewright user token anna > token"
    )]
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Log in at the server's login provider
    #[command(after_help = "Examples:\n  edgewright login\n  edgewright login --device")]
    Login(LoginArgs),
    /// Forget the login at the server
    Logout,
    /// Show who this client is to the server, with which roles
    Whoami {
        #[command(flatten)]
        format: Format,
    },
    /// Rebuild a released image without the mirror and compare: proved or refuted
    #[command(after_help = "Examples:\n  edgewright rebuild hmi/plant-a\n  edgewright rebuild f0d6f73c87d0")]
    Rebuild(RebuildArgs),
    /// Resolve locks again: newest packages and base images; show what moved
    #[command(
        after_help = "Examples:\n  edgewright update\n  edgewright update base --write\n  edgewright update --source plants"
    )]
    Update(UpdateArgs),
    /// Enter a machine that `run --keep` left running
    #[command(
        after_help = "Examples:\n  edgewright shell\n  edgewright shell hmi/plant-a -- systemctl --failed\n  edgewright shell --rm"
    )]
    Shell {
        /// Variant of the machine; not needed if only one is kept
        #[arg(add = ArgValueCompleter::new(complete::variants))]
        variant: Option<VariantName>,
        /// Remove it (without VARIANT: all of them)
        #[arg(long, conflicts_with = "command")]
        rm: bool,
        /// Command to run in it instead of a shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Make the disk of a device, in a virtual machine of the image
    #[command(
        after_help = "Examples:\n  edgewright disk hmi/plant-a --output hmi.raw --ssh-key ~/.ssh/id_ed25519.pub\n  edgewright disk --slot plant-a/press-1 --output press-1.raw --agent-config agent.toml\n  edgewright disk quay.io/example/os:1 --format qcow2 --size 16GiB --output os.qcow2 --agent-config agent.toml --auth-file auth.json"
    )]
    Disk(Box<DiskArgs>),
    /// Print the jobs of a variant as objects of another system
    Export {
        #[command(subcommand)]
        command: ExportCommand,
    },
    /// Show or change the client's configuration: the server that commands use, its token and its authorities
    #[command(after_help = crate::client_config::HELP)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print completions for a shell, such as `source <(edgewright completions bash)`
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// Folder; created if it does not exist
        dir: PathBuf,
    },
    /// Copy both databases into a file, also while a server runs; copy the blobs after it
    Backup {
        /// File to create
        file: PathBuf,
    },
    /// Fill an empty data folder from a backup
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Post verdicts of other systems, for the lane `external`
    Verdict {
        #[command(subcommand)]
        command: VerdictCommand,
    },
    /// Show what this machine offers for builds and tests, and what to do about gaps
    #[command(after_help = "Examples:\n  edgewright doctor\n  edgewright doctor --json")]
    Doctor(DoctorArgs),
    /// The tool image, with whose programs sandboxed jobs work
    #[command(after_help = "Examples:\n  edgewright tools update\n  edgewright tools show")]
    Tools {
        #[command(subcommand)]
        command: ToolsCommand,
    },
    /// Execute a job order from standard input; started by control
    #[command(hide = true)]
    Job {
        #[command(subcommand)]
        command: JobCommand,
    },
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the file and its settings
    Show,
    /// Set a value
    Set {
        /// server, token_file or ca_file
        #[arg(value_parser = values::words(&crate::client_config::KEYS))]
        key: String,
        /// Value; paths are stored as absolute paths
        value: String,
    },
    /// Remove a value
    Unset {
        /// server, token_file or ca_file
        #[arg(value_parser = values::words(&crate::client_config::KEYS))]
        key: String,
    },
}

/// Output format.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Format {
    /// Print a JSON document instead of text; docs/reference/json.md describes it
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands that use no server: its options are not part of their help.
const LOCAL: [&str; 13] = [
    "doctor",
    "tools",
    "init",
    "schema",
    "check",
    "vars",
    "plan",
    "shell",
    "config",
    "completions",
    "man",
    "backup",
    "restore",
];
/// The options by which commands find a server.
const OF_SERVERS: [&str; 3] = ["server", "token_file", "ca_file"];

/// The command line with global options where they belong: `-h` of a subcommand leaves them out, and commands
/// that use no server do not name one.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    let globals: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let is_local = LOCAL.contains(&name.as_str());
        let own = globals.iter().cloned().map(|arg| {
            let is_of_servers = OF_SERVERS.contains(&arg.get_id().as_str());
            arg.hide_short_help(true).hide(is_local && is_of_servers)
        });
        command = command.mut_subcommand(name, |sub| sub.args(own));
    }
    command
}

/// Parses a command line. `--help` and `--version` are errors, too, which print to standard output.
pub(crate) fn parse(line: Vec<OsString>) -> Result<Cli, clap::Error> {
    let parsed = command().try_get_matches_from(&line);
    let matches: ArgMatches = parsed.map_err(|error| without_environment(line, error))?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
}

/// The same usage error without options that the environment gave: its usage line would name them as if they
/// had been typed.
fn without_environment(line: Vec<OsString>, error: clap::Error) -> clap::Error {
    fn bare(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.env(None)).mut_subcommands(bare)
    }
    match bare(command()).try_get_matches_from(line) {
        Err(other) if other.kind() == error.kind() => other,
        _ => error,
    }
}
