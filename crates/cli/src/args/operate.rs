//! Arguments of commands that change or list what an operator looks after: channels, sites, the audit trail.

use clap::{Args, Subcommand};
use edgewright_model::names::{ChannelName, SiteName, SourceName};
use edgewright_model::principal::PrincipalId;
use edgewright_model::run::ReleaseNumber;

use super::{Format, SelectionArgs};

/// `channel …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Keep a channel at the release that it holds
    Hold {
        #[command(flatten)]
        channel: ChannelArgs,
        /// Why, for those who find it held
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
        /// The release's number
        release: ReleaseNumber,
        /// Why, for those who find it pinned
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
    /// The channel's name
    pub(crate) name: ChannelName,
    /// Its source, where several have a channel of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<SourceName>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `site …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Show a site with its slots, and what the channel of each holds for it
    Show {
        /// The site's name
        name: SiteName,
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        format: Format,
    },
}

/// `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only changes by this principal, such as operator:token, system:channels
    #[arg(long, value_name = "KIND:NAME")]
    pub(crate) actor: Option<PrincipalId>,
    /// Only this operation, such as run.cancel, channel.move
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Only changes of this object, such as runs/7, plants/channels/stable
    #[arg(long, value_name = "NAME")]
    pub(crate) object: Option<String>,
    /// Only changes at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<jiff::Timestamp>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = edgewright_api::routes::DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// The page after the one that named this cursor
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}
