//! Names and labels of a job's objects: a function of what the job does, so that a restarted server finds
//! them again.

use std::collections::BTreeMap;
use std::fmt;

use edgewright_model::Digest;
use edgewright_model::order::{JobRequest, LaneOrder, ManifestRef, ORDER_VERSION, Task, TrustDomain};
use edgewright_model::spec::Lane;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;

/// The label with the order's id.
pub const ORDER: &str = "edgewright.dev/order";
/// The label with the number of the attempt, from 1.
pub const ATTEMPT: &str = "edgewright.dev/attempt";
/// The label with the name of the server that owns the object.
pub const SERVER: &str = "edgewright.dev/server";
/// The label of PipelineRuns with the name of the server, in place of [`SERVER`]: Tekton copies labels to
/// TaskRuns and Pods, which are none of the server's own.
pub const PIPELINE_OF: &str = "edgewright.dev/pipeline-of";
/// The label with the part of the job: `job`, `machine`, or a lane.
pub const PART: &str = "edgewright.dev/part";
/// The annotation with the id of the job that made the object.
pub const JOB: &str = "edgewright.dev/job";
/// The annotation with what the job works on, for people.
pub const TITLE: &str = "edgewright.dev/title";

/// How many digits of the order's hash are in names: 80 bits.
const DIGITS: usize = 20;

/// What a job does, as a short hash: equal for jobs that do the same for the same server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(String);

#[derive(Serialize)]
struct Identity<'a> {
    version: u32,
    server: &'a str,
    domain: TrustDomain,
    task: &'a Task,
    image: &'a str,
}

impl OrderId {
    /// The id of a request, for a server and the image that its jobs run in. The job's id is not part of it:
    /// a restarted server gives another one. Neither is the time of a lock, nor the limit of the job.
    pub fn of(request: &JobRequest, server: &str, image: &str) -> Self {
        let mut task = request.task.clone();
        if let Task::Lock(lock) = &mut task {
            lock.now = Timestamp::UNIX_EPOCH;
        }
        Self::hash(&Identity { version: ORDER_VERSION, server, domain: request.domain, task: &task, image })
    }

    /// The id of a lane on a digest. What built the digest is no part of it: a server that stops stores what
    /// was built, and the next one's job has only the lanes.
    pub fn of_lane(
        request: &JobRequest,
        (lane, manifest): (&LaneOrder, &ManifestRef),
        server: &str,
        image: &str,
    ) -> Self {
        let lane = LaneOrder { keep: false, ..lane.clone() };
        let domain = request.domain;
        Self::hash(&(ORDER_VERSION, server, domain, &lane, manifest, image))
    }

    fn hash(identity: &impl Serialize) -> Self {
        // Orders are plain structs of strings and numbers: they always serialise.
        let digest = Digest::of(serde_json::to_vec(identity).unwrap_or_default());
        Self(digest.hex().chars().take(DIGITS).collect())
    }

    /// The id as text: 20 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The part of a job that an object runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The steps, and lanes that need no machine of their own.
    Job,
    /// One `containerfile` step that a Pipeline of the platform builds.
    Pipeline,
    /// The machine of an image for KubeVirt: made and pushed.
    Machine,
    /// One lane.
    Lane(Lane),
}

impl Part {
    /// Whether its object is a virtual machine.
    pub(crate) const fn is_machine(self) -> bool {
        matches!(self, Self::Lane(lane) if lane.has_kernel())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job => f.write_str("job"),
            Self::Pipeline => f.write_str("pipeline"),
            Self::Machine => f.write_str("machine"),
            Self::Lane(lane) => write!(f, "{lane}"),
        }
    }
}

/// One attempt at a part of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// What the job does.
    pub order: OrderId,
    /// The part.
    pub part: Part,
    /// From 1.
    pub number: u32,
}

impl Attempt {
    /// The name of the attempt's objects. Tekton names the Pod of a TaskRun `NAME-pod`.
    pub fn name(&self) -> String {
        format!("ew-{}-{}-{}", self.order.0, self.part, self.number)
    }

