//! The actions of the state machine. Each ends with one event.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::error::{Chain, ErrorClass};
use edgewright_process::{CancellationToken, Clock, Command};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::config::Config;
use crate::fetch::{Blobs, FetchError, Limiter, Registry};
use crate::health::{CheckSets, HealthResult, Runner};
use crate::machine::{Action, Event, Problem, ProblemKind, Record, Update};
use crate::updater::{Image, Progress, Step, UpdateError, Updater};

/// How long the device may take to go down before the reboot counts as failed.
const REBOOT_TIMEOUT: Duration = Duration::from_mins(10);

/// How long a boot on trial waits for health checks that its download did not store.
const CHECK_SET_TIMEOUT: Duration = Duration::from_secs(30);

/// What actions use. It does not change while the engine runs.
#[derive(Debug)]
pub struct Parts {
    pub(super) config: Config,
    pub(super) updater: Box<dyn Updater>,
    pub(super) registry: Registry,
    pub(super) blobs: Blobs,
    pub(super) sets: CheckSets,
    pub(super) runner: Runner,
    pub(super) reboot: Vec<String>,
    pub(super) clock: Clock,
    pub(super) progress: ProgressNow,
}

/// The progress of the running action, for `status`.
#[derive(Debug, Default, Clone)]
pub struct ProgressNow(std::sync::Arc<Mutex<Option<Doing>>>);

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// What, in words.
    pub what: String,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, if known.
    pub total_bytes: Option<u64>,
}

impl ProgressNow {
    pub(super) fn get(&self) -> Option<Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn set(&self, step: Step<'_>) {
        let doing = Doing { what: step.what.to_owned(), done_bytes: step.done, total_bytes: step.total };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(doing);
    }
}

impl Parts {
    /// Performs an action.
    pub(super) async fn perform(&self, action: Action, record: &Record, cancel: &CancellationToken) -> Event {
        match action {
            Action::Check => {
                tokio::select! {
                    () = cancel.cancelled() => Event::Tick,
                    found = self.registry.resolve() => match found {
                        Ok((update, _)) => Event::Found(update),
                        Err(error) => Event::Failed(error.problem()),
                    },
                }
            }
            Action::Download(update) => match self.download(&update, record, cancel).await {
                Ok(bytes) => Event::Downloaded { bytes },
                Err(_) if cancel.is_cancelled() => Event::Tick,
                Err(problem) => Event::Failed(problem),
            },
            Action::Arm(digest) => done(self.updater.arm(&digest).await, Event::Armed),
            Action::Bless => done(self.updater.bless().await, Event::Blessed),
            Action::RollBack => done(self.updater.roll_back().await, Event::RolledBack),
            Action::CheckHealth(update) => {
                // It is stored, unless the state was lost. A boot on trial does not wait for a network.
                let found = self.find_check_set(&update, cancel);
                let _ = tokio::time::timeout(CHECK_SET_TIMEOUT, found).await;
                Event::Health(self.check_health(&update, cancel).await)
            }
            Action::CheckFound(update) => match self.find_check_set(&update, cancel).await {
                Ok(()) => Event::Health(self.check_health(&update, cancel).await),
                Err(_) if cancel.is_cancelled() => Event::Tick,
                Err(problem) => Event::Failed(problem),
            },
            Action::Collect => {
                self.collect(record).await;
                Event::Tick
            }
            Action::Reboot => self.reboot_now(cancel).await,
            Action::Stop => Event::Tick,
        }
    }

    /// Gives the number of bytes of layers that were received.
    async fn download(
        &self,
        update: &Update,
        record: &Record,
        cancel: &CancellationToken,
    ) -> Result<u64, Problem> {
        let progress = self.progress.clone();
        let progress = Progress::new(move |step| progress.set(step), cancel.clone());
        let image = self.registry.documents(update, &self.blobs).await.map_err(|error| error.problem())?;
        self.save_check_set(update).await?;
        let missing = self.updater.missing(&image).await.map_err(|error| problem(&error))?;
        self.drop_other_blobs(&image).await.map_err(|error| error.problem())?;
        let mut limiter = Limiter::new(self.config.bandwidth);
        let fetched = self.registry.download(&missing, &self.blobs, &mut limiter, &progress).await;
        let fetched = fetched.map_err(|error| error.problem())?;
        tracing::info!(image.digest = %update.digest, blobs = fetched.blobs, bytes = fetched.bytes, "downloaded");
        match self.updater.stage(&image, &progress).await {
            Err(UpdateError::Corrupt { digest }) => {
                // What was verified when it arrived is damaged now: it is downloaded again.
                let path = self.blobs.path(&digest);
                let _ = tokio::fs::remove_file(&path).await;
                return Err(problem(&UpdateError::Corrupt { digest }));
            }
            staged => staged.map_err(|error| problem(&error))?,
        }
        // The updater has its own copy.
        self.collect_blobs(record).await;
        Ok(fetched.bytes)
    }

