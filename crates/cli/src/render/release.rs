//! Releases and channels.

use edgewright_api::{ChannelView, ReleaseView};
use edgewright_model::names::ChannelName;
use edgewright_model::run::{EntryOrigin, ReleaseNumber};
use jiff::Timestamp;

use super::facts::Facts;
use super::run::commit;
use super::style::{BOLD, DIM, GREEN, paint, plain};
use super::table::Table;
use super::units::{age, moment};

/// The list of releases, each with its entries.
pub(crate) fn releases(releases: &[ReleaseView], now: Timestamp) -> String {
    let mut table =
        Table::new(["release", "source", "channels", "when", "commit", "variant", "digest", "origin", "why"]);
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
            let [number, source, channels, when, commit] = std::mem::take(&mut head);
            table.row([
                number,
                source,
                channels,
                when,
                commit,
                entry.variant.to_string(),
                entry.digest.short().to_owned(),
                origin(entry.origin),
                plain(&entry.reason),
            ]);
        }
    }
    table.text("no releases yet")
}

/// One release: its facts, then its entries.
pub(crate) fn release(release: &ReleaseView, now: Timestamp) -> String {
    let mut facts = Facts::new("channels".len());
    let channels: Vec<&str> = release.channels.iter().map(ChannelName::as_str).collect();
    facts.add("release", format!("{} of {}", paint(BOLD, release.number), release.source));
    facts.add("channels", channels.join(", "));
    facts.add("commit", format!("{} ({})", commit(&release.commit), release.branch));
    facts.add("created", format!("{} by run {}", moment(release.created, now), release.run));
    let mut table = Table::new(["variant", "repository", "digest", "origin", "why"]);
    for entry in &release.entries {
        table.row([
            entry.variant.to_string(),
            entry.repository.to_string(),
            entry.digest.short().to_owned(),
            origin(entry.origin),
            plain(&entry.reason),
        ]);
    }
    format!("{}\n{}", facts.into_text(), table.text("no entries"))
}

fn origin(origin: EntryOrigin) -> String {
    paint(if origin == EntryOrigin::New { GREEN } else { DIM }, origin)
}

/// One channel.
pub(crate) fn channel(channel: &ChannelView, now: Timestamp) -> String {
    let number = |number: Option<ReleaseNumber>| number.map(|number| number.to_string()).unwrap_or_default();
    let mut facts = Facts::new("follows".len());
    facts.add("channel", format!("{} of {}", paint(BOLD, &channel.name), channel.source));
    facts.add("follows", plain(&channel.follows));
    facts.add("after", channel.after.as_deref().unwrap_or_default());
    facts.add("rollout", channel.rollout.as_deref().map(plain).unwrap_or_default());
    facts.add("release", channel.release.map_or_else(|| "none yet".to_owned(), |at| at.to_string()));
    facts.add("target", number(channel.target_release.filter(|target| Some(*target) != channel.release)));
    facts.add("moved", channel.moved.map(|moved| moment(moved, now)).unwrap_or_default());
    facts.add("note", note(channel, now));
    facts.into_text()
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
    let waits = channel.awaited_test.as_deref().map(plain);
    let notes: Vec<String> = [pinned, held, waits, removed].into_iter().flatten().collect();
    notes.join("; ")
}
