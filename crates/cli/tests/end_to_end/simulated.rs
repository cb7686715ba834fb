//! A device without a machine: the agent's own state machine, client and reports, over a disk in memory.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use edgewright_agent::config::Config;
use edgewright_agent::fetch::{Blobs, Limiter, Registry};
use edgewright_agent::health::HealthResult;
use edgewright_agent::machine::{
    Action, Command, Context, Event, Problem, ProblemKind, Record, Update, step,
};
use edgewright_agent::report::Place;
use edgewright_agent::updater::{Deployment, Deployments, Progress};
use edgewright_api::identity::IdentityFormat;
use edgewright_api::{Client, DeviceReports, EnrolPost};
use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_model::outcome::FailureKind;
use edgewright_model::verdict::{CheckOutcome, CheckResult};
use edgewright_process::Clock;

use crate::server::Server;

/// A device with its disk.
pub(crate) struct Simulated {
    pub(crate) id: DeviceId,
    config: Config,
    registry: Registry,
    client: Client,
    blobs: Blobs,
    record: Record,
    disk: Deployments,
    /// Whether the next boot is that of the other image.
    is_switched: bool,
    boots: u32,
    /// How often it was installed: each time its reports begin another stream.
    installations: u32,
    /// What it was answered with, without repetitions in a row: indexes.
    pub(crate) answers: Vec<Digest>,
    /// What does not work on this device: indexes.
    pub(crate) broken: BTreeSet<Digest>,
    /// Whether it cannot return to the image before.
    pub(crate) is_stuck: bool,
}

