//! Requests of the registry's clients, and the names in them.

use std::fmt::Display;
use std::str::FromStr;

use edgewright_model::Digest;
use edgewright_model::names::{ImageName, Platform, VariantName};
use edgewright_model::reference::{ImageReference, Reference, RepoName, Tag};
use edgewright_registry::fuzzing::{content_range, endpoint, manifest, percent_encode, query, range, token};

use crate::selected;

/// The first byte selects the part of a request.
pub fn registry(data: &[u8]) {
    let Some((part, data)) = selected(data) else { return };
    if part == b'm' {
        return manifests(data);
    }
    if part == b'a' {
        let token = token(data);
        assert!(token.is_none_or(|token| token.len() <= data.len()));
        return;
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match part {
        b'p' => paths(text),
        b'q' => queries(text),
        b'r' => ranges(text),
        _ => names(text),
    }
}

fn paths(path: &str) {
    let Some(printed) = endpoint(path) else { return };
    assert_eq!(endpoint(&printed).as_ref(), Some(&printed), "{path:?}");
    assert!(!printed.contains(['%', '?', '#', '\\', ' ']), "{printed:?}");
    assert!(printed.split('/').all(|part| !matches!(part, "." | "..")), "{printed:?}");
}

fn queries(text: &str) {
    for name in ["digest", "from", "mount", "n", "last", "artifactType", "scope", "service"] {
        for value in query(text, name) {
            let again = query(&format!("{name}={}", percent_encode(&value)), name);
            assert_eq!(again, [value]);
        }
    }
}

/// The first line is the size of the blob.
fn ranges(text: &str) {
    let (size, header) = text.split_once('\n').unwrap_or(("1000", text));
    let size: u64 = size.parse().unwrap_or(1000);
    if let Some(parts) = range(header, size) {
        assert!(parts.iter().all(|part| part.start < part.end && part.end <= size), "{parts:?} of {size}");
        let total: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
        assert!(total <= u128::from(size), "{parts:?} of {size}");
    }
    if let Some(part) = content_range(header) {
        assert!(part.start < part.end || part.end == u64::MAX, "{part:?}");
    }
}

/// The first line is the `Content-Type`.
fn manifests(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let content_type = std::str::from_utf8(&data[..end]).ok().filter(|text| !text.is_empty());
    let body = data.get(end + 1..).unwrap_or_default();
    let Some(read) = manifest(content_type, body) else { return };
    assert!(read.needs.len() <= body.len());
    let annotations: Result<serde_json::Value, _> = serde_json::from_str(&read.annotations);
    assert!(annotations.is_ok_and(|value| value.is_object()), "{}", read.annotations);
    // The type that it was pushed with reads the same.
    assert_eq!(manifest(Some(&read.media_type), body), Some(read));
}

fn names(text: &str) {
    prints_to_itself::<RepoName>(text);
    prints_to_itself::<Tag>(text);
    prints_to_itself::<Reference>(text);
    prints_to_itself::<Digest>(text);
    prints_to_itself::<ImageName>(text);
    prints_to_itself::<VariantName>(text);
    prints_to_itself::<Platform>(text);
    prints_to_itself::<ImageReference>(text);
}

fn prints_to_itself<T: FromStr + Display>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text);
    }
}
