//! The reconciler of devices: writes what was noted, hands evidence to rollouts, judges downloads, and reads
//! again what offers are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_model::principal::{Principal, PrincipalKind};
use edgewright_rollout::state::Rung;
use edgewright_store::fleet::Image;
use edgewright_store::fleet_evidence::{DeviceFact, FleetNotes};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Devices;
use super::clones::Sighting;
use super::downloads::Blobs;
use super::notes::{INFERRED, Noted, REPORTED, Waiting};
use super::port::Evidence;
use crate::ControlError;
use crate::access::{NotPermitted, Operation};
use crate::context::OperationContext;
use crate::hosting::Hosting;
use crate::reconcile::{Outcome, Reconciler};

/// How often notes are written, at least. A crash loses so much of what was seen, and no offer.
const PERIOD: Duration = Duration::from_secs(5);
/// After how many passes expired tokens and credentials are removed: about an hour.
const PASSES_OF_EXPIRY: u32 = 720;

/// The event of a report.
#[derive(Debug, Clone)]
pub struct DeviceEvent {
    pub sighting: Sighting,
    /// The kind of the report, such as `confirmed`.
    pub kind: String,
    /// The digest that it is about.
    pub digest: Option<Digest>,
    /// The digest that runs.
    pub booted: Option<Digest>,
    /// Whether it reports health checks that failed.
    pub is_unhealthy: bool,
}

/// Keeps devices and the database together.
#[derive(Debug)]
pub(crate) struct DeviceKeeper {
    pub(crate) devices: Devices,
    pub(crate) hosting: Hosting,
    pub(crate) passes: AtomicU32,
}

impl Devices {
    /// A request of a device came from an address.
    pub fn came(&self, device: &DeviceId, from: IpAddr) {
        self.0.notes.come(device, from, self.0.clock.now());
    }

    /// Whether a device gets content: not after it was revoked, also if it was while it downloads.
    pub fn is_served(&self, device: &DeviceId) -> bool {
        self.read().devices.get(device).is_some_and(|member| member.row.state.is_member())
    }

    /// A manifest or blob was sent to a device, to its end.
    pub fn sent(&self, device: &DeviceId, digest: &Digest) {
        let delivered = {
            let memory = self.read();
            memory.devices.get(device).and_then(|member| member.row.delivered.clone())
        };
        if let Some(image) = delivered {
            self.0.notes.sent(device, &image, digest, self.0.clock.now());
        }
    }

    /// Whether a principal may report for a device: a device for itself, the shared token for devices that
    /// are not enrolled.
    pub(crate) fn permit_reports(
        &self,
        context: &OperationContext,
        device: &DeviceId,
    ) -> Result<(), NotPermitted> {
        context.permit_device(Operation::ReportDevice, device)?;
        match context.actor() {
            Principal::Device { id: None } if self.is_enrolled(device) => {
                tracing::warn!(device.id = %device, "refused: the shared token reports for an enrolled device");
                Err(NotPermitted { kind: PrincipalKind::Device, operation: Operation::ReportDevice })
            }
            _ => Ok(()),
        }
    }

    /// A device reported an event.
    pub(crate) fn reported(&self, device: &DeviceId, event: &DeviceEvent) {
        if !self.is_enrolled(device) {
            return;
        }
        let at = self.0.clock.now();
        self.0.notes.see(device, at);
        self.0.notes.sight(device, &event.sighting, at);
        let (about, booted) = (event.digest.as_ref(), event.booted.as_ref());
        let evidence = match event.kind.as_str() {
            "staged" => about.map(|digest| (digest, Evidence::Reached(Rung::Downloaded))),
            "confirmed" => booted.or(about).map(|digest| (digest, Evidence::Reached(Rung::Healthy))),
            // A device that cannot return to another image sends no further report about this one.
            "health" if event.is_unhealthy => about.map(|digest| (digest, Evidence::Failed)),
            "rolled_back" => about.map(|digest| (digest, Evidence::Failed)),
            // The agent reports what the updater found: the digest that runs.
            _ => booted.map(|digest| (digest, Evidence::Reached(Rung::Booted))),
        };
        if let Some((digest, evidence)) = evidence {
            let (device, digest) = (device.clone(), digest.clone());
            self.0.notes.add(Noted { device, digest, evidence, basis: REPORTED, at });
            self.0.wake.wake("a device reported");
        }
    }

    /// Writes everything that was noted, and hands it to rollouts.
    async fn flush(&self, hosting: &Hosting) -> Result<usize, ControlError> {
        let mut known = Blobs::new();
        for (device, download) in self.0.notes.changed_downloads() {
            self.judge_download(hosting, &mut known, &device, &download).await;
        }
        let waiting = self.0.notes.take();
        let digests: BTreeSet<&Digest> = waiting.evidence.iter().map(|noted| &noted.digest).collect();
        let indexes = self.0.store.indexes_with(&digests).await;
        let indexes = match indexes {
            Ok(indexes) => indexes,
            Err(error) => {
                self.0.notes.put_back(waiting);
                return Err(error.into());
            }
        };
        let notes = self.to_write(&waiting, &indexes);
        let count = notes.facts.len() + notes.seen.len();
        if !notes.is_empty()
            && let Err(error) = self.0.store.write_fleet_notes(notes.clone()).await
        {
            self.0.notes.put_back(waiting);
            return Err(error.into());
        }
        self.take_over(&notes);
        self.hand_over(waiting.evidence, &indexes).await?;
        Ok(count)
    }

