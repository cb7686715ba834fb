//! Verdicts: what one lane found about one digest.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::{CheckId, VariantName};
use crate::order::{BlobRef, ManifestRef};
use crate::outcome::FailureKind;
use crate::spec::Lane;

/// The result of one lane for one manifest, check set and lane inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which lane.
    pub lane: Lane,
    /// The platform manifest that ran, unmodified.
    pub manifest: ManifestRef,
    /// The check set's digest.
    pub check_set: Digest,
    /// What else the result depends on.
    pub inputs: LaneInputs,
    /// What came out.
    pub result: LaneResult,
    /// Every check, in check-set order.
    pub checks: Vec<CheckResult>,
    /// Journal, failed units, console, output: blobs in the manifest's repository.
    pub evidence: Vec<Evidence>,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
    /// How it came about.
    #[serde(default)]
    pub origin: VerdictOrigin,
}

/// How a verdict came about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VerdictOrigin {
    /// The lane ran on this manifest.
    #[default]
    Ran,
    /// The lane ran on another manifest, and a declared rule says that its result holds here, too.
    Inherited {
        /// The rule in words.
        rule: String,
        /// The variant that the lane ran for.
        variant: VariantName,
        /// Its manifest.
        from: ManifestRef,
    },
    /// Somebody else's system said so.
    External {
        /// Where that system shows what it did.
        url: Option<String>,
        /// What it said, on one line.
        message: Option<String>,
    },
}

impl VerdictOrigin {
    /// The name in tables and JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Inherited { .. } => "inherited",
            Self::External { .. } => "external",
        }
    }
}

/// What a lane's result depends on besides digest and check set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneInputs {
    /// Digest of the check runner's binary.
    pub runner: Digest,
    /// How the machine was made: `podman`, later machine profiles.
    pub profile: String,
    /// The digest that was there before, in lanes that update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
}

impl LaneInputs {
    /// Their digest, part of the verdict's key.
    pub fn digest(&self) -> Digest {
        // A plain struct of strings always serialises.
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// What a lane found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum LaneResult {
    /// Every check passed.
    Passed,
    /// Something failed.
    Failed {
        /// Whose fault.
        kind: FailureKind,
        /// In one line: the first thing that failed.
        message: String,
    },
}

impl LaneResult {
    /// What a lane's checks alone make of it: passed, or the first failure of the kind that decides. Where the host failed
    /// nothing else can be believed, and a check that cannot work matters less than an image that does not. A lane whose
    /// result differs from this failed outside of its checks.
    pub fn of_checks<'a>(checks: impl IntoIterator<Item = &'a CheckResult>) -> Self {
        let failed: Vec<_> = checks
            .into_iter()
            .filter_map(|check| match &check.outcome {
                CheckOutcome::Failed { kind, message, .. } => Some((*kind, &check.id, message)),
                CheckOutcome::Passed | CheckOutcome::Skipped { .. } => None,
            })
            .collect();
        let order = [FailureKind::Infrastructure, FailureKind::Image, FailureKind::Check];
        let first = order.into_iter().find_map(|kind| failed.iter().find(|(of, ..)| *of == kind));
        first.map_or(Self::Passed, |(kind, id, message)| {
            let more = match failed.len() - 1 {
                0 => String::new(),
                1 => " (and 1 more check failed)".to_owned(),
                more => format!(" (and {more} more checks failed)"),
            };
            Self::Failed { kind: *kind, message: format!("check `{id}`: {message}{more}") }
        })
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which.
    pub id: CheckId,
    /// What came out.
    pub outcome: CheckOutcome,
    /// From the start of the checks until it passed or its time was over.
    pub duration_ms: u64,
    /// How often it was tried.
    pub tries: u32,
    /// What a check that passed has to say: output of its script, what only wanted checks found. A failure has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It held.
    Passed,
    /// It did not hold in time.
    Failed {
        /// Whose fault.
        kind: FailureKind,
        /// What was found instead, on one line.
        message: String,
        /// Output of the command, body of the answer: the last lines.
        output: Vec<String>,
    },
    /// It was not run.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `journal`, `failed-units`, `runner`, `console`.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// The blob.
    pub blob: BlobRef,
}

/// What a node's state does not say by itself: why it passed in spite of something, or what it waits for. Prints as a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A check failed, and an exception covers it.
    Excepted {
        /// The lane.
        lane: Lane,
        /// The check.
        check: CheckId,
        /// What was found instead.
        found: String,
        /// The last day of the exception, in UTC.
        until: jiff::civil::Date,
        /// Who answers for it.
        owner: String,
        /// Why.
        reason: String,
    },
    /// A failure that the last good digest has in the same place, too.
    NotNew {
        /// The lane.
        lane: Lane,
        /// The check; none where the lane failed outside of its checks.
        check: Option<CheckId>,
        /// The last good platform manifest.
        digest: Digest,
    },
    /// The verdict of a lane was taken over.
    Inherited {
        /// The lane.
        lane: Lane,
        /// The variant that it ran for.
        variant: VariantName,
        /// Its platform manifest.
        digest: Digest,
    },
    /// The node waits for somebody else's verdict.
    Awaiting {
        /// The lane.
        lane: Lane,
        /// The check set that the verdict is asked for.
        check_set: Digest,
        /// When it fails without one.
        until: jiff::Timestamp,
    },
    /// A failure is being compared with what the last good digest does in the same place.
    Comparing {
        /// The lane.
        lane: Lane,
        /// The last good platform manifest.
        digest: Digest,
    },
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Excepted { lane, check, found, until, owner, reason } => write!(
                f,
                "check `{check}` in the lane {lane} is excepted until {until} by {owner}: {reason} (found: {found})"
            ),
            Self::NotNew { lane, check: Some(check), digest } => write!(
                f,
                "check `{check}` in the lane {lane} is not new: the last good digest {} fails it, too",
                digest.short()
            ),
            Self::NotNew { lane, check: None, digest } => {
                write!(
                    f,
                    "the failure of the lane {lane} is not new: the last good digest {} fails it, too",
                    digest.short()
                )
            }
            Self::Inherited { lane, variant, digest } => {
                write!(f, "the verdict of the lane {lane} is inherited from {variant} ({})", digest.short())
            }
            Self::Awaiting { lane, until, .. } => {
                write!(f, "somebody else's verdict of the lane {lane} is asked for until {until}")
            }
            Self::Comparing { lane, digest } => {
                write!(
                    f,
                    "the lane {lane} failed; it is run on the last good digest {} to see what is new",
                    digest.short()
                )
            }
            Self::Other => f.write_str("something that this version cannot show"),
        }
    }
}
