//! Arguments of `export`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::SelectionArgs;
use crate::complete;

/// `export …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// Print the Tekton TaskRuns that build a variant, and the Pods that test it, as YAML
    #[command(
        after_help = "Examples:\n  edgewright export tekton hmi/plant-a\n  edgewright export tekton hmi/plant-a --token | kubectl apply -f -\n\nNames and labels are not those of the server's own jobs: it neither follows nor removes these objects.\nDelete them before you create them again."
    )]
    Tekton(ExportArgs),
}

/// `export tekton`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Variant, of its newest release, or digest (12 digits are enough)
    #[arg(value_name = "VARIANT|DIGEST", add = ArgValueCompleter::new(complete::variants))]
    pub(crate) what: String,
    /// Add a token to the order, which ends with the time that is printed: without one, the job cannot push
    #[arg(long)]
    pub(crate) token: bool,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
}
