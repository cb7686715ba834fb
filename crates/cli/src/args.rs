//! The command line. Help texts say what a command does, in the words of the glossary.

mod operate;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::{ImageName, SourceName, VariantName};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;
use edgewright_server::Options;
use edgewright_server::settings::{ServerOptions, SourceOptions};

use crate::exit;

pub(crate) use self::operate::{AuditArgs, ChannelCommand, SiteCommand};

/// From a git commit to tested, hosted operating-system images, with no hand in between.
#[derive(Debug, Parser)]
#[command(name = "edgewright", version, after_help = exit::HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct Global {
    /// Data folder [default: /var/lib/edgewright for root, else ~/.local/share/edgewright]
    #[arg(long, global = true, value_name = "DIR", env = "EDGEWRIGHT_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// Read from this server instead of the local data folder, such as http://127.0.0.1:5080
    #[arg(long, global = true, value_name = "URL", env = "EDGEWRIGHT_SERVER", hide_env_values = true)]
    pub(crate) server: Option<String>,
    /// File with the operator's token [default: the one that the server on this machine made]; for `serve`, the one that
    /// its clients need
    #[arg(long, global = true, value_name = "FILE", env = "EDGEWRIGHT_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, or filters such as edgewright_control=debug
    #[arg(long, global = true, value_name = "FILTER", env = "EDGEWRIGHT_LOG", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// How to log
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// How to log.
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
    /// Make a sample source: a git repository to start from
    #[command(
        after_help = "Examples:\n  edgewright init plants\n  edgewright init --from ../old/Containerfile plants"
    )]
    Init {
        /// A folder that is empty or does not exist
        dir: PathBuf,
        /// Make a source around this Containerfile and the files beside it, instead of the sample
        #[arg(long, value_name = "CONTAINERFILE")]
        from: Option<PathBuf>,
    },
    /// Print the JSON Schema of a kind of file, for editors
    Schema {
        /// edgewright, image, site or exception; all of them where absent
        kind: Option<String>,
    },
    /// Say all that is wrong with a source's files, uncommitted changes included
    #[command(after_help = "Examples:\n  edgewright check\n  edgewright check ../plants --json")]
    Check {
        /// The source's folder
        #[arg(default_value = ".")]
        dir: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Print a variant's variables, each with where it is set
    Vars {
        /// The variant, such as hmi/plant-a
        variant: VariantName,
        /// The source's folder
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Say what a run would build, test, reuse and retire, and why
    #[command(
        after_help = "Examples:\n  edgewright plan\n  edgewright plan --since origin/main\n  edgewright plan --explain hmi/plant-a"
    )]
    Plan(PlanArgs),
    /// Build, test and release a source once, without a server
    #[command(
        after_help = "Examples:\n  edgewright run\n  edgewright run https://git.example.org/plants.git\n  edgewright run hmi/plant-a --lane container --keep\n  edgewright run --watch"
    )]
    Run(RunArgs),
    /// Follow sources: poll, build, test, release and host, until stopped
    #[command(
        after_help = "Examples:\n  edgewright serve --source https://git.example.org/plants.git\n  edgewright serve --config /etc/edgewright/edgewright.toml"
    )]
    Serve(ServeArgs),
    /// How the server, or the data folder, is doing
    Status {
        /// Show the server's reconcilers, too: what runs again and again, when, why, and what came of it
        #[arg(long, short)]
        verbose: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List runs, newest first
    Runs {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print a job's log
    #[command(after_help = "Examples:\n  edgewright logs 7\n  edgewright logs 7 hmi/plant-a --follow")]
    Logs {
        /// The run's number
        run: RunNumber,
        /// The node, such as hmi/plant-a, or `lock base`; the failed, else the running, else the first one with a log
        node: Option<String>,
        /// Print what is added, until the job ends
        #[arg(long, short)]
        follow: bool,
    },
    /// List variants with what the newest release holds
    Images {
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
    /// One variant
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// List releases, newest first
    Releases {
        #[command(flatten)]
        list: ListArgs,
    },
    /// List channels with the release that each holds
    Channels {
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
    /// Hold, resume, pin or unpin a channel
    #[command(
        after_help = "Examples:\n  edgewright channel hold stable --reason \"fault at plant-a\"\n  edgewright channel resume stable\n  edgewright channel pin stable 41 --reason \"42 fails at plant-a\"\n  edgewright channel unpin stable"
    )]
    Channel {
        #[command(subcommand)]
        command: ChannelCommand,
    },
    /// List the sites that default branches declare
    Sites {
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
    /// One site
    Site {
        #[command(subcommand)]
        command: SiteCommand,
    },
    /// List who changed what, newest first
    #[command(
        after_help = "Examples:\n  edgewright audit --object plants/channels/stable\n  edgewright audit --actor operator:token --since 2026-01-31T08:00:00Z --json"
    )]
    Audit(AuditArgs),
    /// Build what was built again, without the mirror, and compare: proved or refuted
    Rebuild(RebuildArgs),
    /// Resolve locks anew: newest packages and base images; say what moved
    Update(UpdateArgs),
    /// Enter a machine that `run --keep` left running
    #[command(
        after_help = "Examples:\n  edgewright shell\n  edgewright shell hmi/plant-a -- systemctl --failed\n  edgewright shell --rm"
    )]
    Shell {
        /// Its variant; may be left out where one is kept
        variant: Option<VariantName>,
        /// Remove it (without VARIANT: all of them)
        #[arg(long, conflicts_with = "command")]
        rm: bool,
        /// A command to run in it instead of a shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Print completions for a shell, such as `source <(edgewright completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// The folder; it is made where it is missing
        dir: PathBuf,
    },
    /// Copy both databases into a file, also while a server runs; blobs are copied after it
    Backup {
        /// A file that does not exist
        file: PathBuf,
    },
    /// Fill an empty data folder from a backup
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Ask the server to poll a source now
    Poll {
        /// The source
        source: SourceName,
    },
    /// Verdicts of other systems, in the lane `external`
    Verdict {
        #[command(subcommand)]
        command: VerdictCommand,
    },
    /// Execute a job order from standard input; started by control
    #[command(hide = true)]
    Job {
        #[command(subcommand)]
        command: JobCommand,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Print the stable JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which source.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<SourceName>,
}

