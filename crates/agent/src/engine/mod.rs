//! The engine: performs the actions of the state machine, and stores every record before it does.
//!
//! ```text
//!  events: start, time, commands, ends of jobs ─▶ step ─▶ reports and record to disk ─▶ actions ─▶ events
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `jobs` | the actions that take time, each ends with one event |
//! | `reports` | the way of reports from the queue to the server |
//! | `status` | the document of `status` |

mod jobs;
mod reports;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgewright_process::{CancellationToken, Clock, OwnedTask};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::blocking::{Stopped, blocking};
use crate::config::Config;
use crate::fetch::{FetchError, Registry};
use crate::health::{CheckSets, Runner};
use crate::history::History;
use crate::machine::{Action, Command, Context, Event, Outcome, Record, Rejected, step};
use crate::report::{Outbox, Place};
use crate::store::{StateFolder, StoreError};
use crate::updater::{UpdateError, Updater};

use reports::Sent;

pub use jobs::{Parts, ProgressNow};
pub use status::StatusDocument;

/// The longest sleep: clocks are set, and a timer does not notice.
const MAX_SLEEP: Duration = Duration::from_mins(1);
/// The shortest sleep: whatever the state, the agent is never busy.
const MIN_SLEEP: Duration = Duration::from_secs(1);
/// Maximum number of commands that wait.
const MAX_COMMANDS: usize = 16;

