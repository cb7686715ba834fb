//! A job in two parts: its steps with the lanes that start no machine, then a machine for each other lane.
//!
//! ```text
//! JobRequest ─▶ job: steps, `static` ─▶ TaskRun ─▶ builds, verdicts ─┐
//!            └▶ lanes: `container`, `vm` ─▶ a machine on the digest ─┴▶ JobOutcome
//! ```

use edgewright_job::ExecutorError;
use edgewright_model::order::{Base, JobRequest, LaneOrder, ManifestRef, Task};
use edgewright_model::outcome::{JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::spec::Lane;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::executor::Inner;
use crate::lane;
use crate::settings::Place;

/// The parts of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Split {
    /// The job without the lanes that have machines of their own.
    pub(crate) job: JobRequest,
    /// Those lanes.
    pub(crate) machines: Vec<LaneOrder>,
    /// All lanes, in the order's order.
    all: Vec<Lane>,
    /// What is tested if the job builds nothing.
    base: Option<ManifestRef>,
}

impl Split {
    /// Splits a job by where its lanes run.
    pub(crate) fn of(request: &JobRequest, place: impl Fn(Lane) -> Option<Place>) -> Self {
        let mut job = request.clone();
        let (mut machines, mut all, mut base) = (Vec::new(), Vec::new(), None);
        if let Task::Image(task) = &mut job.task {
            all = task.lanes.iter().map(|lane| lane.lane).collect();
            let of_job = |lane: &LaneOrder| !place(lane.lane).is_some_and(Place::is_apart);
            (task.lanes, machines) = std::mem::take(&mut task.lanes).into_iter().partition(of_job);
            base = match &task.base {
                Base::Manifest(manifest) => Some(manifest.clone()),
                Base::Scratch | Base::External { .. } => None,
            };
        }
        Self { job, machines, all, base }
    }

    /// Whether there is work besides the machines.
    pub(crate) fn has_job(&self) -> bool {
        let Task::Image(task) = &self.job.task else { return true };
        !task.only_tests() || !task.lanes.is_empty()
    }

    /// Runs the machines on what was built, and adds their verdicts.
    pub(crate) async fn lanes(
        &self,
        inner: &Inner,
        mut outcome: JobOutcome,
        (begun, events, cancel): (Instant, &mpsc::Sender<JobEvent>, &CancellationToken),
    ) -> Result<JobOutcome, ExecutorError> {
        if outcome.failure.is_some() || self.machines.is_empty() {
            return Ok(outcome);
        }
        let built = outcome.builds.last().map(|build| build.manifest.clone());
        let Some(manifest) = built.or_else(|| self.base.clone()) else {
            return Err(ExecutorError::Platform {
                message: "the job reported no image to test".to_owned(),
                hint: Some("report this defect with the job's log".to_owned()),
                output: Vec::new(),
            });
        };
        let within = self.job.within;
        let until = begun + within.get();
        for order in &self.machines {
            let stop = cancel.child_token();
            let running = lane::run(inner, &self.job, (order, &manifest), events, &stop);
            let mut running = std::pin::pin!(running);
            let verdict = tokio::select! {
                verdict = &mut running => Some(verdict?),
                () = tokio::time::sleep_until(until) => None,
            };
            let reason = match verdict {
                _ if cancel.is_cancelled() => ExecutorError::Cancelled,
                Some(verdict) => {
                    outcome.verdicts.push(verdict);
                    continue;
                }
                None => {
                    // The machine is removed.
                    stop.cancel();
                    drop(running.await);
                    ExecutorError::TimeLimit { within, phase: Some(Phase::Test) }
                }
            };
            if outcome.builds.is_empty() && cancel.is_cancelled() {
                return Err(reason);
            }
            // What was built and pushed counts.
            outcome.failure = Some(JobFailure { phase: Phase::Test, ..reason.failure() });
            return Ok(outcome);
        }
        let place = |lane: Lane| self.all.iter().position(|other| *other == lane);
        outcome.verdicts.sort_by_key(|verdict| place(verdict.lane));
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::{image_request, lock_request};
    use edgewright_model::Digest;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the settings give it")]
    fn pods(lane: Lane) -> Option<Place> {
        Some(if lane == Lane::Container { Place::Pod } else { Place::Job })
    }

    #[test]
    fn machines_are_taken_out_of_the_job() {
        let mut request = image_request(1, "hmi").unwrap();
        let Task::Image(task) = &mut request.task else { panic!("it is an image") };
        task.lanes.push(LaneOrder { lane: Lane::Static, ..task.lanes[0].clone() });
        let split = Split::of(&request, pods);
        let Task::Image(job) = &split.job.task else { panic!("it is an image") };
        assert_eq!(job.lanes.iter().map(|lane| lane.lane).collect::<Vec<_>>(), [Lane::Static]);
        assert_eq!(split.machines.iter().map(|lane| lane.lane).collect::<Vec<_>>(), [Lane::Container]);
        assert!(split.has_job());
        assert_eq!(Split::of(&request, |_| Some(Place::Job)).job, request);
        let lock = lock_request(1, "base").unwrap();
        assert!(Split::of(&lock, pods).has_job() && Split::of(&lock, pods).job == lock);
    }

    #[test]
    fn a_digest_that_is_only_tested_has_no_job() {
        let mut request = image_request(1, "hmi").unwrap();
        let Task::Image(task) = &mut request.task else { panic!("it is an image") };
        task.steps.clear();
        assert!(Split::of(&request, pods).has_job(), "there is nothing to test yet");
        let Task::Image(task) = &mut request.task else { panic!("it is an image") };
        let manifest = ManifestRef { repository: task.repository.clone(), digest: Digest::of("m") };
        task.base = Base::Manifest(manifest.clone());
        let split = Split::of(&request, pods);
        assert_eq!((split.has_job(), split.base), (false, Some(manifest)));
    }
}