impl Simulated {
    /// Exchanges a token as `edgewright-agent enrol` does, writes the same files, and starts.
    pub(crate) async fn enrol(server: &Server, token: &str, folder: &Path) -> Self {
        let url = format!("http://{}", server.address);
        let attempt = Some(folder.display().to_string());
        let post = EnrolPost { token: token.to_owned(), attempt, slot: None, serial: None };
        let identity = Client::new(&url).unwrap().enrol(&post).await.unwrap();
        std::fs::create_dir_all(folder).unwrap();
        for format in [IdentityFormat::Auth, IdentityFormat::Token, IdentityFormat::Agent] {
            let file = format.file(&identity, &url);
            let path = folder.join(file.path);
            std::fs::write(&path, file.content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode)).unwrap();
        }
        let config = Config::read(&folder.join(IdentityFormat::Agent.path())).unwrap();
        let mut device = Self {
            id: identity.device,
            registry: Registry::new(&config).unwrap(),
            client: Client::new(&url).unwrap().with_token(Some(identity.credential)),
            blobs: Blobs::open(&folder.join("downloads")).unwrap(),
            record: Record::new(Clock::system().now()),
            disk: Deployments {
                booted: Some(deployment(Digest::of("the image of the factory"))),
                ..Deployments::default()
            },
            is_switched: false,
            boots: 1,
            installations: 1,
            answers: Vec::new(),
            broken: BTreeSet::new(),
            is_stuck: false,
            config,
        };
        let started = device.started();
        device.work(started).await;
        device
    }

    /// Asks the registry, and does all that follows from its answer, until the device is at rest.
    pub(crate) async fn check(&mut self) {
        self.work(Event::Command(Command::Check)).await;
        assert!(self.record.state.is_at_rest(), "{}: {:?}", self.id, self.record.state);
    }

    /// Someone installs it with what it is offered: nothing else is on its disk.
    pub(crate) async fn install(&mut self) {
        let update = self.resolve().await;
        self.disk = Deployments { booted: Some(deployment(update.digest.clone())), ..Deployments::default() };
        self.record = Record::new(Clock::system().now());
        self.installations += 1;
        self.boots += 1;
        self.work(self.started()).await;
    }

    /// Someone updates it to what it is offered, and reboots it, while its agent does not run.
    pub(crate) async fn update_by_hand(&mut self) {
        let update = self.resolve().await;
        self.download(&update).await;
        self.disk.fallback = self.disk.booted.replace(self.disk.staged.take().unwrap());
        self.boots += 1;
        self.work(self.started()).await;
    }

    async fn resolve(&mut self) -> Update {
        let update = self.registry.resolve().await.unwrap().0;
        let index = update.index.clone().expect("an offer is an index");
        if self.answers.last() != Some(&index) {
            self.answers.push(index);
        }
        update
    }

    /// The index that it was answered with last.
    pub(crate) fn answer(&self) -> &Digest {
        self.answers.last().unwrap()
    }

    /// Whether it runs this manifest, or that of this index, and has confirmed it.
    pub(crate) fn has_confirmed(&self, digest: &Digest) -> bool {
        let booted = self.disk.booted.as_ref().map(|booted| &booted.digest);
        let confirmed = self.record.confirmed.as_ref().map(|confirmed| &confirmed.update);
        confirmed.is_some_and(|update| update.is(digest) && Some(&update.digest) == booted)
    }

    async fn work(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let rules = &self.config.rules;
            let context = Context { now: Clock::system().now(), jitter: Duration::ZERO, rules };
            let outcome = step(&self.record, event, &context).unwrap();
            self.record = outcome.record;
            let mut reports = Vec::new();
            for body in outcome.reports {
                let sequence = self.record.next_report;
                let stream = format!("{}-{}", self.id, self.installations);
                let place = Place { stream: &stream, sequence, at: context.now, free_bytes: Some(1 << 30) };
                reports.push(body.into_report(&self.record, place));
                self.record.next_report += 1;
            }
            if !reports.is_empty() {
                self.client.post_device_reports(&self.id, &DeviceReports { reports }).await.unwrap();
            }
            for action in outcome.actions {
                events.extend(self.perform(action).await);
            }
            self.record.truth = self.disk.clone();
        }
    }

    async fn perform(&mut self, action: Action) -> Option<Event> {
        Some(match action {
            Action::Check => Event::Found(self.resolve().await),
            Action::Download(update) => Event::Downloaded { bytes: self.download(&update).await },
            Action::Arm(digest) => {
                assert_eq!(self.disk.staged.as_ref().map(|staged| &staged.digest), Some(&digest));
                Event::Armed
            }
            Action::Reboot => {
                self.boots += 1;
                if let Some(staged) = self.disk.staged.take() {
                    self.disk.fallback = self.disk.booted.replace(staged);
                } else if std::mem::take(&mut self.is_switched) {
                    std::mem::swap(&mut self.disk.booted, &mut self.disk.fallback);
                }
                self.started()
            }
            Action::CheckHealth(update) => Event::Health(self.health(&update)),
            Action::CheckFound(update) => {
                // The server has none for these images, and responds so.
                assert_eq!(self.registry.check_set(&update.digest).await.unwrap(), None);
                Event::Health(self.health(&update))
            }
            Action::Bless => Event::Blessed,
            Action::RollBack if self.is_stuck => Event::Failed(Problem {
                kind: ProblemKind::NoFallback,
                message: "no other image on this device".to_owned(),
                hint: None,
                failures: 0,
                since: None,
            }),
            Action::RollBack => {
                self.is_switched = true;
                Event::RolledBack
            }
            Action::Collect | Action::Stop => return None,
        })
    }

    fn started(&self) -> Event {
        let boot = format!("{}-{}", self.id, self.boots);
        Event::Started { truth: Box::new(self.disk.clone()), boot }
    }

    /// Gets every layer, as onto an empty disk.
    async fn download(&mut self, update: &Update) -> u64 {
        let image = self.registry.documents(update, &self.blobs).await.unwrap();
        let layers = edgewright_oci::image::layers(&image.manifest.bytes).unwrap();
        let (mut limiter, progress) = (Limiter::new(None), Progress::quiet());
        let fetched = self.registry.download(&layers, &self.blobs, &mut limiter, &progress).await.unwrap();
        self.disk.staged = Some(deployment(update.digest.clone()));
        fetched.bytes
    }

    fn health(&self, update: &Update) -> HealthResult {
        let is_broken = self.broken.iter().any(|digest| update.is(digest));
        let outcome = if is_broken {
            let message = "exit code 1, expected 0".to_owned();
            CheckOutcome::Failed { kind: FailureKind::Check, message, output: Vec::new() }
        } else {
            CheckOutcome::Passed
        };
        let id = "press-works".parse().unwrap();
        let check = CheckResult { id, outcome, duration_ms: 1, tries: 1, notes: Vec::new() };
        HealthResult { checks: vec![check], ..HealthResult::default() }
    }
}

fn deployment(digest: Digest) -> Deployment {
    Deployment { digest, reference: None, verity: true, entry: None, tries_left: None, is_next: false }
}
