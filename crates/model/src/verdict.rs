//! Verdicts: what one lane found about one digest.

use std::collections::BTreeMap;

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
    /// Where the lane ran. The result does not depend on it.
    #[serde(default)]
    pub recorded_on: RecordedOn,
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

impl Verdict {
    /// What identifies it: a later verdict with the same key takes its place.
    pub fn key(&self) -> VerdictKey {
        VerdictKey {
            manifest: self.manifest.digest.clone(),
            lane: self.lane,
            check_set: self.check_set.clone(),
            inputs: self.inputs.digest(),
        }
    }
}

/// What identifies a verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictKey {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// The lane.
    pub lane: Lane,
    /// Digest of the check set.
    pub check_set: Digest,
    /// Digest of the lane inputs: [`LaneInputs::digest`].
    pub inputs: Digest,
}

/// What can change a lane's result besides digest and check set. The bytes of the check runner, the host and the
/// accelerator are not in it: they are recorded in [`RecordedOn`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LaneInputs {
    /// How the machine was made: `podman`, `none`.
    pub profile: String,
    /// The semantic version of what judges the checks. Verdicts from before it was counted have the first one.
    #[serde(default = "first_semantics")]
    pub semantics: u32,
    /// The digest that the machine had before, in lanes that update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
}

const fn first_semantics() -> u32 {
    1
}

impl LaneInputs {
    /// The inputs of verdicts that another system posts. Only that system knows how it came to its result.
    pub fn external() -> Self {
        LaneProfile { name: "external".to_owned(), semantics: first_semantics() }.inputs(None)
    }

    /// Their digest, part of the verdict's key: of their JSON without spaces, fields in the order of this struct. It is
    /// stored: a change of this form makes every lane run again.
    pub fn digest(&self) -> Digest {
        // A plain struct of strings and numbers always serialises.
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// How an executor runs a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneProfile {
    /// How machines are made: `podman`, `none`.
    pub name: String,
    /// The semantic version of what judges the checks.
    pub semantics: u32,
}

impl LaneProfile {
    /// The inputs of a verdict that is found this way; `from` is the digest that the machine had before.
    pub fn inputs(&self, from: Option<Digest>) -> LaneInputs {
        LaneInputs { profile: self.name.clone(), semantics: self.semantics, from }
    }
}

/// The inputs of each lane's verdicts today, where an executor runs lanes as `profile` answers. A lane that it cannot run
/// has none.
pub fn lane_inputs(profile: impl Fn(Lane) -> Option<LaneProfile>) -> BTreeMap<Lane, LaneInputs> {
    let inputs = |lane| match lane {
        Lane::External => Some(LaneInputs::external()),
        lane => Some(profile(lane)?.inputs(None)),
    };
    Lane::ALL.into_iter().filter_map(|lane| Some((lane, inputs(lane)?))).collect()
}

/// Where a lane ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedOn {
    /// Digest of the check runner's binary; none where no runner took part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Digest>,
    /// The host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What made the machine's processor fast, such as `kvm`; none where the machine is no virtual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(profile: &str, semantics: u32, from: Option<&str>) -> String {
        let profile = LaneProfile { name: profile.to_owned(), semantics };
        profile.inputs(from.map(Digest::of)).digest().to_string()
    }

    /// They are stored, and the store's migration 0070 has the first three.
    #[test]
    fn digests_of_lane_inputs_stand() {
        let golden = [
            (
                digest("podman", 1, None),
                "sha256:51a5ef230e3097e4bd44cd0fbd0acbf14c8327b2a673f77a67804b3a29979de6",
            ),
            (
                digest("none", 1, None),
                "sha256:af4774f2b4eb8cc5bc6b96b7ae135a9b8251d2a53222b2bddd51cf041e8703b7",
            ),
            (
                LaneInputs::external().digest().to_string(),
                "sha256:384a1815b30ed9b00e5d43b27c55204275eff5136f2de98b737c3e6caad5ec58",
            ),
            (
                digest("podman", 2, None),
                "sha256:cf074230449207ecbff6add87fd2483592d2c9cd76ff639b002eac70e984a48c",
            ),
            (
                digest("vm-uefi", 1, Some("old")),
                "sha256:85dc3192bf2ead9cf0693a5c10aa5c125a125b53b9943ffe3b389c9367ca5a7b",
            ),
        ];
        for (found, expected) in golden {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_old_document_has_the_first_semantics_of_its_profile() {
        let document = include_str!("../tests/golden/verdict-0001.json");
        let old: Verdict = serde_json::from_str(document).unwrap();
        let profile = LaneProfile { name: "podman".to_owned(), semantics: 1 };
        assert_eq!(old.inputs, profile.inputs(None));
        assert_eq!(old.recorded_on, RecordedOn::default());
        assert_eq!(old.key().inputs, profile.inputs(None).digest());
        let now = serde_json::to_string(&old).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&now).unwrap(), old);
    }

    #[test]
    fn lanes_that_nobody_runs_have_no_inputs() {
        let inputs = lane_inputs(|lane| {
            (lane == Lane::Container).then(|| LaneProfile { name: "podman".to_owned(), semantics: 3 })
        });
        assert_eq!(inputs.keys().copied().collect::<Vec<_>>(), [Lane::Container, Lane::External]);
        assert_eq!(inputs[&Lane::Container].semantics, 3);
    }
}