    /// Stores the checks of an image that was not downloaded by this agent, or whose checks were lost.
    async fn find_check_set(&self, update: &Update, cancel: &CancellationToken) -> Result<(), Problem> {
        let (sets, digest) = (self.sets.clone(), update.digest.clone());
        match blocking(move || sets.has(&digest)).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(local(&error)),
        }
        if !self.runner.settings.check_set {
            return Ok(());
        }
        self.progress.set(Step { what: "downloading the health checks", done: 0, total: None });
        tokio::select! {
            () = cancel.cancelled() => Err(FetchError::Cancelled.problem()),
            saved = self.save_check_set(update) => saved,
        }
    }

    /// Stores the checks of the image: after the reboot there may be no network.
    async fn save_check_set(&self, update: &Update) -> Result<(), Problem> {
        let found = self.registry.check_set(&update.digest).await.map_err(|error| error.problem())?;
        // That there is none is stored, too: it is not asked for again.
        let checks = found.unwrap_or_default();
        let (sets, digest) = (self.sets.clone(), update.digest.clone());
        let saved = blocking(move || sets.save(&digest, &checks)).await;
        match saved {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(local(&error)),
            Err(error) => Err(local(&error)),
        }
    }

    /// Blobs of earlier updates make room before this one is downloaded.
    async fn drop_other_blobs(&self, image: &Image) -> Result<(), FetchError> {
        let layers = edgewright_oci::image::layers(&image.manifest.bytes).unwrap_or_default();
        let config = edgewright_oci::image::config(&image.manifest.bytes).ok();
        let mut keep: Vec<_> = layers.into_iter().chain(config).map(|blob| blob.digest).collect();
        keep.push(image.digest().clone());
        let blobs = self.blobs.clone();
        blocking(move || blobs.keep_only(&keep)).await?
    }

    async fn check_health(&self, update: &Update, cancel: &CancellationToken) -> HealthResult {
        self.progress.set(Step { what: "checking health", done: 0, total: None });
        let (sets, digest) = (self.sets.clone(), update.digest.clone());
        let checks = match blocking(move || sets.load(&digest)).await {
            Ok(Ok(checks)) => checks,
            Ok(Err(error)) => {
                return HealthResult { fault: Some(Chain(&error).to_string()), ..HealthResult::default() };
            }
            Err(error) => return HealthResult { fault: Some(error.to_string()), ..HealthResult::default() },
        };
        let mut result = self.runner.run(self.runner.checks(checks), cancel).await;
        // Checks that were stopped decide nothing.
        if !cancel.is_cancelled() {
            self.runner.follow(&mut result, cancel).await;
        }
        result
    }

    async fn collect(&self, record: &Record) {
        match self.updater.collect().await {
            Ok(freed) => tracing::info!(bytes = freed, "removed what is no longer needed"),
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot remove what is no longer needed"),
        }
        self.collect_blobs(record).await;
        let truth = &record.truth;
        let known = [&truth.booted, &truth.fallback, &truth.staged].into_iter().flatten();
        let mut keep: Vec<_> = known.map(|deployment| deployment.digest.clone()).collect();
        keep.extend(record.state.update().map(|update| update.digest.clone()));
        let sets = self.sets.clone();
        if let Ok(Err(error)) = blocking(move || sets.keep_only(&keep)).await {
            tracing::warn!(error = %Chain(&error), "cannot remove old check sets");
        }
    }

    async fn collect_blobs(&self, record: &Record) {
        let blobs = self.blobs.clone();
        let keep: Vec<_> = record.state.update().map(|update| update.digest.clone()).into_iter().collect();
        if let Ok(Err(error)) = blocking(move || blobs.keep_only(&keep)).await {
            tracing::warn!(error = %Chain(&error), "cannot remove downloads");
        }
    }

    async fn reboot_now(&self, cancel: &CancellationToken) -> Event {
        let Some((program, arguments)) = self.reboot.split_first() else { return Event::Tick };
        tracing::warn!("rebooting");
        if let Err(error) = Command::new(program).args(arguments).run().await {
            return Event::Failed(local(&error));
        }
        tokio::select! {
            () = cancel.cancelled() => Event::Tick,
            () = tokio::time::sleep(REBOOT_TIMEOUT) => {
                let message = format!("the device did not go down within {} s", REBOOT_TIMEOUT.as_secs());
                let hint = Some("see `systemctl list-jobs` and `systemd-inhibit --list`".to_owned());
                Event::Failed(Problem { kind: ProblemKind::Local, message, hint, failures: 0, since: None })
            }
        }
    }
}

fn done(outcome: Result<(), UpdateError>, event: Event) -> Event {
    match outcome {
        Ok(()) => event,
        Err(error) => Event::Failed(problem(&error)),
    }
}

fn problem(error: &UpdateError) -> Problem {
    let kind = match error {
        UpdateError::Space { .. } => ProblemKind::Space,
        UpdateError::Corrupt { .. } => ProblemKind::Corrupt,
        UpdateError::NoFallback => ProblemKind::NoFallback,
        UpdateError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            ProblemKind::Space
        }
        error if error.class() == ErrorClass::UserFault => ProblemKind::Image,
        _ => ProblemKind::Updater,
    };
    Problem { kind, message: Chain(error).to_string(), hint: error.hint(), failures: 0, since: None }
}

fn local(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem {
        kind: ProblemKind::Local,
        message: Chain(error).to_string(),
        hint: None,
        failures: 0,
        since: None,
    }
}
