//! Arguments of commands that list, show and change what an operator looks after: images, releases, channels,
//! sites, sources, the audit trail.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::audit::Anchor;
use edgewright_model::names::{ChannelName, SiteName, SourceName, VariantName};
use edgewright_model::principal::PrincipalId;
use edgewright_model::run::ReleaseNumber;

use super::{Format, values};
use crate::complete;

/// Which source.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Only this source
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::sources))]
    pub(crate) source: Option<SourceName>,
}

/// A list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A list that grows.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Number of entries at most
    #[arg(long, value_name = "N", default_value_t = edgewright_api::routes::DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

/// What a list prints as text.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct RowsArgs {
    /// Print names or numbers only, one a line
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Leave the head of the table out
    #[arg(long, conflicts_with_all = ["json", "quiet"])]
    pub(crate) no_headers: bool,
}

/// `image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List variants with what the newest release holds
    List(ListArgs),
    /// Show a variant: why it was built, from what, its checks and verdicts, how to pull it
    Show {
        /// Variant, such as hmi/plant-a
        #[arg(add = ArgValueCompleter::new(complete::variants))]
        variant: VariantName,
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
}

/// `release …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// List releases, newest first
    List(PageArgs),
    /// Show a release with its entries
    Show {
        /// Number of the release
        #[arg(value_parser = values::number::<ReleaseNumber>)]
        number: ReleaseNumber,
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
}

/// `channel …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// List channels with the release that each holds
    List(ListArgs),
    /// Show a channel: what it follows, its release, why it does not move
    Show {
        #[command(flatten)]
        channel: ChannelArgs,
    },
    /// Keep a channel at the release that it holds
    Hold {
        #[command(flatten)]
        channel: ChannelArgs,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a held channel move again
    Resume {
        #[command(flatten)]
        channel: ChannelArgs,
    },
    /// Move a channel to a release and keep it there
    Pin {
        #[command(flatten)]
        channel: ChannelArgs,
        /// Number of the release
        #[arg(value_parser = values::number::<ReleaseNumber>)]
        release: ReleaseNumber,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a pinned channel follow again
    Unpin {
        #[command(flatten)]
        channel: ChannelArgs,
    },
}

/// Which channel.
#[derive(Debug, Args)]
pub(crate) struct ChannelArgs {
    /// Name of the channel
    #[arg(add = ArgValueCompleter::new(complete::channels))]
    pub(crate) name: ChannelName,
    /// Its source, if several have a channel of this name
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::sources))]
    pub(crate) source: Option<SourceName>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `site …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// List the sites that default branches declare
    List(ListArgs),
    /// Show a site with its slots, and what the channel of each holds for it
    Show {
        /// Name of the site
        #[arg(add = ArgValueCompleter::new(complete::sites))]
        name: SiteName,
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
}

/// `source …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// List sources with their newest commit and the last poll
    List {
        #[command(flatten)]
        rows: RowsArgs,
        #[command(flatten)]
        format: Format,
    },
    /// Ask the server to poll a source now
    Poll {
        /// Name of the source
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        source: SourceName,
    },
}

/// `audit`: what is listed, or a command on the trail.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    #[command(flatten)]
    pub(crate) list: AuditListArgs,
}

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify that no change was altered, removed, inserted or reordered
    #[command(
        after_help = "Examples:\n  edgewright audit verify\n  edgewright audit verify --anchor 812:sha256:5feceb66…\n  edgewright audit verify --file audit.jsonl\n\nThe last line is the trail's head. Keep it elsewhere: as --anchor it proves later that the trail up to it is the same."
    )]
    Verify {
        /// An export to verify instead of the trail; `-` is standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The head that an earlier `verify` or `export` printed
        #[arg(long, value_name = "NUMBER:HASH")]
        anchor: Option<Anchor>,
    },
    /// Print the trail as JSON lines, oldest first
    #[command(
        after_help = "Examples:\n  edgewright audit export > audit.jsonl\n  edgewright audit export --after 812 >> audit.jsonl"
    )]
    Export {
        /// Only changes with higher numbers, to continue an earlier export
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
    },
}

/// `audit` without a command.
#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Only changes by this principal, such as operator:token, system:channels
    #[arg(long, value_name = "KIND:NAME")]
    pub(crate) actor: Option<PrincipalId>,
    /// Only this operation, such as run.cancel, channel.move
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Only changes of this object, such as runs/7, plants/channels/stable
    #[arg(long, value_name = "NAME")]
    pub(crate) object: Option<String>,
    /// Only changes at or after this time, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) since: Option<jiff::Timestamp>,
    /// Number of entries at most
    #[arg(long, value_name = "N", default_value_t = edgewright_api::routes::DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Print the page after the one that named this cursor
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}
