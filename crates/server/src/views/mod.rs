//! Documents for clients: control's rows → the types of `api`. The HTTP handlers and the CLI on a local data
//! folder share these functions, so both return the same.

mod audit;
mod comment;
mod devices;
mod evidence;
mod follow;
mod image;
mod inventory;
mod log;
mod page;
mod rebuild;
mod release;
mod run;
mod status;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use edgewright_api::{ApiError, RegistryAddress};
use edgewright_model::Digest;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::SourceName;
use edgewright_model::order::TrustDomain;
use edgewright_model::run::RunNumber;
use edgewright_model::spec::{Lane, VmSpec};
use edgewright_model::verdict::{LaneInputs, Verdict, lane_inputs};
use edgewright_process::Clock;
use edgewright_store::nodes::NodeLane;
use edgewright_store::results::VerdictRow;
use edgewright_store::sources::SourceRow;
use edgewright_store::{Store, StoreError};

pub(crate) use devices::{device, device_page, device_state};
use follow::Followed;
pub(crate) use inventory::channel;
pub use log::LogReader;
pub use page::{Page, PageRequest};
pub use rebuild::rebuilt;
pub(crate) use status::reconciler;

use crate::folder::DataFolder;
use crate::live::Shared;

/// Reads documents from a data folder. Clones share the database's connections.
#[derive(Debug, Clone)]
pub struct Views {
    store: Store,
    folder: DataFolder,
    clock: Clock,
    serving: Option<Serving>,
    /// The inputs of each lane as it is run today: verdicts with other inputs are not current.
    lane_inputs: BTreeMap<Lane, LaneInputs>,
    /// The logs and runs that are followed now.
    logs: Followed<PathBuf, log::LogState>,
    started: Followed<RunNumber, log::StartedJobs>,
}

/// What is known only in a running server.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The address of the registry for clients.
    pub registry: RegistryAddress,
    /// The current settings.
    pub live: Shared,
}

/// Why a document cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The database cannot be read.
    #[error("cannot read the database")]
    Store(#[from] StoreError),
    /// It does not exist.
    #[error("{what}")]
    NotFound {
        /// What is missing, as a sentence.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// Several sources have the variant.
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
    /// The cursor of a list is invalid.
    #[error("invalid cursor `{text}`")]
    Cursor {
        /// As given.
        text: String,
    },
    /// A log file cannot be read.
    #[error("cannot read {}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl ViewError {
    /// The class of the error.
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
                Some("select one with --source NAME".to_owned())
            }
            Self::Cursor { .. } => Some(
                "pass the cursor of the previous page: its `next`, or that of its `Link` header".to_owned(),
            ),
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
    /// Reads from an open database. `serving` is none outside of a server. `lane_inputs` are the inputs of
    /// each lane as it is run today.
    pub fn new(
        store: Store,
        folder: DataFolder,
        clock: Clock,
        serving: Option<Serving>,
        lane_inputs: BTreeMap<Lane, LaneInputs>,
    ) -> Self {
        let (logs, started) = (Followed::default(), Followed::default());
        Self { store, folder, clock, serving, lane_inputs, logs, started }
    }

    /// Reads from a data folder, with or without a running server. Verdicts are current if this build's own
    /// executor would run their lane with the same inputs.
    pub async fn open(folder: DataFolder, clock: Clock) -> Result<Self, ViewError> {
        let database = folder.database();
        if !tokio::fs::try_exists(&database).await.unwrap_or(false) {
            return Err(ViewError::NotFound {
                what: format!("no builds in {}", folder.root().display()),
                hint: "build a source with `edgewright run DIR` or `edgewright serve`, or select another place with \
                       --data DIR or --server URL"
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

    /// The address of the registry for clients; none without a server.
    fn registry(&self) -> Option<RegistryAddress> {
        match &self.serving {
            Some(serving) => Some(serving.registry.clone()),
            None => self.folder.holder()?.registry,
        }
    }

    /// The sources with a name (as configured, or from their `edgewright.yaml`); all if none is given.
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
                    what: format!("source `{name}` not found"),
                    hint: "`edgewright status` lists them".to_owned(),
                });
            }
        }
        Ok(rows)
    }

    /// Whether a verdict has the inputs of its lane as it is run today, whatever the machine ran before.
    fn is_current(&self, verdict: &Verdict) -> bool {
        self.lane_inputs.get(&verdict.lane).is_some_and(|today| {
            // The image chooses its virtual machine.
            let of_vm = verdict.lane.has_kernel() && VmSpec::is_name(&verdict.inputs.profile);
            let profile = if of_vm { &verdict.inputs.profile } else { &today.profile };
            let from = verdict.inputs.from.clone();
            verdict.inputs == LaneInputs { profile: profile.clone(), from, ..today.clone() }
        })
    }

    /// The verdicts on some manifests that a domain may use: the newest of each key, newest first.
    async fn verdicts(
        &self,
        domain: TrustDomain,
        manifests: &BTreeSet<&Digest>,
    ) -> Result<BTreeMap<Digest, Vec<VerdictRow>>, ViewError> {
        let rows = self.store.newest_verdicts(manifests, domain).await?;
        let mut verdicts: BTreeMap<Digest, Vec<VerdictRow>> = BTreeMap::new();
        for row in rows.into_iter().rev() {
            verdicts.entry(row.verdict.manifest.digest.clone()).or_default().push(row);
        }
        Ok(verdicts)
    }

    /// The newest verdict of each lane, of those on one manifest. Those for the checks that are asked for
    /// have precedence over others, and of these the current ones.
    fn lane_verdicts<'r>(
        &self,
        verdicts: Option<&'r Vec<VerdictRow>>,
        asked: Option<&[NodeLane]>,
    ) -> Vec<&'r VerdictRow> {
        let mut rows: Vec<&VerdictRow> = verdicts.into_iter().flatten().collect();
        let mut seen = BTreeSet::new();
        // Newest first: the first of each lane stays. The sort is stable.
        rows.sort_by_key(|row| (!is_asked(&row.verdict, asked), !self.is_current(&row.verdict)));
        rows.retain(|row| seen.insert(row.verdict.lane));
        rows.sort_by_key(|row| row.verdict.lane);
        rows
    }
}

/// Whether a verdict is about the checks that a commit asks for; `asked` is none where that is not known. A
/// commit does not ask again for an update to what is released: the result from before it was is still one.
pub(crate) fn is_asked(verdict: &Verdict, asked: Option<&[NodeLane]>) -> bool {
    let is_own = |lane: &NodeLane| lane.lane == verdict.lane && lane.check_set == verdict.check_set;
    verdict.lane.needs_release() || asked.is_none_or(|lanes| lanes.iter().any(is_own))
}
