//! Arguments of commands that read a source's files.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::names::VariantName;

use super::Format;
use crate::complete;

/// `vars`.
#[derive(Debug, Args)]
pub(crate) struct VarsArgs {
    /// Variant, such as hmi/plant-a
    #[arg(add = ArgValueCompleter::new(complete::variants))]
    pub(crate) variant: VariantName,
    /// Folder of the source
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Folder of the source [default: .], or a variant to explain: short for `--explain VARIANT`
    #[arg(value_name = "DIR|VARIANT", add = ArgValueCompleter::new(complete::variants_and_paths))]
    pub(crate) target: Option<String>,
    /// Folder of the source
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Compare with this commit, as if it had been built, instead of with what the data folder knows
    #[arg(long, value_name = "REV")]
    pub(crate) since: Option<String>,
    /// Show what is reused, too; with --explain, show every change, however many there are
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Explain a variant: every step with its key, who shares it, and all that changed in it: paths,
    /// variables, packages, arguments, base
    #[arg(long, value_name = "VARIANT", add = ArgValueCompleter::new(complete::variants))]
    pub(crate) explain: Option<VariantName>,
    #[command(flatten)]
    pub(crate) format: Format,
}