/// Why the engine ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The state cannot be read or written: no action is safe any more.
    #[error("cannot keep the state")]
    Store(#[from] StoreError),
    /// The updater's findings are unknown.
    #[error("cannot read what is deployed on this device")]
    Updater(#[from] UpdateError),
    /// The folder of downloads is unusable.
    #[error("cannot use the folder of downloads")]
    Blobs(#[from] FetchError),
    /// It was stopped in the middle of reading or writing.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A question to a running engine.
#[derive(Debug)]
pub enum Question {
    /// A command; the answer is sent once the machine has accepted and stored it.
    Command(Command, oneshot::Sender<Result<StatusDocument, Rejected>>),
    /// The status.
    Status(oneshot::Sender<StatusDocument>),
}

/// The way to a running engine.
pub type Questions = mpsc::Sender<Question>;

/// The engine of a device.
#[derive(Debug)]
pub struct Engine {
    parts: Arc<Parts>,
    state: StateFolder,
    outbox: Outbox,
    history: History,
    record: Record,
    stream: String,
    job: Option<(OwnedTask<Event>, CancellationToken)>,
    sender: Option<OwnedTask<Sent>>,
    /// Attempts to send reports that failed, since the last one that did not.
    send_failures: u32,
    questions: mpsc::Receiver<Question>,
    last_report: Timestamp,
    last_tick: Instant,
}

/// What an engine is made of.
#[derive(Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The updater.
    pub updater: Box<dyn Updater>,
    /// The folder of the state.
    pub state: StateFolder,
    /// The folder of downloads.
    pub downloads: PathBuf,
    /// The runner of health checks.
    pub runner: Runner,
    /// The program and arguments that reboot the device.
    pub reboot: Vec<String>,
    /// The clock.
    pub clock: Clock,
}

impl Engine {
    /// Reads the state, and asks the updater what runs. Returns the engine and the way to it.
    pub async fn start(setup: Setup, boot: String) -> Result<(Self, Questions), EngineError> {
        let Setup { config, updater, state, downloads, runner, reboot, clock } = setup;
        let now = clock.now();
        let (record, stream, outbox, sets, blobs) = {
            let (state, identity) = (state.clone(), config.identity());
            blocking(move || -> Result<_, EngineError> {
                let outbox = Outbox::open(&state.join("outbox"))?;
                let sets = CheckSets::open(&state.join("checks"))?;
                let blobs = crate::fetch::Blobs::open(&downloads)?;
                let record = state.load(now)?.reporting_as(identity);
                Ok((record, state.stream()?, outbox, sets, blobs))
            })
            .await??
        };
        let truth = updater.status().await?;
        let registry = Registry::new(&config)?;
        let history = History::new(state.join("history.jsonl"));
        let (sender, questions) = mpsc::channel(MAX_COMMANDS);
        let parts = Parts {
            config,
            updater,
            registry,
            blobs,
            sets,
            runner,
            reboot,
            clock,
            progress: ProgressNow::default(),
        };
        let mut engine = Self {
            parts: Arc::new(parts),
            state,
            outbox,
            history,
            record,
            stream,
            job: None,
            sender: None,
            send_failures: 0,
            questions,
            last_report: now,
            last_tick: Instant::now(),
        };
        // No command is part of it, so nothing is rejected.
        let _ = engine.advance(Event::Started { truth: Box::new(truth), boot }).await?;
        Ok((engine, sender))
    }

    /// The record as it is stored.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Works until the token fires. `beat` is called at least once a minute.
    pub async fn run(
        &mut self,
        cancel: &CancellationToken,
        beat: &(dyn Fn() + Sync),
    ) -> Result<(), EngineError> {
        while !cancel.is_cancelled() {
            beat();
            self.turn(cancel).await?;
        }
        self.stop_job().await;
        Ok(())
    }

    /// Works until nothing is under way: only time or a command leads on.
    pub async fn run_to_rest(&mut self, cancel: &CancellationToken) -> Result<(), EngineError> {
        while !(cancel.is_cancelled() || self.job.is_none() && self.record.state.is_at_rest()) {
            self.turn(cancel).await?;
        }
        self.stop_job().await;
        if let Some(sender) = self.sender.take().filter(|_| self.send_failures == 0) {
            let _ = sender.await;
        }
        Ok(())
    }

    /// Executes a command.
    pub async fn command(&mut self, command: Command) -> Result<Result<(), Rejected>, EngineError> {
        self.advance(Event::Command(command)).await
    }

    /// Waits for one event, and makes its step.
    async fn turn(&mut self, cancel: &CancellationToken) -> Result<(), EngineError> {
        let next_tick = self.next_tick();
        let job = async {
            match &mut self.job {
                Some((task, _)) => task.await.ok(),
                None => std::future::pending().await,
            }
        };
        let sender = async {
            match &mut self.sender {
                Some(task) => task.await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            sent = sender => {
                self.sender = None;
                self.sent(sent.unwrap_or(Sent::Later));
            }
            ended = job => {
                self.job = None;
                self.parts.progress.clear();
                if let Some(event) = ended {
                    self.refresh(&event).await;
                    let _ = self.advance(event).await?;
                }
            }
            () = tokio::time::sleep_until(next_tick) => {
                self.last_tick = Instant::now();
                let _ = self.advance(Event::Tick).await?;
                self.report_alive().await?;
                self.send_reports();
            }
            question = self.questions.recv() => {
                if let Some(question) = question {
                    self.answer(question).await?;
                }
            }
        }
        Ok(())
    }

    /// What the updater did shows in `status` and reports.
    async fn refresh(&mut self, event: &Event) {
        if matches!(event, Event::Downloaded { .. } | Event::Armed | Event::Blessed | Event::RolledBack)
            && let Ok(truth) = self.parts.updater.status().await
        {
            self.record.truth = truth;
        }
    }

    async fn answer(&mut self, question: Question) -> Result<(), EngineError> {
        match question {
            Question::Status(reply) => {
                // Who asked may be gone.
                let _ = reply.send(self.status().await);
            }
            Question::Command(command, reply) => {
                let outcome = self.advance(Event::Command(command)).await?;
                let status = self.status().await;
                let _ = reply.send(outcome.map(|()| status));
            }
        }
        Ok(())
    }

    /// The document of `status`.
    pub async fn status(&self) -> StatusDocument {
        let outbox = self.outbox.clone();
        let queued = blocking(move || outbox.len().ok()).await.ok().flatten();
        let facts = status::Facts {
            updater: self.parts.updater.name(),
            device: &self.parts.config.device,
            rules: &self.parts.config.rules,
            image: &self.parts.config.image,
        };
        StatusDocument::new(&self.record, &facts, queued, self.parts.progress.get())
    }

    /// One step: the reports and the record reach the disk before any action begins.
    async fn advance(&mut self, event: Event) -> Result<Result<(), Rejected>, EngineError> {
        let context = Context {
            now: self.parts.clock.now(),
            jitter: jitter(self.parts.config.rules.jitter),
            rules: &self.parts.config.rules,
        };
        let outcome = match step(&self.record, event, &context) {
            Ok(outcome) => outcome,
            Err(rejected) => return Ok(Err(rejected)),
        };
        let actions = self.persist(outcome, context.now).await?;
        for action in actions {
            self.perform(action).await;
        }
        Ok(Ok(()))
    }

    async fn persist(&mut self, outcome: Outcome, now: Timestamp) -> Result<Vec<Action>, EngineError> {
        let Outcome { mut record, actions, reports } = outcome;
        if record == self.record && reports.is_empty() {
            return Ok(actions);
        }
        let mut documents = Vec::new();
        let free_bytes = if reports.is_empty() { None } else { self.free().await };
        for body in reports {
            let place = Place { stream: &self.stream, sequence: record.next_report, at: now, free_bytes };
            documents.push(body.into_report(&record, place));
            record.next_report += 1;
        }
        let is_new_state = record.state != self.record.state || record.problem != self.record.problem;
        let (state, outbox, history) = (self.state.clone(), self.outbox.clone(), self.history.clone());
        let (stored, has_reports) = (record.clone(), !documents.is_empty());
        blocking(move || -> Result<(), StoreError> {
            for document in &documents {
                outbox.add(document)?;
            }
            state.save(&stored)?;
            if is_new_state {
                history.add(&stored, now);
            }
            Ok(())
        })
        .await??;
        if is_new_state {
            log_state(&record);
        }
        self.record = record;
        if has_reports {
            self.last_report = now;
            self.send_reports();
        }
        Ok(actions)
    }

    async fn free(&self) -> Option<u64> {
        let blobs = self.parts.blobs.clone();
        blocking(move || blobs.free().ok()).await.ok().flatten()
    }

    async fn perform(&mut self, action: Action) {
        self.stop_job().await;
        if action == Action::Stop {
            return;
        }
        let cancel = CancellationToken::new();
        let parts = Arc::clone(&self.parts);
        let record = self.record.clone();
        let token = cancel.clone();
        let task = OwnedTask::spawn(async move { parts.perform(action, &record, &token).await });
        self.job = Some((task, cancel));
    }

    /// Ends the running job, and waits until it is gone: two must not write to the same files.
    async fn stop_job(&mut self) {
        if let Some((task, cancel)) = self.job.take() {
            cancel.cancel();
            let _ = task.await;
        }
    }

    /// When something is due. It is counted from the last time, so that questions, however often they come,
    /// delay nothing.
    fn next_tick(&self) -> Instant {
        let now = self.parts.clock.now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        let waiting = match &self.record.state {
            crate::machine::State::Waiting { until, .. } => *until,
            _ => None,
        };
        // A check is due only at rest, and while a job runs a time that is reached changes nothing.
        let check = self.record.state.is_at_rest().then_some(self.record.next_check);
        let times = [check, self.record.retry_at, waiting];
        let soonest = times.into_iter().flatten().map(until).min().unwrap_or(MAX_SLEEP).min(MAX_SLEEP);
        let shortest = if self.job.is_some() { MAX_SLEEP } else { MIN_SLEEP };
        (Instant::now() + soonest).clamp(self.last_tick + shortest, self.last_tick + MAX_SLEEP)
    }
}

fn log_state(record: &Record) {
    let digest = record.state.update().map(|update| update.digest.to_string());
    let digest = digest.as_deref().unwrap_or("-");
    let state = record.state.name();
    if let Some(problem) = &record.problem {
        tracing::warn!(state, image.digest = digest, problem = problem.message, "state changed");
    } else {
        tracing::info!(state, image.digest = digest, "state changed");
    }
}

/// A random delay up to a limit.
fn jitter(most: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without random bytes there is no delay.
    if getrandom::fill(&mut bytes).is_err() {
        return Duration::ZERO;
    }
    most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
