//! The audit trail.

use std::fmt::Write as _;

use edgewright_api::AuditPage;
use jiff::Timestamp;
use serde_json::Value;

use super::style::plain;
use super::table::Table;
use super::units::age;

/// Who changed what, newest first.
pub(crate) fn audit(page: &AuditPage, now: Timestamp) -> String {
    let mut table = Table::new(["when", "actor", "operation", "object", "before → after"]);
    for entry in &page.entries {
        table.row([
            age(entry.at, now),
            entry.actor.to_string(),
            plain(&entry.operation),
            plain(&entry.object),
            plain(&change(entry.before.as_ref(), entry.after.as_ref())),
        ]);
    }
    let mut text = table.text("no changes");
    if let Some(next) = &page.next {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\nmore: --cursor {next}");
    }
    text
}

fn change(before: Option<&Value>, after: Option<&Value>) -> String {
    match (before, after) {
        (None, None) => String::new(),
        (None, Some(after)) => brief(after),
        (Some(before), None) => format!("{} →", brief(before)),
        (Some(before), Some(after)) => format!("{} → {}", brief(before), brief(after)),
    }
}

/// A state without JSON's punctuation: `release=8 run=12`.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}={}", brief(value))).collect();
            fields.join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_brief() {
        let (before, after) = (json!({"release": 7}), json!({"release": 8, "run": 12}));
        for (before, after, expected) in [
            (None, None, ""),
            (Some(&before), Some(&after), "release=7 → release=8 run=12"),
            (None, Some(&after), "release=8 run=12"),
            (Some(&json!("running")), None, "running →"),
        ] {
            assert_eq!(change(before, after), expected);
        }
    }
}
