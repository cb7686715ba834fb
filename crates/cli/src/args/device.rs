//! `device …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::duration::Span;
use edgewright_model::names::{DeviceId, LabelKey, LabelValue, SlotId, SourceName};
use edgewright_model::run::ReleaseNumber;

use super::{Format, ListArgs, values};
use crate::complete;

/// `device …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List devices with what each is answered with
    List(ListArgs),
    /// Show a device: its offer and why, and what is known about its images
    Show {
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// Make a token by which a device enrols in a slot, or enrol it here and write its files
    Enrol(EnrolArgs),
    /// As `enrol`; the slot's device is retired when the new one enrols
    Replace(EnrolArgs),
    /// Let a device that waits join the fleet
    Approve {
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// Keep a device at the image that it has
    Hold {
        #[command(flatten)]
        device: DeviceArgs,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End the hold of a device
    Release {
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// Give a device the image of one release
    Pin {
        #[command(flatten)]
        device: DeviceArgs,
        /// Number of the release
        #[arg(value_parser = values::number::<ReleaseNumber>)]
        release: ReleaseNumber,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a pinned device follow its channel again
    Unpin {
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// End a device's credentials now: it gets nothing from then on
    Revoke {
        #[command(flatten)]
        device: DeviceArgs,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Take a device out of the fleet: its images are no longer kept
    Retire {
        #[command(flatten)]
        device: DeviceArgs,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give a device another credential; the one before stays valid for 24 hours
    Rotate {
        /// Id of the device
        device: DeviceId,
        #[command(flatten)]
        files: FilesArgs,
        #[command(flatten)]
        format: Format,
    },
}

/// Which device.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Id of the device
    pub(crate) id: DeviceId,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Where the files of an identity go.
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// Files to write
    #[arg(long = "format", value_enum, value_name = "FORMAT", requires = "out", default_value = "all")]
    pub(crate) files: FileFormat,
    /// Folder for the device's files; created if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// A form of a device's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// The credential, for bootc, podman, skopeo and the agent
    #[value(name = "auth.json")]
    Auth,
    /// Whether the registry is reached over TLS
    #[value(name = "registries.conf.d")]
    Registries,
    /// Images come from the device's repository alone
    #[value(name = "policy.json")]
    Policy,
    /// The agent's configuration and its token, besides auth.json
    #[value(name = "agent")]
    Agent,
    /// All of them
    All,
}

/// `device enrol` and `device replace`.
#[derive(Debug, Args)]
pub(crate) struct EnrolArgs {
    /// Slot, such as plant-a/press-1 or press-1; with --any-slot the site
    #[arg(value_name = "SLOT")]
    pub(crate) place: String,
    /// Source, if several have the slot
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::sources))]
    pub(crate) source: Option<SourceName>,
    /// Make a token for the free slots of the site that SLOT names
    #[arg(long, conflicts_with = "out")]
    pub(crate) any_slot: bool,
    /// Number of devices that may use the token, with --any-slot
    #[arg(long, value_name = "N", requires = "any_slot", default_value_t = 1)]
    pub(crate) uses: u32,
    /// Label that the slot must have, with --any-slot; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "any_slot", value_parser = label)]
    pub(crate) labels: Vec<(LabelKey, LabelValue)>,
    /// Serial number of a device that may use the token; can be repeated
    #[arg(long = "serial", value_name = "TEXT")]
    pub(crate) serials: Vec<String>,
    /// Let devices wait for `device approve` after they enrolled
    #[arg(long)]
    pub(crate) approval: bool,
    /// Time until the token expires
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(crate) expires: Span,
    #[command(flatten)]
    pub(crate) files: FilesArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl EnrolArgs {
    /// The site, if one is named, and the slot, if the token is for one.
    pub(crate) fn place(&self) -> Result<(Option<String>, Option<SlotId>), String> {
        if self.any_slot {
            return Ok((Some(self.place.clone()), None));
        }
        let (site, slot) = match self.place.split_once('/') {
            Some((site, slot)) => (Some(site.to_owned()), slot),
            None => (None, self.place.as_str()),
        };
        slot.parse().map(|slot| (site, Some(slot))).map_err(|error| format!("{error}"))
    }
}

fn label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let key = key.parse().map_err(|error| format!("{error}"))?;
    let value = value.parse().map_err(|error| format!("{error}"))?;
    Ok((key, value))
}