/// A list that grows.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = edgewright_api::routes::DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The source's folder
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// As if this commit had been built, instead of what the data folder knows
    #[arg(long, value_name = "REV")]
    pub(crate) since: Option<String>,
    /// Show what is reused, too; with --explain, every change however many they are
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Instead, every step of a variant: its key, who shares it, and all that changed in it since then: paths, variables,
    /// packages, arguments, base
    #[arg(long, value_name = "VARIANT")]
    pub(crate) explain: Option<VariantName>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `run`: a target, or `show`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunCommand>,
    /// The source: a folder as it stands, uncommitted files included, or a git URL; or a variant of the source in this
    /// folder, which is then short for `--only VARIANT`
    #[arg(value_name = "DIR|URL|VARIANT", default_value = ".")]
    pub(crate) target: String,
    /// Resolve all locks anew first: newest packages and base images
    #[arg(long)]
    pub(crate) update: bool,
    /// Build again what was built, and compare the digests
    #[arg(long)]
    pub(crate) verify_reproducible: bool,
    /// The branch to build, committed files only [default: of a folder the checked-out one, of a URL the remote's default]
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// How many jobs at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Only these variants and what they stand on; tested as asked, no release is made
    #[arg(long, value_name = "VARIANT", num_args = 1.., conflicts_with_all = ["update"])]
    pub(crate) only: Vec<VariantName>,
    /// Only these lanes, whatever verdicts are known already; no release is made
    #[arg(long, value_name = "LANE", value_parser = lane, conflicts_with_all = ["update"])]
    pub(crate) lane: Vec<Lane>,
    /// Leave the machines of the container lane running, to be entered with `edgewright shell`; no release is made
    #[arg(long, conflicts_with_all = ["update"])]
    pub(crate) keep: bool,
    /// Run again whenever a file of the folder changes, until stopped
    #[arg(long, conflicts_with_all = ["branch", "update", "json"])]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What jobs work with where no server runs.
#[derive(Debug, Default, Args)]
pub(crate) struct WorkArgs {
    /// Settings file (TOML): what it says of jobs, build secrets, disk and caches [default: the one of `serve`]
    #[arg(long, value_name = "FILE", env = "EDGEWRIGHT_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// A build secret and the file with its bytes, besides those of the settings file; may be given several times
    #[arg(long, value_name = "ID=FILE", value_parser = secret)]
    pub(crate) secret: Vec<(String, PathBuf)>,
}

impl WorkArgs {
    /// As settings of a server on a free port of this machine, which lives as long as the command.
    pub(crate) fn serve(&self, jobs: Option<u16>) -> ServeArgs {
        let listen = Some(([127, 0, 0, 1], 0).into());
        let (config, secret) = (self.config.clone(), self.secret.clone());
        ServeArgs { config, listen, jobs, secret, ..ServeArgs::default() }
    }
}

/// A build secret's id and file; the path stays right when the folder changes.
fn secret(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((id, file)) if !id.is_empty() && !file.is_empty() => {
            let file = std::path::absolute(file).map_err(|error| error.to_string())?;
            Ok((id.to_owned(), file))
        }
        _ => Err("want ID=FILE, such as npm=/run/secrets/npm".to_owned()),
    }
}

