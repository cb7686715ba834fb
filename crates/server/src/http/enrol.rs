//! Enrolment: tokens for operators, identities for devices. The secrets are made here and returned once; only
//! their hashes go further.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use edgewright_api::{ApiError, DeviceIdentity, EnrolPost, EnrolmentPost, EnrolmentView};
use edgewright_control::ControlError;
use edgewright_control::context::OperationContext;
use edgewright_control::devices::{EnrolmentRequest, Exchange, TokenRequest};
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::DeviceId;
use edgewright_store::fleet::FleetDevice;
use jiff::{SignedDuration, Timestamp};

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::parsed;
use crate::settings::Secret;
use crate::tokens::{self, TokenKind};
use crate::views;

/// How long a token can be used if nothing else is asked for, in seconds.
const EXPIRES_SECONDS: u32 = 24 * 60 * 60;
/// How long a token can be used at most, in seconds: 90 days.
const EXPIRES_SECONDS_LIMIT: u32 = 90 * EXPIRES_SECONDS;
/// How many devices a token can enrol at most.
const MAX_USES: u32 = 10_000;
/// The longest serial number and attempt, in bytes.
const TEXT_LIMIT: usize = 200;

pub(super) async fn make(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<EnrolmentPost>, JsonRejection>,
) -> JsonResult<EnrolmentView> {
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let seconds = post.expires_seconds.unwrap_or(EXPIRES_SECONDS);
    let uses = post.uses.unwrap_or(1);
    let fault = |message: String| Err(ApiError::user_fault(message).into());
    if post.site.is_none() && post.slot.is_none() {
        return fault("name a slot, or a site for tokens of any free slot".to_owned());
    }
    if post.slot.is_some() && uses > 1 {
        return fault("a slot has one device: name the site alone for a token with several uses".to_owned());
    }
    if post.replace && post.slot.is_none() {
        return fault("name the slot whose device is replaced".to_owned());
    }
    if !(1..=EXPIRES_SECONDS_LIMIT).contains(&seconds) {
        return fault(format!("invalid time {seconds} s: a token expires after 1 s to 90 days"));
    }
    if !(1..=MAX_USES).contains(&uses) || post.serials.len() > MAX_USES as usize {
        return fault(format!("a token can enrol 1 to {MAX_USES} devices"));
    }
    for serial in &post.serials {
        short("serial number", serial)?;
    }
    let expires_at =
        state.views.now().checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
    let request = TokenRequest {
        source: post.source,
        site: post.site,
        slot: post.slot,
        labels: post.labels,
        serials: post.serials,
        uses,
        needs_approval: post.approval,
        replace: post.replace,
        expires_at,
    };
    let token = secret(TokenKind::Enrolment)?;
    let hash = Digest::of(token.reveal());
    let rule = state.control.devices().make_token(&context, &request, &hash).await?;
    Ok(Json(EnrolmentView {
        token: token.reveal().to_owned(),
        site: rule.site,
        slot: rule.slot,
        uses: rule.uses,
        approval: rule.needs_approval,
        replaces: rule.replaces,
        expires: rule.expires_at,
    }))
}

pub(super) async fn enrol(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<EnrolPost>, JsonRejection>,
) -> JsonResult<DeviceIdentity> {
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    for (what, text) in [("serial number", &post.serial), ("attempt", &post.attempt)] {
        text.as_deref().map(|text| short(what, text)).transpose()?;
    }
    let request = EnrolmentRequest {
        token: Digest::of(post.token),
        attempt: post.attempt.map(Digest::of),
        slot: post.slot,
        serial: post.serial,
    };
    let credential = secret(TokenKind::Device)?;
    let id = tokens::device_id().map_err(no_random)?;
    let secrets = Exchange { id, credential: Digest::of(credential.reveal()) };
    let device = state.control.devices().enrol(&context, &request, &secrets).await?;
    Ok(Json(identity(&state, &device, &credential, None)))
}

pub(super) async fn rotate(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(device): Path<String>,
) -> JsonResult<DeviceIdentity> {
    let device: DeviceId = parsed(&device)?;
    let credential = secret(TokenKind::Device)?;
    let hash = Digest::of(credential.reveal());
    let until = state.control.devices().rotate(&context, &device, &hash).await?;
    let status = state.control.devices().status(&device);
    let row = status.ok_or(ControlError::NoDevice { device })?.row;
    Ok(Json(identity(&state, &row, &credential, Some(until))))
}

fn identity(
    state: &ApiState,
    device: &FleetDevice,
    credential: &Secret,
    old_until: Option<Timestamp>,
) -> DeviceIdentity {
    let (registry, tls) = state
        .views
        .registry_address()
        .map_or_else(Default::default, |address| (address.host.clone(), address.tls));
    DeviceIdentity {
        device: device.id.clone(),
        credential: credential.reveal().to_owned(),
        image: format!("{registry}/device/self:current"),
        registry,
        tls,
        site: device.site.clone(),
        slot: device.slot.clone(),
        state: views::device_state(&device.state),
        old_until,
    }
}

fn secret(kind: TokenKind) -> Result<Secret, HttpError> {
    tokens::generate(kind).map_err(no_random)
}

fn no_random(error: getrandom::Error) -> HttpError {
    let message = format!("the operating system provides no random bytes: {error}");
    HttpError::from(ApiError { code: ErrorClass::Unavailable, message, hint: None })
}

/// Checks a text that a client chose.
fn short(what: &str, text: &str) -> Result<(), HttpError> {
    if (1..=TEXT_LIMIT).contains(&text.len()) && !text.contains(char::is_control) {
        return Ok(());
    }
    let message = format!("invalid {what}: expected one line of 1 to {TEXT_LIMIT} bytes");
    Err(ApiError::user_fault(message).into())
}
