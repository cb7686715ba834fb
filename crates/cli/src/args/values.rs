//! Parsers of option values. Their errors give an example.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use edgewright_model::names::{SiteName, SlotId};
use edgewright_model::spec::Lane;

/// One of some words.
pub(super) fn words(words: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(words)
}

/// A number as runs and releases have it.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a number such as 7".to_owned())
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDRESS:PORT such as 127.0.0.1:5080 or [::]:5080".to_owned())
}

/// A time as RFC 3339 has it.
pub(super) fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| "expected a time such as 2026-01-31T08:00:00Z".to_owned())
}

/// A build secret's id and file; the path is made absolute.
pub(super) fn secret(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((id, file)) if !id.is_empty() && !file.is_empty() => {
            let file = std::path::absolute(file).map_err(|error| error.to_string())?;
            Ok((id.to_owned(), file))
        }
        _ => Err("expected ID=FILE such as npm=/run/secrets/npm".to_owned()),
    }
}

/// A path of a device, and the file with its content.
pub(super) fn device_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((path, file)) if path.starts_with("/etc/") && !file.is_empty() => {
            Ok((path.to_owned(), file.into()))
        }
        _ => {
            Err("expected PATH=FILE with a path below /etc, such as /etc/plant.conf=plant-a.conf".to_owned())
        }
    }
}

/// A site and one of its slots.
pub(super) fn slot(text: &str) -> Result<(SiteName, SlotId), String> {
    let (site, slot) = text.split_once('/').ok_or("expected SITE/SLOT such as plant-a/press-1")?;
    let error = |error: edgewright_model::names::InvalidName| error.to_string();
    Ok((site.parse().map_err(error)?, slot.parse().map_err(error)?))
}

/// The fewest digits of a commit id that name a commit.
const FEWEST: usize = 7;
/// The digits of the longest commit id (SHA-256).
const MOST: usize = 64;

/// A commit id, in full or its first digits, in lower case.
pub(super) fn commit(text: &str) -> Result<String, String> {
    let is_id = (FEWEST..=MOST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(text.to_ascii_lowercase()) } else { Err("expected a commit id such as 4f1c2d3".to_owned()) }
}

/// A lane by its name.
pub(super) fn lane(text: &str) -> Result<Lane, String> {
    let found = Lane::ALL.into_iter().find(|lane| lane.name() == text);
    found.ok_or_else(|| format!("expected one of {}", Lane::ALL.map(Lane::name).join(", ")))
}
