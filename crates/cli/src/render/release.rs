//! Releases and channels.

use edgewright_api::{ChannelView, ReleaseView};
use edgewright_model::names::ChannelName;
use edgewright_model::run::EntryOrigin;
use jiff::Timestamp;

use super::run::commit;
use super::style::{DIM, GREEN, paint, plain};
use super::table::Table;
use super::units::age;

/// The list of releases, each with its entries.
pub(crate) fn releases(releases: &[ReleaseView], now: Timestamp) -> String {
    let mut table =
        Table::new(["release", "source", "channels", "when", "commit", "variant", "digest", "", "why"]);
    for release in releases {
        let channels: Vec<&str> = release.channels.iter().map(ChannelName::as_str).collect();
        let mut head = [
            release.number.to_string(),
            release.source.to_string(),
            channels.join(", "),
            age(release.created, now),
            commit(&release.commit).to_owned(),
        ];
        for entry in &release.entries {
            let style = if entry.origin == EntryOrigin::New { GREEN } else { DIM };
            let [number, source, channels, when, commit] = std::mem::take(&mut head);
            table.row([
                number,
                source,
                channels,
                when,
                commit,
                entry.variant.to_string(),
                entry.digest.short().to_owned(),
                paint(style, entry.origin),
                plain(&entry.reason),
            ]);
        }
    }
    table.text("no releases yet")
}

/// The list of channels.
pub(crate) fn channels(channels: &[ChannelView], now: Timestamp) -> String {
    let mut table = Table::new(["source", "channel", "follows", "release", "moved", "note"]);
    for channel in channels {
        let after = channel.after.as_ref().map(|after| format!(" after {after}")).unwrap_or_default();
        table.row([
            channel.source.to_string(),
            channel.name.to_string(),
            format!("{}{after}", plain(&channel.follows)),
            channel.release.map_or_else(|| paint(DIM, "none yet"), |number| number.to_string()),
            channel.moved.map(|moved| age(moved, now)).unwrap_or_default(),
            note(channel, now),
        ]);
    }
    table.text("no channels yet")
}

/// Why a channel does not follow.
fn note(channel: &ChannelView, now: Timestamp) -> String {
    let pinned = channel.pin.map(|release| {
        let why = channel.pin_reason.as_deref().map(plain).unwrap_or_default();
        format!("pinned to {release}: {why}")
    });
    let held = channel.hold.as_deref().map(|hold| format!("held: {}", plain(hold)));
    let removed = channel.removed.map(|at| format!("not declared since {}", age(at, now)));
    let notes: Vec<String> = [pinned, held, removed].into_iter().flatten().collect();
    notes.join("; ")
}