    /// Hands evidence to rollouts. What cannot be written there waits for the next pass.
    async fn hand_over(
        &self,
        evidence: Vec<Noted>,
        indexes: &BTreeMap<Digest, Image>,
    ) -> Result<(), ControlError> {
        // Inferred facts are shown; no gate decides by them.
        let mut left = evidence.into_iter().filter(|noted| noted.basis != INFERRED);
        while let Some(noted) = left.next() {
            let digest = indexes.get(&noted.digest).map_or(&noted.digest, |image| &image.digest);
            let written = self.0.rollouts.note(&noted.device, digest, noted.evidence, noted.at).await;
            if let Err(error) = written {
                let evidence = std::iter::once(noted).chain(left).collect();
                self.0.notes.put_back(Waiting { evidence, ..Waiting::default() });
                return Err(error);
            }
        }
        Ok(())
    }

    /// The rows of what was noted. Devices name platform manifests; rows name the index that holds it.
    fn to_write(&self, waiting: &Waiting, indexes: &BTreeMap<Digest, Image>) -> FleetNotes {
        let mut notes = FleetNotes {
            seen: waiting.seen.iter().map(|(device, at)| (device.clone(), *at)).collect(),
            clones: waiting.clones.clone(),
            ..FleetNotes::default()
        };
        for noted in &waiting.evidence {
            let image = indexes.get(&noted.digest);
            let digest = image.map_or(&noted.digest, |image| &image.digest).clone();
            let rung = match noted.evidence {
                Evidence::Failed => "failed",
                Evidence::Reached(rung) => rung.name(),
            };
            if let (Evidence::Reached(Rung::Healthy), Some(image)) = (noted.evidence, image) {
                notes.confirmed.push((noted.device.clone(), image.clone(), noted.at));
            }
            let is_running = matches!(noted.evidence, Evidence::Reached(Rung::Booted | Rung::Healthy));
            if let Some(image) = image.filter(|_| is_running && self.is_unsure(&noted.device)) {
                notes.found.push((noted.device.clone(), image.clone()));
            }
            notes.facts.push(DeviceFact {
                device: noted.device.clone(),
                digest,
                rung: rung.to_owned(),
                basis: noted.basis.to_owned(),
                at: noted.at,
            });
        }
        notes
    }

    fn is_unsure(&self, device: &DeviceId) -> bool {
        self.read().devices.get(device).is_some_and(|member| member.row.is_unsure)
    }

    /// Takes what was written over into memory.
    fn take_over(&self, notes: &FleetNotes) {
        let mut memory = self.write();
        for (device, at) in &notes.seen {
            if let Some(member) = memory.devices.get_mut(device) {
                member.row.seen_at = member.row.seen_at.max(Some(*at));
            }
        }
        for fact in notes.facts.iter().filter(|fact| fact.rung == "failed") {
            if let Some(member) = memory.devices.get_mut(&fact.device) {
                member.failed.insert(fact.digest.clone());
            }
        }
        for (device, image) in &notes.found {
            if let Some(member) = memory.devices.get_mut(device) {
                member.row.delivered = Some(image.clone());
                member.row.is_unsure = false;
            }
        }
        for (device, image, _) in &notes.confirmed {
            if let Some(member) = memory.devices.get_mut(device) {
                member.row.confirmed = Some(image.clone());
            }
        }
        for (device, why, at) in &notes.clones {
            if let Some(member) = memory.devices.get_mut(device) {
                tracing::warn!(device.id = %device, reason = why, "a device may be two machines");
                member.row.clone = Some((why.clone(), *at));
            }
        }
    }
}

impl Reconciler for DeviceKeeper {
    fn name(&self) -> String {
        "devices".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let devices = &self.devices;
            devices.refresh_if_changed().await?;
            let count = devices.flush(&self.hosting).await?;
            if self.passes.fetch_add(1, Ordering::Relaxed).is_multiple_of(PASSES_OF_EXPIRY) {
                devices.forget_expired().await?;
            }
            Ok(Outcome::counted(count, "noted", "fact"))
        }
        .boxed()
    }
}

impl Devices {
    /// Removes credentials whose time is over. They are invalid since then, whether or not this has run.
    async fn forget_expired(&self) -> Result<(), ControlError> {
        let now = self.0.clock.now();
        self.write().credentials.retain(|_, known| known.expires_at.is_none_or(|end| end > now));
        Ok(self.0.store.drop_expired_enrolment(now).await?)
    }
}
