//! Enrolment: an operator makes a token, a device exchanges it for an identity, an operator approves.
//!
//! The secrets are made by the caller, which has the random bytes; only their hashes get here.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::names::{DeviceId, SiteId, SlotId, SourceName};
use edgewright_model::spec::Labels;
use edgewright_registry::AccessToken;
use edgewright_store::StoreError;
use edgewright_store::fleet::FleetDevice;
use edgewright_store::fleet_enrol::{EnrolmentRule, EnrolmentToken, NewDevice};
use edgewright_store::sources::SourceId;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Devices;
use super::memory::{Credential, Memory};
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;

/// How long the credential before stays valid after a rotation: a device stores the new one in this time.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// Which devices a token is to be for.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Needed if several sources have the site.
    pub source: Option<SourceName>,
    /// Id or name of the site; none: of the only one that has the slot.
    pub site: Option<String>,
    /// None: any free slot of the site.
    pub slot: Option<SlotId>,
    pub labels: Labels,
    pub serials: BTreeSet<String>,
    pub uses: u32,
    pub needs_approval: bool,
    /// Whether the slot's device is replaced.
    pub replace: bool,
    pub expires_at: Timestamp,
}

/// What a device asks for.
#[derive(Debug, Clone)]
pub struct EnrolmentRequest {
    /// The hash of the token.
    pub token: Digest,
    /// What the device chose for this exchange, as a hash: a repeated one gives the same device.
    pub attempt: Option<Digest>,
    /// The slot that it wants.
    pub slot: Option<SlotId>,
    pub serial: Option<String>,
}

/// The secrets of an exchange, as hashes.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The id of a new device.
    pub id: DeviceId,
    /// The hash of its credential.
    pub credential: Digest,
}

impl Devices {
    /// Stores a token for one slot, or for the free slots of a site.
    ///
    /// # Errors
    /// The caller may not; there is no such slot, or it has a device already.
    pub async fn make_token(
        &self,
        context: &OperationContext,
        request: &TokenRequest,
        hash: &Digest,
    ) -> Result<EnrolmentRule, ControlError> {
        // A slot may have been declared a moment ago.
        self.refresh_if_changed().await?;
        let (rule, whereabouts) = {
            let memory = self.read();
            let (source, site) = place(&memory, request)?;
            let device = request.slot.as_ref().and_then(|slot| memory.in_slot(source, &site, slot).cloned());
            if let (Some(device), Some(slot), false) = (&device, &request.slot, request.replace) {
                return Err(ControlError::SlotTaken { slot: slot.clone(), device: device.clone() });
            }
            let rule = EnrolmentRule {
                source,
                site,
                slot: request.slot.clone(),
                labels: request.labels.clone(),
                serials: request.serials.clone(),
                uses: if request.slot.is_some() { 1 } else { request.uses },
                needs_approval: request.needs_approval,
                replaces: device.filter(|_| request.replace),
                expires_at: request.expires_at,
            };
            let whereabouts = memory.whereabouts(source, &rule.site);
            (rule, whereabouts)
        };
        context.permit(Operation::EnrolDevice, whereabouts.scope())?;
        let after = json!({
            "slot": rule.slot, "labels": rule.labels, "serials": rule.serials, "uses": rule.uses,
            "needs_approval": rule.needs_approval, "replaces": rule.replaces, "expires_at": rule.expires_at,
        });
        let object = format!("sites/{}/enrolment", rule.site);
        let entry = context.entry(Operation::EnrolDevice, object, None, Some(after));
        self.0.store.add_enrolment_token(hash, &rule, &entry, self.0.clock.now()).await?;
        Ok(rule)
    }

    /// Exchanges a token. An exchange that is repeated gives the same device, with another credential.
    ///
    /// # Errors
    /// The token is unknown, over, used up or for other devices; no slot is free.
    pub async fn enrol(
        &self,
        context: &OperationContext,
        request: &EnrolmentRequest,
        secrets: &Exchange,
    ) -> Result<FleetDevice, ControlError> {
        let now = self.0.clock.now();
        let denied = |why| ControlError::EnrolmentDenied { why };
        let read = async || {
            let found = self.0.store.enrolment_token(&request.token).await?;
            found.ok_or_else(|| denied("the token is unknown, or its time is over"))
        };
        let rule = read().await?.rule;
        let _turn = self.0.turns.of(rule.source, &rule.site).lock().await;
        let token = read().await?;
        if token.rule.expires_at <= now {
            return Err(denied("the token's time is over"));
        }
        if let Some(attempt) = &request.attempt
            && let Some(device) = self.0.store.enrolled(token.id, attempt).await?
        {
            return self.enrol_again(context, &device, secrets).await;
        }
        if token.rule.uses == 0 {
            return Err(denied("the token was used already"));
        }
        let serials = &token.rule.serials;
        if !serials.is_empty() && !request.serial.as_ref().is_some_and(|serial| serials.contains(serial)) {
            return Err(denied("the token is for devices with other serial numbers"));
        }
        self.refresh_if_changed().await?;
        let slot = free_slot(&self.read(), &token, request)?;
        let new = NewDevice {
            token: token.id,
            attempt: request.attempt.clone(),
            id: secrets.id.clone(),
            source: token.rule.source,
            site: token.rule.site.clone(),
            slot,
            is_waiting: token.rule.needs_approval,
            serial: request.serial.clone(),
            credential: secrets.credential.clone(),
            replaces: token.rule.replaces.clone(),
        };
        let after =
            json!({ "site": new.site, "slot": new.slot, "serial": new.serial, "waiting": new.is_waiting });
        let entry = context.entry(Operation::EnrolDevice, format!("devices/{}", new.id), None, Some(after));
        match self.0.store.enrol(&new, &entry, now).await {
            Err(StoreError::Conflict { .. }) => {
                return Err(denied("the token was used, or the slot was taken, at the same time"));
            }
            other => other?,
        }
        if let Some(old) = &new.replaces {
            self.reread(old).await?;
        }
        self.admit(&new.id, &secrets.credential).await
    }

