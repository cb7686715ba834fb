//! Settings: optional layers that are merged, then resolved into complete [`Settings`].
//!
//! Precedence, low to high: defaults, the settings file, the environment, flags. The command line interface
//! reads the environment and the flags; this crate receives them as [`Options`], so its tests never touch the
//! environment.
//!
//! Each table of the file is declared once, with the meaning, default and range of every key
//! (`settings/described.rs`). Decoder, merge and `docs/reference/settings.md` follow from that declaration.

pub mod cluster;
pub(crate) mod described;
mod error;
pub mod keep;
pub mod locks;
mod oidc;
mod old_spellings;
pub mod on_change;
pub mod pull_requests;
mod resolve;
mod secret;
mod server;
mod sink;
mod source;
pub mod targets;
pub mod updates;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use edgewright_model::duration::Span;
use serde::Deserialize;

use cluster::ClusterOptions;
use described::{Kind, Setting, described};
use keep::{DiskOptions, KeepOptions};
use locks::LockOptions;
use pull_requests::PullRequestTable;
use targets::TargetOptions;
use updates::UpdateOptions;

pub use error::SettingsError;
pub use oidc::OidcOptions;
pub(crate) use oidc::is_trustworthy;
pub use old_spellings::OldSpelling;
pub use resolve::Settings;
pub use secret::Secret;
pub use server::{AccessOptions, DEFAULT_TOOLS, JobOptions, ServerOptions};
pub use sink::SinkOptions;
pub use source::{SourceOptions, name_of};

/// Where the server listens by default: reachable from this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:5080";
/// How often a source is polled by default.
pub const DEFAULT_POLL: Span = Span::from_secs(30);
/// The largest number of parallel jobs by default: more builds only wait for the disk.
const MAX_DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

macro_rules! tables {
    ($($kind:ty => $name:literal;)+) => {$(
        impl Kind for $kind {
            const NAME: &'static str = $name;
            const EXAMPLE: &'static str = "";
        }
    )+};
}

tables! {
    ServerOptions => "table";
    JobOptions => "table";
    ClusterOptions => "table";
    AccessOptions => "table";
    KeepOptions => "table";
    DiskOptions => "table";
    Vec<SourceOptions> => "list of tables";
    Vec<SinkOptions> => "list of tables";
    Vec<TargetOptions> => "list of tables";
}

described! {
    /// One layer of settings; also the settings file (TOML). All keys are optional, unknown ones are an
    /// error.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct Options: "", layered {
        /// Where the server listens, and where it stores its data.
        pub server: ServerOptions { Restart }
        /// The operator's token, and whether reading needs one.
        pub access: AccessOptions { Reload }
        /// What jobs may use, and how long they may take.
        pub jobs: JobOptions { Restart }
        /// A Kubernetes cluster with Tekton that runs jobs, and Pods with images under test.
        pub cluster: ClusterOptions { Restart }
        /// When newer base images and packages are looked for. Each update check is a run: what changed is
        /// tested before it is released.
        pub updates: UpdateOptions, was "watch" { Restart }
        /// How much the data folder keeps besides released images. At start and every hour the server removes
        /// the rest, but never what a channel points to, the newest release of a branch, or what the next
        /// commit would reuse.
        pub keep: KeepOptions { Restart }
        /// Free space on the data folder's disk.
        pub disk: DiskOptions { Restart }
        /// A repository to follow. Repeat the table for each one.
        pub source: Vec<SourceOptions> { Reload }
        /// A service that receives events or commit statuses. Repeat the table for each one.
        pub sink: Vec<SinkOptions> { Reload }
        /// An external registry that receives copies of what channels point to. Repeat the table for each
        /// one.
        pub target: Vec<TargetOptions>, was "targets" { Reload }
        /// Build secrets, for `secrets: [{id: npm, version: "3"}]` of a `containerfile` step. Each key is an
        /// id, each value a file with exactly the secret's bytes; a relative path names a systemd credential
        /// (`LoadCredential=`). Only jobs read these files, and their content is in no log and no image.
        pub secrets: BTreeMap<String, PathBuf> { Reload, default: "none", flag: "--secret" }
        skip old_spellings: Vec<OldSpelling>, "Keys that were written as in earlier releases.";
    }
}

impl Options {
    /// Reads a settings file.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        let fail = |source| {
            let hint = hint(&text, &source);
            SettingsError::Parse { path: path.to_owned(), source: Box::new(source), hint }
        };
        let mut options = Self::parse(&text).map_err(fail)?;
        for spelling in &mut options.old_spellings {
            spelling.file = Some(path.to_owned());
        }
        Ok(options)
    }

    /// Decodes the text of a settings file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let mut options: Self = toml::from_str(text)?;
        options.old_spellings = old_spellings::find(text, None, &described_settings());
        Ok(options)
    }

    /// This layer over a lower one: its values win, lists add up.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        described::Layer::over(self, lower)
    }
}

/// What a correct line looks like, if the key of the wrong one is known.
fn hint(text: &str, error: &toml::de::Error) -> Option<String> {
    let rows = described_settings();
    let row = old_spellings::row_at(text, error.span()?.start, &rows)?;
    if row.example.is_empty() {
        return None;
    }
    let range = if row.range.is_empty() { String::new() } else { format!(" ({})", row.range) };
    Some(format!("write it like `{} = {}`{range}", row.key, row.example))
}

/// Every key of the settings file: first the tables themselves, then their keys.
pub fn described_settings() -> Vec<Setting> {
    [
        Options::rows(),
        ServerOptions::rows(),
        AccessOptions::rows(),
        OidcOptions::rows(),
        JobOptions::rows(),
        ClusterOptions::rows(),
        UpdateOptions::rows(),
        KeepOptions::rows(),
        DiskOptions::rows(),
        SourceOptions::rows(),
        PullRequestTable::rows(),
        LockOptions::rows(),
        SinkOptions::rows(),
        TargetOptions::rows(),
    ]
    .concat()
}

/// Whether a URL can be used for HTTP.
fn is_web_address(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

#[cfg(test)]
mod tests;