/// `rebuild`.
#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// A digest, or a variant such as hmi/plant-a
    #[arg(value_name = "DIGEST|VARIANT")]
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
    /// The images [default: all with a base from outside or a `bootstrap` step]
    pub(crate) image: Vec<ImageName>,
    /// The source: a folder as it stands, or a git URL; nothing is built, the next `run` does it
    #[arg(long, value_name = "DIR|URL", default_value = ".")]
    pub(crate) dir: String,
    /// A source of the server instead, which builds, tests and releases what moved
    #[arg(long, value_name = "NAME", conflicts_with_all = ["dir", "write"])]
    pub(crate) source: Option<SourceName>,
    /// Write `images/IMAGE/edgewright.lock` into the folder, to be committed
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A lane by its name.
fn lane(text: &str) -> Result<Lane, String> {
    let found = Lane::ALL.into_iter().find(|lane| lane.name() == text);
    found.ok_or_else(|| format!("want one of {}", Lane::ALL.map(Lane::name).join(", ")))
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Ask the server to end a run: its jobs end, what was recorded stays
    Cancel {
        /// Its number
        number: RunNumber,
    },
    /// Ask the server to run a run's commit again: what failed is tried anew
    Retry {
        /// Its number
        number: RunNumber,
    },
    /// Show a run: its plan with reasons, what became of each node, why something failed
    Show {
        /// Its number
        number: RunNumber,
        /// As Markdown, for a comment on a pull request
        #[arg(long, conflicts_with = "json")]
        comment: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Show a variant: why it was built, from what, its checks and verdicts, how to pull it
    Show {
        /// The variant, such as hmi/plant-a
        variant: VariantName,
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VerdictCommand {
    /// Say what another system found about a digest; a run that waits for it goes on
    Post(VerdictArgs),
}

/// `verdict post`.
#[derive(Debug, Args)]
pub(crate) struct VerdictArgs {
    /// The platform manifest, as `run show` and `image show` give it
    pub(crate) digest: Digest,
    /// It passed
    #[arg(long, conflicts_with = "failed", required_unless_present = "failed")]
    pub(crate) passed: bool,
    /// It failed through the image
    #[arg(long)]
    pub(crate) failed: bool,
    /// What was found, in a line
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Where more is shown
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The check set that was asked for [default: the one that a run waits for]
    #[arg(long, value_name = "DIGEST")]
    pub(crate) check_set: Option<Digest>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Read one order, execute it, write events and the outcome
    Run {
        /// Folder for scratch files, container storage and caches
        #[arg(long, value_name = "DIR")]
        work: PathBuf,
        /// A build secret and the file with its bytes; may be given several times
        #[arg(long, value_name = "ID=FILE")]
        secret: Vec<String>,
        /// How far it gives way to others, from 0 to 19
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=19))]
        nice: u8,
        /// How much container storage stays, in MiB; what was not used for longest goes first
        #[arg(long, value_name = "MIB", default_value_t = edgewright_server::DEFAULT_STORAGE_MIB)]
        storage_mib: u64,
    },
}

/// `serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Settings file (TOML) [default: /etc/edgewright/edgewright.toml where it exists]
    #[arg(long, value_name = "FILE", env = "EDGEWRIGHT_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Address and port for registry and API [default: 127.0.0.1:5080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// HOST:PORT by which clients reach the registry [default: the listening address]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// A source to follow, besides those of the settings file; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) source: Vec<String>,
    /// How often to poll sources that say nothing else [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) poll: Option<Span>,
    /// How many jobs at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// A build secret and the file with its bytes, besides those of the settings file; may be given several times
    #[arg(long, value_name = "ID=FILE", value_parser = secret)]
    pub(crate) secret: Vec<(String, PathBuf)>,
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
        options.secrets = self.secret.iter().cloned().collect();
        options
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_target_or_show() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let Ok(Command::Run(run)) = parse("edgewright run") else { panic!("run") };
        assert_eq!((run.target.as_str(), run.command.is_none()), (".", true));
        let Ok(Command::Run(run)) = parse("edgewright run https://h/x.git --data /d") else { panic!("url") };
        assert_eq!(run.target, "https://h/x.git");
        let Ok(Command::Run(run)) = parse("edgewright run show 7 --json") else { panic!("show") };
        let Some(RunCommand::Show { number, format, .. }) = run.command else { panic!("show") };
        assert_eq!((number, format.json), (RunNumber(7), true));
        for bad in [
            "edgewright run show seven",
            "edgewright run . show 7",
            "edgewright vars A",
            "edgewright serve --listen 80",
            "edgewright serve --poll soon",
            "edgewright runs --limit 0",
            "edgewright run --secret npm",
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
