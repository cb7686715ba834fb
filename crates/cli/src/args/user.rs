//! Arguments of `user` and `login`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use edgewright_model::duration::Span;
use edgewright_model::names::UserName;
use edgewright_model::role::Grant;

use super::Format;

/// `login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Show a code to enter in a browser on any machine
    #[arg(long)]
    pub(crate) device: bool,
    /// File with certificate authorities (PEM) to trust for the provider, besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) provider_ca_file: Option<PathBuf>,
}

/// `user …`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List users with their roles, and their tokens without the secrets
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Add a user, or replace the roles of one
    #[command(
        after_help = "Examples:\n  edgewright user add anna --role viewer --role operator:source=plants\n  edgewright user add eva --role approver:channel=stable\n\nA role is viewer, operator, approver or admin. A scope limits it to patterns of source, site, image or channel:\noperator:source=plants,site=plant-*. An operation that is not about one of them, such as a rebuild of any digest,\nneeds a role without that limit."
    )]
    Add {
        /// Name
        name: UserName,
        /// Role with its scope; repeat it for each one
        #[arg(long = "role", value_name = "ROLE[:PART=PATTERN,…]", required = true)]
        grants: Vec<Grant>,
    },
    /// Remove a user; all tokens of the user are invalid at once
    Remove {
        /// Name
        name: UserName,
    },
    /// Issue a token, or revoke one
    #[command(
        after_help = "Examples:\n  edgewright user token anna > token\n  edgewright user token ci --valid 365d\n  edgewright user token anna --revoke 3"
    )]
    Token(TokenArgs),
}

/// `user token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name
    pub(crate) name: UserName,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "90d")]
    pub(crate) valid: Span,
    /// Revoke the token with this id instead
    #[arg(long, value_name = "ID", conflicts_with = "valid")]
    pub(crate) revoke: Option<i64>,
}