    /// Name, labels and annotations of the attempt's objects.
    pub fn meta(&self, server: &str, request: &JobRequest) -> ObjectMeta {
        let label = |key: &str, value: String| (key.to_owned(), value);
        let labels = BTreeMap::from([
            label(ORDER, self.order.0.clone()),
            label(ATTEMPT, self.number.to_string()),
            label(SERVER, server.to_owned()),
            label(PART, self.part.to_string()),
        ]);
        let title = match &request.task {
            Task::Lock(task) => format!("lock {}", task.image),
            Task::Image(task) => format!("{} {}", task.node, task.platform),
        };
        let annotations = BTreeMap::from([label(JOB, request.job.to_string()), label(TITLE, title)]);
        ObjectMeta {
            name: Some(self.name()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }
    }
}

/// The number of an object's attempt, if it is of this order and part.
pub(crate) fn number_of(object: &impl Resource, order: &OrderId, part: Part) -> Option<u32> {
    let labels = object.labels();
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    let number = labels.get(ATTEMPT)?.parse().ok()?;
    (is(ORDER, order.as_str()) && is(PART, &part.to_string())).then_some(number)
}

/// The reference by which an object ends with its owner.
pub(crate) fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::{image_request, lock_request};
    use edgewright_model::order::JobId;
    use proptest::prelude::*;

    use super::*;

    fn id(request: &JobRequest) -> OrderId {
        OrderId::of(request, "plant", "registry/edgewright@sha256:1")
    }

    /// The id of the first lane on a digest.
    fn of_lane(request: &JobRequest, digest: &str) -> OrderId {
        let Task::Image(task) = &request.task else { panic!("it is an image") };
        let manifest = ManifestRef { repository: "hmi".parse().unwrap(), digest: Digest::of(digest) };
        OrderId::of_lane(request, (&task.lanes[0], &manifest), "plant", "registry/edgewright@sha256:1")
    }

    #[test]
    fn a_lane_has_the_same_name_when_its_steps_are_done() {
        let first = image_request(1, "hmi").unwrap();
        let mut rest = first.clone();
        let Task::Image(task) = &mut rest.task else { panic!("it is an image") };
        task.steps.clear();
        assert_ne!(id(&first), id(&rest));
        assert_eq!(of_lane(&first, "a"), of_lane(&rest, "a"));
    }

    #[test]
    fn a_restarted_server_finds_the_same_name() {
        let (first, mut again) = (image_request(1, "hmi").unwrap(), image_request(2, "hmi").unwrap());
        again.job = JobId(uuid::Uuid::from_u128(9));
        assert_eq!(id(&first), id(&again));
        let mut lock = lock_request(1, "base").unwrap();
        let before = id(&lock);
        let Task::Lock(task) = &mut lock.task else { panic!("it is a lock") };
        task.now = "2026-11-28T12:00:00Z".parse().unwrap();
        assert_eq!(id(&lock), before);
    }

    #[test]
    fn what_changes_the_result_changes_the_name() {
        let first = image_request(1, "hmi").unwrap();
        let mut untrusted = first.clone();
        untrusted.domain.trusted = false;
        let ids = [
            id(&first),
            id(&untrusted),
            id(&image_request(1, "edge").unwrap()),
            id(&lock_request(1, "base").unwrap()),
            of_lane(&first, "a"),
            of_lane(&first, "b"),
            of_lane(&untrusted, "a"),
            OrderId::of(&first, "other", "registry/edgewright@sha256:1"),
            OrderId::of(&first, "plant", "registry/edgewright@sha256:2"),
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }

    proptest! {
        #[test]
        fn names_are_dns_labels_and_labels_are_read_again(
            number in 1..u32::MAX, node in "\\PC{0,80}", lane in 0..9_usize,
        ) {
            let part = Lane::ALL.get(lane).map_or(Part::Job, |lane| Part::Lane(*lane));
            let request = image_request(1, &node).unwrap();
            let attempt = Attempt { order: id(&request), part, number };
            let name = attempt.name();
            // Tekton adds `-pod`.
            prop_assert!(name.len() <= 59, "{}", name);
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            let pod = k8s_openapi::api::core::v1::Pod {
                metadata: attempt.meta("plant", &request), ..Default::default()
            };
            prop_assert_eq!(number_of(&pod, &attempt.order, part), Some(number));
            prop_assert!(pod.labels().values().all(|value| value.len() <= 63));
            let other = OrderId::of(&request, "other", "");
            prop_assert_eq!(number_of(&pod, &other, part), None);
        }
    }
}
