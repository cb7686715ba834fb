//! Devices.

use std::fmt::Write as _;

use edgewright_api::{DeviceIdentity, DeviceState, DeviceSummary, DeviceView, EnrolmentView};
use edgewright_model::Digest;
use edgewright_model::names::SiteName;
use jiff::Timestamp;

use super::style::{BOLD, DIM, RED, YELLOW, paint, plain};
use super::table::Table;
use super::units::age;

/// The list of devices.
pub(crate) fn devices(devices: &[DeviceSummary], now: Timestamp) -> String {
    let mut table = Table::new(["device", "slot", "variant", "channel", "state", "image", "seen", "note"]);
    for device in devices {
        table.row([
            paint(BOLD, &device.id),
            format!("{}/{}", site(device), device.slot),
            device.variant.as_ref().map(ToString::to_string).unwrap_or_default(),
            device.channel.as_ref().map(ToString::to_string).unwrap_or_default(),
            state(device.state),
            image(device),
            device.seen.map_or_else(|| paint(DIM, "never"), |at| age(at, now)),
            notes(device),
        ]);
    }
    table.text("no devices yet: `edgewright device enrol SLOT` makes a token for one")
}

/// The name of a device's site; its id if it was never declared.
fn site(device: &DeviceSummary) -> &str {
    device.site_name.as_ref().map_or(device.site.as_str(), SiteName::as_str)
}

/// One device with what is known about it.
pub(crate) fn device(view: &DeviceView, now: Timestamp) -> String {
    let mut text = devices(std::slice::from_ref(&view.device), now);
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{} {value}", paint(DIM, format!("{name}:")));
    };
    let short = |digest: &Option<Digest>| {
        digest.as_ref().map_or_else(|| "none".to_owned(), |digest| digest.short().to_owned())
    };
    line("offer", format!("{} ({})", short(&view.device.offer), plain(&view.reason)));
    line("last answer", short(&view.device.delivered));
    line("last healthy", short(&view.device.confirmed));
    if let Some(serial) = &view.serial {
        line("serial", plain(serial));
    }
    line("enrolled", age(view.enrolled, now));
    text.push_str("\n\n");
    let mut table = Table::new(["image", "step", "known", "how"]);
    for fact in &view.evidence {
        let basis = if fact.basis == "inferred" { paint(YELLOW, &fact.basis) } else { fact.basis.clone() };
        let step = if fact.step == "failed" { paint(RED, &fact.step) } else { fact.step.clone() };
        table.row([fact.digest.short().to_owned(), step, age(fact.at, now), basis]);
    }
    text.push_str(&table.text("nothing is known about its images yet"));
    text
}

/// A token, and what to do with it.
pub(crate) fn enrolment(token: &EnrolmentView, now: Timestamp) -> String {
    let place = match &token.slot {
        Some(slot) => format!("slot {}/{slot}", token.site),
        None => format!("{} free slots of site {}", token.uses, token.site),
    };
    crate::output::note(&format!("a token for {place}, valid until {}", moment(token, now)));
    crate::output::note("on the device: edgewright-agent enrol --server URL --token-file FILE");
    format!("{}\n", token.token)
}

fn moment(token: &EnrolmentView, now: Timestamp) -> String {
    super::units::moment(token.expires, now)
}

/// An identity; the credential itself only if it was not written into files.
pub(crate) fn identity(identity: &DeviceIdentity, with_credential: bool) -> String {
    let mut text = format!("{}\n{} {}\n", identity.device, paint(DIM, "pulls"), identity.image);
    if with_credential {
        let _ = writeln!(text, "{} {}", paint(DIM, "credential"), identity.credential);
    }
    if identity.state == DeviceState::Waiting {
        let _ = writeln!(text, "waits for `edgewright device approve {}`", identity.device);
    }
    text
}

fn state(state: DeviceState) -> String {
    match state {
        DeviceState::Active => "active".to_owned(),
        DeviceState::Waiting => paint(YELLOW, "waiting"),
        DeviceState::Held => paint(YELLOW, "held"),
        DeviceState::Revoked => paint(RED, "revoked"),
        DeviceState::Retired => paint(DIM, "retired"),
    }
}

/// How far the device is with its offer, as far as it is known for sure.
fn image(device: &DeviceSummary) -> String {
    let Some(offer) = &device.offer else { return paint(DIM, "none") };
    let step = if device.confirmed.as_ref() == Some(offer) {
        "healthy"
    } else if device.delivered.as_ref() == Some(offer) {
        "offered"
    } else {
        "not asked for yet"
    };
    format!("{} {}", offer.short(), paint(DIM, step))
}

fn notes(device: &DeviceSummary) -> String {
    let mut notes = Vec::new();
    if let Some(release) = device.pin {
        notes.push(format!("pinned to release {release}"));
    }
    if let Some(reason) = &device.state_reason {
        notes.push(plain(reason));
    }
    if device.orphan && device.state != DeviceState::Retired {
        notes.push(paint(YELLOW, "its slot is not declared any more"));
    }
    if let Some(clone) = &device.clone {
        notes.push(paint(RED, format!("may be two machines: {}", plain(clone))));
    }
    notes.join("; ")
}
