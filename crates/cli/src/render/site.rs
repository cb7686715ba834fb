//! Sites.

use edgewright_api::{SiteSummary, SiteView};
use jiff::Timestamp;

use super::style::{BOLD, DIM, paint, plain};
use super::table::Table;
use super::units::age;

/// The list of sites.
pub(crate) fn sites(sites: &[SiteSummary], now: Timestamp) -> String {
    let mut table = Table::new(["source", "site", "id", "slots", "labels", "note"]);
    for site in sites {
        table.row([
            site.source.to_string(),
            paint(BOLD, &site.name),
            site.id.to_string(),
            site.slot_count.to_string(),
            labels(&site.labels),
            removed(site.removed, now),
        ]);
    }
    table.text("no sites yet: a source declares them in sites/NAME/site.yaml")
}

/// One site with its slots.
pub(crate) fn site(view: &SiteView, now: Timestamp) -> String {
    let mut text = sites(std::slice::from_ref(&view.site), now);
    let mut table = Table::new(["slot", "name", "variant", "channel", "release", "digest", "labels", "note"]);
    for slot in &view.slots {
        let variant = slot.variant.as_ref().map_or_else(|| slot.image.to_string(), ToString::to_string);
        table.row([
            paint(BOLD, &slot.id),
            slot.name.as_deref().map(plain).unwrap_or_default(),
            variant,
            slot.channel.as_ref().map(ToString::to_string).unwrap_or_default(),
            slot.release.map_or_else(|| paint(DIM, "none"), |release| release.to_string()),
            slot.digest.as_ref().map(|digest| digest.short().to_owned()).unwrap_or_default(),
            labels(&slot.labels),
            removed(slot.removed, now),
        ]);
    }
    text.push('\n');
    text.push_str(&table.text("no slots"));
    text
}

fn labels<K: std::fmt::Display, V: std::fmt::Display>(labels: &std::collections::BTreeMap<K, V>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

fn removed(removed: Option<Timestamp>, now: Timestamp) -> String {
    removed.map(|at| paint(DIM, format!("not declared since {}", age(at, now)))).unwrap_or_default()
}
