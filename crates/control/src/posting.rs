//! Verdicts that another system posts: the lane `external`.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::order::{ManifestRef, TrustDomain};
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::RepoName;
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneInputs, LaneResult, Note, RecordedOn, Verdict, VerdictOrigin};
use edgewright_process::Clock;
use edgewright_store::nodes::NodeRow;
use edgewright_store::{Store, StoreError};

use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::hosting::Hosting;
use crate::jobs::repository_in;
use crate::releases::referrers;

/// The longest message, in characters.
const MESSAGE_LIMIT: usize = 2000;

/// What another system found about a digest.
#[derive(Debug, Clone)]
pub struct VerdictPost {
    /// The platform manifest that they tested.
    pub digest: Digest,
    /// The check set that was asked for; none: the one that a run waits for.
    pub check_set: Option<Digest>,
    /// Whether it passed.
    pub passed: bool,
    /// What they found, in a line.
    pub message: Option<String>,
    /// Where they show more.
    pub url: Option<String>,
}

/// What became of a posted verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedVerdict {
    /// The check set that it counts for.
    pub check_set: Digest,
    /// The run that it belongs to.
    pub run: RunNumber,
    /// The variants that waited for it.
    pub awaited_by: Vec<String>,
}

/// Why a posted verdict is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No run built this digest.
    #[error("no build has the digest {digest}")]
    NoBuild {
        /// As posted.
        digest: Digest,
    },
    /// No run waits, so the request has to name the check set.
    #[error("no run waits for a verdict about {digest}, so the check set must be named")]
    NoRunWaits {
        /// As posted.
        digest: Digest,
    },
    /// Variants with different checks share the digest, and more than one waits.
    #[error("runs wait for verdicts about {digest} with different check sets, so one must be named")]
    Ambiguous {
        /// As posted.
        digest: Digest,
    },
    /// A check set that was never asked for.
    #[error("there is no check set {check_set}")]
    NoCheckSet {
        /// As posted.
        check_set: Digest,
    },
    /// Recording it.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<StoreError> for PostError {
    fn from(error: StoreError) -> Self {
        Self::Control(error.into())
    }
}

impl PostError {
    /// What kind of fault it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoBuild { .. } | Self::NoCheckSet { .. } => ErrorClass::NotFound,
            Self::NoRunWaits { .. } | Self::Ambiguous { .. } => ErrorClass::Conflict,
            Self::Control(error) => error.class(),
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoBuild { .. } => Some(
                "want the digest of a platform manifest, as `edgewright run show` and `image show` give it, not of an index",
            ),
            Self::NoRunWaits { .. } | Self::Ambiguous { .. } | Self::NoCheckSet { .. } => Some(
                "`edgewright run show N --json` names the check set under `notes` of the node that waits",
            ),
            Self::Control(_) => None,
        }
    }
}

/// A node that waits for a verdict.
struct Waiting {
    run: RunNumber,
    domain: TrustDomain,
    node: String,
    repository: Option<RepoName>,
    check_set: Digest,
}

/// Where a posted verdict belongs.
struct Place {
    check_set: Digest,
    /// A run of each domain that the verdict counts in, and its repository. Trusted ones come first.
    runs: Vec<(RunNumber, RepoName)>,
    awaited_by: Vec<String>,
}

/// Takes verdicts of other systems. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Posting {
    pub(crate) store: Store,
    pub(crate) hosting: Hosting,
    pub(crate) clock: Clock,
}

impl Posting {
    /// Takes a verdict in the lane `external`. A run that waits for it resumes within seconds.
    ///
    /// # Errors
    /// The principal may not; the digest is not known, or it is not clear for which checks the verdict
    /// counts.
    pub(crate) async fn post(
        &self,
        context: &OperationContext,
        post: VerdictPost,
    ) -> Result<PostedVerdict, PostError> {
        let sources = self.store.sources_with(&post.digest).await?;
        context.permit_in(Operation::PostVerdict, &sources).map_err(ControlError::from)?;
        let Place { runs, check_set, awaited_by } = self.place(&post).await?;
        let run = runs.first().ok_or_else(|| PostError::NoBuild { digest: post.digest.clone() })?.0;
        if self.store.check_set(&check_set).await?.is_none() {
            return Err(PostError::NoCheckSet { check_set });
        }
        let after = serde_json::json!({ "run": run, "check_set": check_set, "passed": post.passed });
        let object = post.digest.to_string();
        let of_run = |(run, repository)| (run, verdict(&post, check_set.clone(), repository));
        let verdicts: Vec<(RunNumber, Verdict)> = runs.into_iter().map(of_run).collect();
        let recorded: Vec<RunNumber> = verdicts.iter().map(|(run, _)| *run).collect();
        let entry = context.entry(Operation::PostVerdict, object, None, Some(after));
        self.store.post_verdict(&verdicts, (&entry, self.clock.now())).await?;
        // A run that waits publishes it at its end; runs that are over do not come by again.
        for run in recorded.into_iter().filter(|_| awaited_by.is_empty()) {
            if let Err(error) = referrers::publish_verdicts(&self.store, &self.hosting, run).await {
                tracing::warn!(%run, error = %Chain(&error), "a posted verdict was recorded, but not published");
            }
        }
        Ok(PostedVerdict { check_set, run, awaited_by })
    }

