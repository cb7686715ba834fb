//! The command line. Help texts say what a command does, in the words of the glossary.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use edgewright_model::duration::Span;
use edgewright_model::names::{SourceName, VariantName};
use edgewright_model::run::RunNumber;
use edgewright_server::Options;
use edgewright_server::settings::{ServerOptions, SourceOptions};

use crate::exit;

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
    Init {
        /// A folder that is empty or does not exist
        dir: PathBuf,
    },
    /// Say all that is wrong with a source's files, uncommitted changes included
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
    Plan(PlanArgs),
    /// Build, test and release a source once, without a server
    Run(RunArgs),
    /// Follow sources: poll, build, test, release and host, until stopped
    Serve(ServeArgs),
    /// How the server, or the data folder, is doing
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// List runs, newest first
    Runs {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print a job's log
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
    /// List channels with the release that each points to
    Channels {
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
    /// Ask the server to poll a source now
    Poll {
        /// The source
        source: SourceName,
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
    /// Show what is reused, too
    #[arg(long, short)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `run`: a target, or `show`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunCommand>,
    /// The source: a folder as it stands, uncommitted files included, or a git URL
    #[arg(value_name = "DIR|URL", default_value = ".")]
    pub(crate) target: String,
    /// Resolve all locks anew first: newest packages and base images
    #[arg(long)]
    pub(crate) update: bool,
    /// The branch to build, committed files only [default: of a folder the checked-out one, of a URL the remote's default]
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// How many jobs at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Show a run: its plan with reasons, what became of each node, why something failed
    Show {
        /// Its number
        number: RunNumber,
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
pub(crate) enum JobCommand {
    /// Read one order, execute it, write events and the outcome
    Run {
        /// Folder for scratch files, container storage and caches
        #[arg(long, value_name = "DIR")]
        work: PathBuf,
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
}

impl ServeArgs {
    /// The flags as a layer of settings.
    pub(crate) fn options(&self, data: Option<PathBuf>) -> Options {
        let mut options = Options {
            server: ServerOptions { listen: self.listen, data, address: self.address.clone() },
            source: self
                .source
                .iter()
                .map(|url| SourceOptions { url: url.clone(), name: None, branch: None, poll: None })
                .collect(),
            ..Options::default()
        };
        options.jobs.parallel = self.jobs;
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
        let Some(RunCommand::Show { number, format }) = run.command else { panic!("show") };
        assert_eq!((number, format.json), (RunNumber(7), true));
        for bad in [
            "edgewright run show seven",
            "edgewright run . show 7",
            "edgewright vars A",
            "edgewright serve --listen 80",
            "edgewright serve --poll soon",
            "edgewright runs --limit 0",
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
