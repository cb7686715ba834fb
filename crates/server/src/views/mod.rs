//! Reading: control's rows → the documents of `api`. The HTTP handlers and the CLI on a local data folder share these
//! functions, so that both answer the same.

mod audit;
mod comment;
mod image;
mod inventory;
mod log;
mod rebuild;
mod release;
mod run;
mod status;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;

use edgewright_api::{ApiError, RegistryAddress};
use edgewright_model::Digest;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::SourceName;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneInputs, Verdict, lane_inputs};
use edgewright_process::Clock;
use edgewright_store::sources::SourceRow;
use edgewright_store::{Store, StoreError};

pub(crate) use inventory::channel;
pub use log::LogReader;
pub use rebuild::rebuilt;
pub(crate) use status::reconciler;

use crate::folder::DataFolder;
use crate::live::Shared;

/// Reads what a data folder knows. Clones share the database's connections.
#[derive(Debug, Clone)]
pub struct Views {
    store: Store,
    folder: DataFolder,
    clock: Clock,
    serving: Option<Serving>,
    /// Of verdicts that count today.
    lane_inputs: BTreeMap<Lane, LaneInputs>,
}

/// What only the server itself knows.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Where clients reach the registry.
    pub registry: RegistryAddress,
    /// The configured sources, as they are now.
    pub live: Shared,
}

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The database does not answer.
    #[error("cannot read what happened")]
    Store(#[from] StoreError),
    /// It does not exist.
    #[error("{what}")]
    NotFound {
        /// What, as a sentence.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Several fit.
    #[error("several sources have the variant `{variant}`: {}", .sources.join(", "))]
    Ambiguous {
        /// The variant.
        variant: String,
        /// The sources.
        sources: Vec<String>,
    },
    /// Several sources have a site of this name.
    #[error("several sources have the site `{site}`: {}", .sources.join(", "))]
    AmbiguousSite {
        /// The site.
        site: String,
        /// The sources.
        sources: Vec<String>,
    },
    /// No cursor of ours.
    #[error("`{text}` is not a cursor")]
    Cursor {
        /// As given.
        text: String,
    },
    /// A log file does not read.
    #[error("cannot read {}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ViewError {
    /// What kind of fault it is.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Ambiguous { .. } | Self::AmbiguousSite { .. } | Self::Cursor { .. } => {
                ErrorClass::UserFault
            }
            Self::Log { .. } => ErrorClass::Unavailable,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. } => Some(hint.clone()),
            Self::Ambiguous { .. } | Self::AmbiguousSite { .. } => {
                Some("name the source: --source NAME".to_owned())
            }
            Self::Cursor { .. } => Some("pass the `next` of the page before".to_owned()),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Log { .. } => None,
        }
    }
}

impl From<ViewError> for ApiError {
    fn from(error: ViewError) -> Self {
        Self { code: error.class(), message: Chain(&error).to_string(), hint: error.hint() }
    }
}

impl Views {
    /// Over an open database. `serving` is absent where the data folder is read without being its server. `lane_inputs` are
    /// those of verdicts that count today.
    pub const fn new(
        store: Store,
        folder: DataFolder,
        clock: Clock,
        serving: Option<Serving>,
        lane_inputs: BTreeMap<Lane, LaneInputs>,
    ) -> Self {
        Self { store, folder, clock, serving, lane_inputs }
    }

    /// Over a data folder, beside its server or without one. Verdicts count as they do for this build's own executor.
    pub async fn open(folder: DataFolder, clock: Clock) -> Result<Self, ViewError> {
        let database = folder.database();
        if !tokio::fs::try_exists(&database).await.unwrap_or(false) {
            return Err(ViewError::NotFound {
                what: format!("nothing was built in {} yet", folder.root().display()),
                hint: "`edgewright run DIR` builds a source once, `edgewright serve` follows it; \
                       --data DIR and --server URL look elsewhere"
                    .to_owned(),
            });
        }
        let lane_inputs = lane_inputs(edgewright_job::local_lane_profile);
        Ok(Self::new(Store::open_read_only(&database).await?, folder, clock, None, lane_inputs))
    }

    /// Waits for open statements and closes the database.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Where clients reach the registry, where a server runs.
    fn registry(&self) -> Option<RegistryAddress> {
        match &self.serving {
            Some(serving) => Some(serving.registry.clone()),
            None => self.folder.holder()?.registry,
        }
    }

    /// The sources of a name (as configured, or as they name themselves); all without one.
    async fn selected(&self, name: Option<&SourceName>) -> Result<Vec<SourceRow>, ViewError> {
        let mut rows = self.store.sources().await?;
        if let Some(name) = name {
            let is_named = |row: &SourceRow| row.name == *name;
            if rows.iter().any(is_named) {
                // A source that only declares the name in its files is another one.
                rows.retain(is_named);
            } else {
                rows.retain(|row| row.definition_name.as_ref() == Some(name));
            }
            if rows.is_empty() {
                return Err(ViewError::NotFound {
                    what: format!("there is no source `{name}`"),
                    hint: "`edgewright status` lists them".to_owned(),
                });
            }
        }
        Ok(rows)
    }

    /// Whether a verdict was found as its lane is run today.
    fn is_current(&self, verdict: &Verdict) -> bool {
        self.lane_inputs.get(&verdict.lane) == Some(&verdict.inputs)
    }

    /// The newest verdict of each lane on a manifest, one that counts today before all others.
    async fn lane_verdicts(
        &self,
        manifest: &Digest,
    ) -> Result<Vec<edgewright_store::results::VerdictRow>, ViewError> {
        let mut rows = self.store.verdicts_of(manifest).await?;
        let mut seen = std::collections::BTreeSet::new();
        // Newest first: the first of each lane stays. The sort is stable.
        rows.sort_by_key(|row| !self.is_current(&row.verdict));
        rows.retain(|row| seen.insert(row.verdict.lane));
        rows.sort_by_key(|row| row.verdict.lane);
        Ok(rows)
    }
}
