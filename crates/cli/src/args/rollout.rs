//! Arguments of `rollout …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::{ChannelName, DeviceId, SourceName, StageName};
use edgewright_model::run::ReleaseNumber;
use edgewright_model::size::ByteSize;

use super::{ChannelArgs, Format, PageArgs, values};
use crate::complete;

/// `rollout …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Simulate a rollout to the slots of a source, with the engine that ships and a virtual clock
    ///
    /// Devices are simulated: links with outages, boots, returns to the former image, lost and late reports.
    #[command(
        after_help = "Examples:\n  edgewright rollout simulate\n  edgewright rollout simulate ../plants --channel stable --failing 3\n  edgewright rollout simulate --download 400MiB --link 1MiB --json"
    )]
    Simulate(SimulateArgs),
    /// List rollouts, newest first
    List(PageArgs),
    /// Show a rollout: its stages, and what it waits for
    Show {
        #[command(flatten)]
        rollout: RolloutArgs,
    },
    /// Show the devices of a rollout, or one of them, and why each has what it has
    Explain {
        #[command(flatten)]
        rollout: RolloutArgs,
        /// Only this device
        device: Option<DeviceId>,
    },
    /// Offer the release to no further device
    Pause {
        #[command(flatten)]
        rollout: RolloutArgs,
    },
    /// Offer the release again, also after the gate stopped the rollout
    Resume {
        #[command(flatten)]
        rollout: RolloutArgs,
    },
    /// End a rollout where it is: devices that run the release keep it
    Abort {
        #[command(flatten)]
        rollout: RolloutArgs,
    },
    /// Let a stage begin that needs an approval
    Approve {
        #[command(flatten)]
        rollout: RolloutArgs,
        /// The stage [default: the one that is open]
        #[arg(long, value_name = "NAME")]
        stage: Option<StageName>,
    },
    /// Skip windows, rate and soaks; the gate, redundancy groups and approvals remain
    Urgent {
        #[command(flatten)]
        rollout: RolloutArgs,
    },
}

/// Which rollout.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// Number of the rollout, or name of a channel: its newest rollout
    #[arg(value_name = "ROLLOUT", add = ArgValueCompleter::new(complete::channels))]
    pub(crate) name: String,
    /// The channel's source, if several have a channel of this name
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::sources))]
    pub(crate) source: Option<SourceName>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `promote`.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
    /// Number of the release
    #[arg(value_parser = values::number::<ReleaseNumber>)]
    pub(crate) release: ReleaseNumber,
    /// Why, for other operators
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// `rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
    /// Number of the release whose digests it gets [default: the one that the channel had before]
    #[arg(long, value_name = "N", value_parser = values::number::<ReleaseNumber>)]
    pub(crate) to: Option<ReleaseNumber>,
    /// Why, for other operators
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// `quarantine …`.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List quarantined digests, newest first
    List {
        #[command(flatten)]
        format: Format,
    },
    /// End the quarantine of a digest, and print what remains
    Clear {
        /// Digest of the index
        digest: Digest,
        #[command(flatten)]
        format: Format,
    },
}

/// `rollout simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Folder of the source
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The channel whose devices take a release [default: the only one that slots follow]
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<ChannelName>,
    /// How many devices in a hundred the release fails on; may be repeated
    #[arg(long, value_name = "PERCENT", default_values_t = [0.5, 1.0, 3.0, 20.0], value_parser = percent)]
    pub(crate) failing: Vec<f64>,
    /// How many devices in a hundred earlier, good releases failed on
    #[arg(long, value_name = "PERCENT", default_value_t = 0.5, value_parser = percent)]
    pub(crate) baseline: f64,
    /// What each device downloads
    #[arg(long, value_name = "SIZE", default_value = "40MiB")]
    pub(crate) download: ByteSize,
    /// What the link of a site carries in a second
    #[arg(long, value_name = "SIZE", default_value = "5MiB")]
    pub(crate) link: ByteSize,
    /// How often devices ask for their image
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub(crate) poll: Span,
    /// Simulations of each failure rate
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Of all that is random: equal seeds give equal results
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("write a number from 0 to 100".to_owned()),
    }
}