    /// Where a verdict belongs.
    async fn place(&self, post: &VerdictPost) -> Result<Place, PostError> {
        let digest = || post.digest.clone();
        let mut waiting = self.awaiting(&post.digest).await?;
        if let Some(check_set) = &post.check_set {
            waiting.retain(|node| node.check_set == *check_set);
        } else if waiting.windows(2).any(|pair| pair[0].check_set != pair[1].check_set) {
            return Err(PostError::Ambiguous { digest: digest() });
        }
        // Trusted first: an untrusted run that waits for the same digest must not keep the verdict to itself.
        waiting.sort_by_key(|node| !node.domain.trusted);
        let builds = self.store.builds_of(&post.digest).await?;
        let mut runs: BTreeMap<(bool, u64), (RunNumber, RepoName)> = BTreeMap::new();
        let place = |domain: TrustDomain| (!domain.trusted, domain.source);
        for node in &waiting {
            let built = builds.iter().find(|build| build.domain == node.domain);
            let known = node.repository.clone().or(built.map(|build| build.manifest.repository.clone()));
            if let Some(repository) = known {
                runs.entry(place(node.domain)).or_insert((node.run, repository));
            }
        }
        if waiting.is_empty() {
            for build in builds {
                runs.entry(place(build.domain)).or_insert((build.run, build.manifest.repository));
            }
        }
        if runs.is_empty() {
            return Err(PostError::NoBuild { digest: digest() });
        }
        let asked = match (waiting.first(), &post.check_set) {
            (Some(first), _) => Some(first.check_set.clone()),
            (None, Some(check_set)) => Some(check_set.clone()),
            (None, None) => self.asked_before(&post.digest).await?,
        };
        let check_set = asked.ok_or_else(|| PostError::NoRunWaits { digest: digest() })?;
        let awaited_by = waiting.into_iter().map(|node| node.node).collect();
        Ok(Place { runs: runs.into_values().collect(), check_set, awaited_by })
    }

    /// The check set of a verdict that came before, or that a run did not wait for any longer.
    async fn asked_before(&self, digest: &Digest) -> Result<Option<Digest>, PostError> {
        let store = &self.store;
        let posted =
            store.verdicts_of(digest).await?.into_iter().find(|row| row.verdict.lane == Lane::External);
        if let Some(row) = posted {
            return Ok(Some(row.verdict.check_set));
        }
        Ok(store.nodes_with(digest).await?.iter().find_map(asked))
    }

    async fn awaiting(&self, digest: &Digest) -> Result<Vec<Waiting>, PostError> {
        let store = &self.store;
        let mut found = Vec::new();
        for run in store.open_runs().await? {
            let source = store.source(run.source).await?;
            for node in store.own_nodes(run.number).await? {
                let Some(check_set) = awaited(&node).filter(|_| node.digest.as_ref() == Some(digest)) else {
                    continue;
                };
                let name = source.definition_name.as_ref().zip(node.variant.as_ref());
                let repository = name.and_then(|(name, variant)| format!("{name}/{variant}").parse().ok());
                found.push(Waiting {
                    run: run.number,
                    check_set,
                    domain: run.domain(),
                    repository: repository.and_then(|name| repository_in(run.domain(), &name).ok()),
                    node: node.node,
                });
            }
        }
        Ok(found)
    }
}

/// What was posted, as a verdict.
fn verdict(post: &VerdictPost, check_set: Digest, repository: RepoName) -> Verdict {
    let VerdictPost { digest, passed, message, url, .. } = post.clone();
    let message = message.as_deref().map(one_line).filter(|message| !message.is_empty());
    let result = if passed {
        LaneResult::Passed
    } else {
        let message =
            message.clone().unwrap_or_else(|| "the posted verdict is `failed`, without a message".to_owned());
        LaneResult::Failed { kind: FailureKind::Image, message }
    };
    Verdict {
        lane: Lane::External,
        manifest: ManifestRef { repository, digest },
        check_set,
        inputs: LaneInputs::external(),
        recorded_on: RecordedOn::default(),
        result,
        checks: Vec::new(),
        evidence: Vec::new(),
        duration_ms: 0,
        origin: VerdictOrigin::External { url, message },
    }
}

/// The check set that a node waits for a verdict of.
fn awaited(node: &NodeRow) -> Option<Digest> {
    asked(node).filter(|_| !node.state.is_terminal())
}

/// The check set that a node waits or waited for a verdict of.
fn asked(node: &NodeRow) -> Option<Digest> {
    node.notes.iter().find_map(|note| match note {
        Note::Awaiting { check_set, .. } => Some(check_set.clone()),
        _ => None,
    })
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MESSAGE_LIMIT).collect()
}