    /// The device of an exchange whose response was lost gets another credential.
    async fn enrol_again(
        &self,
        context: &OperationContext,
        device: &DeviceId,
        secrets: &Exchange,
    ) -> Result<FleetDevice, ControlError> {
        let row = self.row(device)?;
        if !row.state.is_in_slot() {
            return Err(ControlError::EnrolmentDenied { why: "the device was revoked or retired since" });
        }
        let entry = context.entry(Operation::RotateDevice, format!("devices/{device}"), None, None);
        let now = self.0.clock.now();
        self.0.store.add_credential(device, &secrets.credential, None, &entry, now).await?;
        self.write().credentials.retain(|_, credential| credential.device != *device);
        self.admit(device, &secrets.credential).await
    }

    async fn admit(&self, device: &DeviceId, credential: &Digest) -> Result<FleetDevice, ControlError> {
        let known = Credential { device: device.clone(), expires_at: None };
        self.write().credentials.insert(AccessToken::of_hash(credential.clone()), known);
        let row = self.reread(device).await?;
        tracing::info!(device.id = %device, slot.id = %row.slot, device.state = row.state.name(), "device enrolled");
        Ok(row)
    }

    /// Gives a device another credential. The one before stays valid for a day, so that the device can store
    /// the new one.
    ///
    /// # Errors
    /// The caller is neither the device nor an operator; the device is revoked or retired.
    pub async fn rotate(
        &self,
        context: &OperationContext,
        device: &DeviceId,
        credential: &Digest,
    ) -> Result<Timestamp, ControlError> {
        context.permit(Operation::RotateDevice, self.whereabouts(device).scope())?;
        context.permit_device(Operation::RotateDevice, device)?;
        let row = self.row(device)?;
        if !row.state.is_in_slot() {
            return Err(ControlError::DeviceState { device: device.clone(), state: row.state.name() });
        }
        let now = self.0.clock.now();
        let until = now.checked_add(OVERLAP).unwrap_or(Timestamp::MAX);
        let entry = context.entry(Operation::RotateDevice, format!("devices/{device}"), None, None);
        self.0.store.add_credential(device, credential, Some(until), &entry, now).await?;
        {
            let mut memory = self.write();
            for known in memory.credentials.values_mut().filter(|known| known.device == *device) {
                known.expires_at.get_or_insert(until);
            }
            let known = Credential { device: device.clone(), expires_at: None };
            memory.credentials.insert(AccessToken::of_hash(credential.clone()), known);
        }
        // One that was revoked at the same time loses it again.
        self.reread(device).await?;
        Ok(until)
    }

    /// A device's row, from memory.
    pub(super) fn row(&self, device: &DeviceId) -> Result<FleetDevice, ControlError> {
        let row = self.read().devices.get(device).map(|member| member.row.clone());
        row.ok_or_else(|| ControlError::NoDevice { device: device.clone() })
    }
}

/// The source and the site that a request names.
fn place(memory: &Memory, request: &TokenRequest) -> Result<(SourceId, SiteId), ControlError> {
    let mut found = BTreeSet::new();
    for (source, facts) in &memory.sources {
        if request.source.is_some() && facts.name != request.source {
            continue;
        }
        for (id, site) in &facts.sites {
            let wanted = request.site.as_ref();
            let is_site = wanted.is_none_or(|name| id.as_str() == name || site.name.as_str() == name);
            let mut slots = site.slots.iter().filter(|(_, facts)| facts.is_declared);
            let is_slot = |slot| request.slot.as_ref().is_none_or(|name| name == slot);
            if is_site && slots.any(|(slot, _)| is_slot(slot)) {
                found.insert((*source, id.clone()));
            }
        }
    }
    let what = match (&request.site, &request.slot) {
        (Some(site), Some(slot)) => format!("{site}/{slot}"),
        (Some(site), None) => format!("{site}/…"),
        (None, slot) => slot.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(ControlError::ManySlots { slot: what }),
        (None, _) => Err(ControlError::NoSlot { slot: what }),
    }
}

/// The slot that a device gets by a token: the one that both name, or the first free one that matches.
fn free_slot(
    memory: &Memory,
    token: &EnrolmentToken,
    request: &EnrolmentRequest,
) -> Result<SlotId, ControlError> {
    let denied = |why| ControlError::EnrolmentDenied { why };
    let rule = &token.rule;
    if let (Some(named), Some(wanted)) = (&rule.slot, &request.slot)
        && named != wanted
    {
        return Err(denied("the token is for another slot"));
    }
    let wanted = rule.slot.as_ref().or(request.slot.as_ref());
    let source = memory.sources.get(&rule.source).ok_or_else(|| denied("its source is not followed"))?;
    let mut slots = source.sites.get(&rule.site).into_iter().flat_map(|site| &site.slots);
    let found = slots.find(|(slot, facts)| {
        let has_labels = rule.labels.iter().all(|(key, value)| facts.labels.get(key) == Some(value));
        let holder = || memory.in_slot(rule.source, &rule.site, slot);
        facts.is_declared
            && has_labels
            && wanted.is_none_or(|wanted| wanted == *slot)
            && holder().is_none_or(|id| rule.replaces.as_ref() == Some(id))
    });
    found.map(|(slot, _)| slot.clone()).ok_or_else(|| denied("no slot that the token is for is free"))
}
