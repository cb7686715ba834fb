//! Locks: missing ones, and in a run that looks for updates all, are resolved by jobs of their own and kept as numbered
//! overlays. What comes back equal to the effective lock is not kept: nothing moved. Nor is what comes back older: a
//! mirror that lags behind moves nobody backwards. What was found is noted for each image, so that a run can say it.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_job::Demand;
use edgewright_model::format;
use edgewright_model::lock::{Lock, LockRequest};
use edgewright_model::moves::{LockLook, LockMoves, LookResult};
use edgewright_model::names::ImageName;
use edgewright_model::order::JobId;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::RunState;
use edgewright_model::spec::Definition;
use edgewright_model::tree::Tree;
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{EffectiveLock, Locks, lock_request};
use futures::future::try_join_all;

use crate::ControlError;
use crate::events::RunEventKind;
use crate::runs::Driver;
use crate::runs::job::made_nothing;

impl Driver<'_> {
    /// Resolves the locks of some images and stores what is new; gives the images for which that failed.
    pub(crate) async fn resolve_locks<'i>(
        &self,
        definition: &Definition,
        images: impl Iterator<Item = &'i ImageName>,
        locks: &Locks,
        tree: &Tree,
    ) -> Result<BTreeMap<ImageName, JobFailure>, ControlError> {
        let jobs = images.map(|image| self.resolve_lock(image, definition, locks.images.get(image), tree));
        let failures = try_join_all(jobs).await?;
        Ok(failures.into_iter().flatten().collect())
    }

    async fn resolve_lock(
        &self,
        image: &ImageName,
        definition: &Definition,
        effective: Option<&EffectiveLock>,
        tree: &Tree,
    ) -> Result<Option<(ImageName, JobFailure)>, ControlError> {
        let name = format!("lock {image}");
        let mut attempt = 1;
        loop {
            let admitted = self.admit(Demand::default()).await?;
            let job = JobId(uuid::Uuid::now_v7());
            let Some(request) = self.lock_order(image, definition, tree, job).await? else { return Ok(None) };
            let log = self.logs.open(self.run.number, &name, None).await.ok();
            let outcome = match admitted {
                Ok(permit) => self.perform(&name, (request, permit), log, None).await?,
                Err(failure) => made_nothing(Some(failure)),
            };
            let failure = match (outcome.lock, outcome.failure) {
                (Some(lock), None) => {
                    let request =
                        definition.images.get(image).map(|spec| lock_request(spec, &definition.source));
                    self.take(image, request.as_ref(), effective.map(|old| &old.lock), &lock).await?;
                    return Ok(None);
                }
                (_, Some(failure)) => failure,
                (None, None) => no_answer(),
            };
            if failure.kind != FailureKind::Infrastructure || attempt >= self.settings.attempts {
                if effective.is_some() {
                    let message = Some(failure.message.clone());
                    let look = LockLook { message, ..look(image, LookResult::Kept) };
                    self.store.note_look(self.run.number, &look).await?;
                }
                return Ok(Some((image.clone(), failure)));
            }
            let pause = self.settings.retry_after * 2_u32.saturating_pow(attempt - 1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.cancelled() => return Err(ControlError::Stopped),
            }
            attempt += 1;
        }
    }
}

impl Driver<'_> {
    /// Makes what was resolved the next overlay, where it moves the image and moves it forwards.
    async fn take(
        &self,
        image: &ImageName,
        request: Option<&LockRequest>,
        old: Option<&Lock>,
        new: &Lock,
    ) -> Result<(), ControlError> {
        let run = self.run.number;
        let mut moves = old.map(|old| LockMoves::between(old, new)).unwrap_or_default();
        moves.refreshed = request.zip(old).is_some_and(|(request, old)| request.is_due(old.epoch, new.epoch));
        let mut found = match old {
            Some(old) if same_inputs(old, new) && !moves.refreshed => look(image, LookResult::Unchanged),
            Some(_) => match moves.backwards() {
                Some(package) => {
                    let message = Some(format!("the mirror lags behind ({package})"));
                    LockLook { message, ..look(image, LookResult::Kept) }
                }
                None => LockLook { moves, ..look(image, LookResult::Moved) },
            },
            None => look(image, LookResult::First),
        };
        if found.result == LookResult::Moved && self.commits_locks() {
            self.proposed().insert(image.clone(), new.clone());
        } else if matches!(found.result, LookResult::First | LookResult::Moved) {
            let reason = format!("run {run}: {found}");
            let number = self.store.add_lock(self.run.source, image, new, &reason, self.clock.now()).await?;
            found.overlay = Some(number);
        }
        Ok(self.store.note_look(run, &found).await?)
    }

    /// Looks at the outside for a run that does nothing else, and ends it: nothing is planned or built.
    pub(crate) async fn look(&self) -> Result<RunState, ControlError> {
        Ok(match self.look_at_all().await? {
            Some(looked) => self.looked(&looked.failures, None).await?,
            None => RunState::Failed,
        })
    }

    /// Resolves the locks that the run asks for. None where the source's definition is broken: then the run is over.
    pub(crate) async fn look_at_all(&self) -> Result<Option<Looked>, ControlError> {
        let run = &self.run;
        let tree = self.watched.mirror.read_tree(&run.commit).await?;
        let parsed = format::parse(&tree);
        let Some(definition) = parsed.definition else {
            self.refuse(&parsed.diagnostics).await?;
            return Ok(None);
        };
        let locks = Locks::choose(&definition, &self.overlays().await?, COMPRESSOR_VERSION);
        let asked = self.store.run_images(run.number).await?;
        let images = definition.images.iter().filter(|(image, spec)| {
            !lock_request(spec, &definition.source).is_empty() && (asked.is_empty() || asked.contains(*image))
        });
        let images: Vec<&ImageName> = images.map(|(image, _)| image).collect();
        let failures = self.resolve_locks(&definition, images.iter().copied(), &locks, &tree).await?;
        let images = images.into_iter().cloned().collect();
        Ok(Some(Looked { images, failures, definition }))
    }

    /// Ends a run that looked; `said` is what became of it.
    pub(crate) async fn looked(
        &self,
        failures: &BTreeMap<ImageName, JobFailure>,
        said: Option<String>,
    ) -> Result<RunState, ControlError> {
        let failed = failures.iter().map(|(image, failure)| format!("{image}: {}", failure.message));
        let words: Vec<String> = failed.chain(said).collect();
        let state = if failures.is_empty() { RunState::Passed } else { RunState::Failed };
        let why = (!words.is_empty()).then(|| words.join("; "));
        let now = self.clock.now();
        self.store.end_run(self.run.number, RunState::Preparing, state, why.as_deref(), now).await?;
        self.events.send(self.run.number, RunEventKind::State(state));
        Ok(state)
    }
}

/// What a look found.
pub(crate) struct Looked {
    /// The images that were looked at.
    pub(crate) images: BTreeSet<ImageName>,
    /// Those that could not be, and why.
    pub(crate) failures: BTreeMap<ImageName, JobFailure>,
    pub(crate) definition: Definition,
}

fn look(image: &ImageName, result: LookResult) -> LockLook {
    LockLook { image: image.clone(), result, overlay: None, moves: LockMoves::default(), message: None }
}

/// Whether two locks pin the same; the epoch is only when they were made.
pub(crate) fn same_inputs(a: &Lock, b: &Lock) -> bool {
    a.request == b.request && a.base == b.base && a.packages == b.packages
}

fn no_answer() -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Lock,
        message: "the job ended without a lock".to_owned(),
        hint: None,
        output: Vec::new(),
    }
}
