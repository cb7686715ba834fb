//! Verdicts: the result of one lane for one digest.

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
    /// Where the lane ran; does not influence the result.
    #[serde(default)]
    pub recorded_on: RecordedOn,
    /// The result.
    pub result: LaneResult,
    /// Every check, in check-set order.
    pub checks: Vec<CheckResult>,
    /// Journal, failed units, console, output: blobs in the manifest's repository.
    pub evidence: Vec<Evidence>,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
    /// The verdict's origin.
    #[serde(default)]
    pub origin: VerdictOrigin,
}

/// The origin of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VerdictOrigin {
    /// The lane ran on this manifest.
    #[default]
    Ran,
    /// The lane ran on another manifest, and a declared rule applies its result to this one.
    Inherited {
        /// The rule, as text.
        rule: String,
        /// The variant that the lane ran for.
        variant: VariantName,
        /// Its manifest.
        from: ManifestRef,
    },
    /// An external system posted it.
    External {
        /// A URL with the external system's details.
        url: Option<String>,
        /// The external system's message, on one line.
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
    /// The verdict's identity: a later verdict with the same key replaces it.
    pub fn key(&self) -> VerdictKey {
        VerdictKey {
            manifest: self.manifest.digest.clone(),
            lane: self.lane,
            check_set: self.check_set.clone(),
            inputs: self.inputs.digest(),
        }
    }
}

/// The identity of a verdict.
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

/// What can change a lane's result besides digest and check set. The bytes of the check runner, the host and
/// the accelerator are not in it: they are recorded in [`RecordedOn`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LaneInputs {
    /// The driver that provided the machine: `podman`, `none`.
    pub profile: String,
    /// The semantic version of the check runner. Verdicts from before it was recorded have version 1.
    #[serde(default = "first_semantics")]
    pub semantics: u32,
    /// The digest that the machine ran before, in lanes that update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
}

const fn first_semantics() -> u32 {
    1
}

impl LaneInputs {
    /// The inputs of verdicts that an external system posts. Only that system knows how it got its result.
    pub fn external() -> Self {
        LaneProfile { name: "external".to_owned(), semantics: first_semantics() }.inputs(None)
    }

    /// The same with another digest that the machine ran before.
    #[must_use]
    pub fn with_from(self, from: Option<Digest>) -> Self {
        Self { from, ..self }
    }

    /// Their digest, part of the verdict's key: of their JSON without spaces, fields in the order of this
    /// struct. It is stored: a change of this form makes every lane run again.
    pub fn digest(&self) -> Digest {
        // A plain struct of strings and numbers always serialises.
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// How an executor runs a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneProfile {
    /// The driver that provides machines: `podman`, `none`.
    pub name: String,
    /// The semantic version of the check runner.
    pub semantics: u32,
}

impl LaneProfile {
    /// The inputs of a verdict of this profile; `from` is the digest that the machine ran before.
    pub fn inputs(&self, from: Option<Digest>) -> LaneInputs {
        LaneInputs { profile: self.name.clone(), semantics: self.semantics, from }
    }
}

/// The current inputs of each lane's verdicts, for an executor that runs lanes as `profile` returns. A lane
/// that it cannot run has none.
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
    /// Digest of the check runner's binary; `None` if no runner was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Digest>,
    /// The host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The accelerator of a virtual machine, such as `kvm`; `None` if the machine is not virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
}

/// The result of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum LaneResult {
    /// Every check passed.
    Passed,
    /// Something failed.
    Failed {
        /// What caused it.
        kind: FailureKind,
        /// The first failure, on one line.
        message: String,
    },
}

impl LaneResult {
    /// The result that follows from a lane's checks: passed, or the first failure of the deciding kind. If
    /// the host failed, other results are unreliable; an image failure takes precedence over a check that
    /// cannot work. A lane whose result differs from this failed outside of its checks.
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
    /// The check.
    pub id: CheckId,
    /// The result.
    pub outcome: CheckOutcome,
    /// Milliseconds from the start of the checks until it passed or its time limit was over.
    pub duration_ms: u64,
    /// The number of attempts.
    pub tries: u32,
    /// Notes of a check that passed: output of its script, failures of greenboot's wanted checks. A failure
    /// has its own output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It held.
    Passed,
    /// It did not hold in time.
    Failed {
        /// What caused it.
        kind: FailureKind,
        /// The actual state, on one line.
        message: String,
        /// Output of the command, body of the answer: the last lines.
        output: Vec<String>,
    },
    /// It did not run.
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

/// Additional information on a node's state: why it passed despite a failure, or what it waits for. Prints as
/// one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A check failed, and an exception covers it.
    Excepted {
        /// The lane.
        lane: Lane,
        /// The check.
        check: CheckId,
        /// The actual state.
        found: String,
        /// The last day of the exception, in UTC.
        until: jiff::civil::Date,
        /// The exception's owner.
        owner: String,
        /// Why.
        reason: String,
    },
    /// A failure that the last good digest has, too.
    NotNew {
        /// The lane.
        lane: Lane,
        /// The check; `None` if the lane failed outside of its checks.
        check: Option<CheckId>,
        /// The last good platform manifest.
        digest: Digest,
    },
    /// The verdict of a lane was inherited.
    Inherited {
        /// The lane.
        lane: Lane,
        /// The variant that it ran for.
        variant: VariantName,
        /// Its platform manifest.
        digest: Digest,
    },
    /// The node waits for the verdict of an external system.
    Awaiting {
        /// The lane.
        lane: Lane,
        /// The check set that the verdict is requested for.
        check_set: Digest,
        /// The deadline: without a verdict the node fails then.
        until: jiff::Timestamp,
    },
    /// The failed lane is being run on the last good digest for comparison.
    Comparing {
        /// The lane.
        lane: Lane,
        /// The last good platform manifest.
        digest: Digest,
    },
    /// A kind of note that this version does not know.
    #[serde(other)]
    Other,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Excepted { lane, check, found, until, owner, reason } => write!(
                f,
                "check `{check}` in the lane {lane} failed, but is excepted until {until} by {owner}: {reason} (found: {found})"
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
                write!(f, "waiting until {until} for an external verdict of the lane {lane}")
            }
            Self::Comparing { lane, digest } => {
                write!(
                    f,
                    "the lane {lane} failed; running it on the last good digest {} for comparison",
                    digest.short()
                )
            }
            Self::Other => f.write_str("a note of a kind that this version does not know"),
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
    fn lanes_without_an_executor_have_no_inputs() {
        let inputs = lane_inputs(|lane| {
            (lane == Lane::Container).then(|| LaneProfile { name: "podman".to_owned(), semantics: 3 })
        });
        assert_eq!(inputs.keys().copied().collect::<Vec<_>>(), [Lane::Container, Lane::External]);
        assert_eq!(inputs[&Lane::Container].semantics, 3);
    }
}
