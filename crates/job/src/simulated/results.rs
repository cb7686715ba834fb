//! The results of simulated jobs: functions of the order alone.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::containerfile::ForeignImage;
use edgewright_model::lock::{Lock, LockedImage, LockedPackage};
use edgewright_model::order::{ImageTask, LaneOrder, LockTask, ManifestRef, RegistryAccess, StepOrder};
use edgewright_model::outcome::{FailureKind, JobFailure, JobOutcome, Phase, StepBuild};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::spec::Check;
use edgewright_model::verdict::{
    CheckOutcome, CheckResult, LaneProfile, LaneResult, RecordedOn, Verdict, VerdictOrigin,
};
use edgewright_oci::{Client, ClientError};

use super::Behaviour;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub(super) fn failure(kind: FailureKind, phase: Phase) -> JobFailure {
    let message = format!("simulated failure of the {kind}");
    JobFailure { kind, phase, message, hint: None, output: vec!["simulated output".to_owned()] }
}

pub(super) fn lock(task: &LockTask, behaviour: &Behaviour, version: &str) -> JobOutcome {
    if let Behaviour::FailBuild { kind } = behaviour {
        return JobOutcome { failure: Some(failure(*kind, Phase::Lock)), ..JobOutcome::empty() };
    }
    let package = |name: &String| LockedPackage::new(name, version, "all");
    let steps: Vec<Vec<LockedPackage>> =
        task.request.bootstrap.iter().map(|step| step.packages.iter().map(package).collect()).collect();
    let locked = |image: &ForeignImage| LockedImage {
        reference: image.reference.clone(),
        platform: image.platform.clone(),
        digest: Digest::of(image.reference.to_string()),
    };
    let lock = Lock {
        version: 1,
        request: task.request.digest(),
        epoch: task.now,
        epochs: BTreeMap::new(),
        bases: BTreeMap::new(),
        archives: Vec::new(),
        base: task.request.base.as_ref().map(|base| Digest::of(String::from(base.clone()))),
        images: task.request.images.iter().map(locked).collect(),
        packages: if steps.is_empty() {
            BTreeMap::new()
        } else {
            task.request.platforms.iter().map(|platform| (platform.clone(), steps.clone())).collect()
        },
    };
    JobOutcome { lock: Some(lock), ..JobOutcome::empty() }
}

/// An image without layers whose bytes are a function of the step's key.
pub(super) struct Tiny {
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Tiny {
    pub(super) fn of(step: &StepOrder, task: &ImageTask, salt: &str) -> Self {
        let mut config = serde_json::json!({
            "architecture": task.platform.architecture,
            "os": task.platform.os,
            "created": task.epoch,
            "config": {"Labels": {"edgewright.simulated": step.key}},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        if !salt.is_empty() {
            config["config"]["Labels"]["edgewright.salt"] = salt.into();
        }
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len()},
            "layers": [],
        });
        Self { manifest: manifest.to_string().into_bytes(), config }
    }

    pub(super) async fn push(
        &self,
        registry: &RegistryAccess,
        repository: &RepoName,
    ) -> Result<(), ClientError> {
        let client = Client::new(registry)?;
        client.push_blob_bytes(repository, self.config.clone()).await?;
        let reference = Reference::Digest(Digest::of(&self.manifest));
        client.push_manifest(repository, &reference, MANIFEST, self.manifest.clone()).await.map(|_| ())
    }

    pub(super) fn build(&self, step: &StepOrder, repository: &RepoName) -> StepBuild {
        StepBuild {
            kept: None,
            tools: step.tools.clone(),
            key: step.key.clone(),
            manifest: ManifestRef { repository: repository.clone(), digest: Digest::of(&self.manifest) },
            manifest_size: self.manifest.len() as u64,
            image_size: 0,
            duration_ms: 1,
        }
    }
}

/// The machine of simulated lanes.
pub(super) struct Machine {
    pub(super) profile: LaneProfile,
    pub(super) host: String,
}

pub(super) fn verdict(
    order: &LaneOrder,
    manifest: &ManifestRef,
    behaviour: &Behaviour,
    machine: &Machine,
) -> Verdict {
    let message = "simulated failure of a check".to_owned();
    let fails = |index: usize, check: &Check| match behaviour {
        Behaviour::FailLanes { kind } if index == 0 => Some(*kind),
        Behaviour::FailChecks { kind, checks } if checks.contains(&check.id) => Some(*kind),
        _ => None,
    };
    let result = |(index, check): (usize, &Check)| CheckResult {
        id: check.id.clone(),
        outcome: fails(index, check).map_or(CheckOutcome::Passed, |kind| CheckOutcome::Failed {
            kind,
            message: message.clone(),
            output: Vec::new(),
        }),
        duration_ms: 1,
        tries: 1,
        notes: Vec::new(),
    };
    let checks: Vec<CheckResult> = order.checks.iter().enumerate().map(result).collect();
    let result = match behaviour {
        // A lane without checks can still fail.
        Behaviour::FailLanes { kind } if checks.is_empty() => LaneResult::Failed { kind: *kind, message },
        _ => LaneResult::of_checks(&checks),
    };
    Verdict {
        lane: order.lane,
        manifest: manifest.clone(),
        check_set: order.check_set.clone(),
        inputs: machine.profile.inputs(order.from_digest()),
        recorded_on: RecordedOn {
            runner: Some(Digest::of(format!("runner on {}", machine.host))),
            host: Some(machine.host.clone()),
            accelerator: None,
        },
        checks,
        result,
        evidence: Vec::new(),
        duration_ms: 1,
        origin: VerdictOrigin::Ran,
    }
}
