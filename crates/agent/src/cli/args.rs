//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use edgewright_model::names::SlotId;
use edgewright_model::reference::ImageReference;

use super::exit;
use crate::config::CONFIG_FILE;

/// Keep this device up to date with its image.
#[derive(Debug, Parser)]
#[command(name = "edgewright-agent", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG_FILE)]
    pub config: PathBuf,
    /// Folder of the agent's state
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/edgewright-agent")]
    pub state: PathBuf,
    /// Folder of the agent's socket
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/edgewright-agent")]
    pub run: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Program that is used as `bootc`
    #[arg(long, global = true, hide = true, value_name = "PROGRAM")]
    pub bootc: Option<PathBuf>,
    /// Program that reboots the device
    #[arg(long, global = true, hide = true, value_name = "PROGRAM")]
    pub reboot: Option<PathBuf>,
    /// Command
    #[command(subcommand)]
    pub command: CommandLine,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CommandLine {
    /// Show what runs, what is staged and what does not work
    Status,
    /// Ask the registry for an update now, and download it
    ///
    /// The policy decides when it is applied. Waits until the download is done.
    Check,
    /// Download and apply an update now, whatever the policy
    Update {
        /// Also take a digest that failed on this device before
        #[arg(long)]
        retry: bool,
    },
    /// Return to the other image on this device, and reboot into it
    ///
    /// The image that is left counts as failed: it is not taken again by itself.
    Rollback,
    /// Take no updates until `resume`
    Hold {
        /// Why, for `status`
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a hold
    Resume,
    /// Show what happened on this device
    Logs {
        /// Number of lines
        #[arg(short = 'n', long, default_value_t = 50, value_name = "NUMBER")]
        lines: usize,
    },
    /// Run the health checks of the booted image now; nothing follows from their result
    Health,
    /// Exchange a token for this device's identity, and write the configuration
    ///
    /// An operator makes the token: `edgewright device enrol SLOT`. A repeated command gives the same device.
    Enrol(EnrolArgs),
    /// Run the agent: the service does this
    Run,
    /// Install an image onto a disk; everything on the disk is lost
    ///
    /// The running system provides file systems, tools and the boot loader: run it in a system of the same
    /// image, such as the virtual machine of `edgewright disk`, or an installer medium.
    Install(InstallArgs),
    /// Run checks of an order on standard input
    #[command(hide = true)]
    RunChecks,
    /// Run greenboot's scripts in `green.d` or `red.d`
    #[command(hide = true)]
    RunHooks {
        /// `green` or `red`
        #[arg(value_parser = ["green", "red"])]
        kind: String,
        /// Root of the device's files
        root: PathBuf,
    },
}

/// The arguments of `enrol`.
#[derive(Debug, Clone, Args)]
pub struct EnrolArgs {
    /// Address of the server
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// File with the enrolment token
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// Certificate authorities of the server (PEM), besides those of the system
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Slot, if the token is for several
    #[arg(long, value_name = "SLOT")]
    pub slot: Option<SlotId>,
    /// Serial number [default: that of the firmware]
    #[arg(long, value_name = "TEXT")]
    pub serial: Option<String>,
    /// Replace an existing configuration
    #[arg(long)]
    pub force: bool,
}

/// The arguments of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Take everything from the medium of `edgewright disk --format iso` that this system was started from
    #[arg(long, conflicts_with_all = ["disk", "layout", "reference", "device"])]
    pub medium: bool,
    /// Disk
    #[arg(long, value_name = "DEVICE", required_unless_present = "medium")]
    pub disk: Option<PathBuf>,
    /// Folder of the OCI layout with the image
    #[arg(long, value_name = "DIR", required_unless_present = "medium")]
    pub layout: Option<PathBuf>,
    /// Reference that the device follows, for its status
    #[arg(long, value_name = "REFERENCE", required_unless_present = "medium")]
    pub reference: Option<ImageReference>,
    /// Settings of the device (JSON): host name, SSH keys, files below /etc; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub device: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
