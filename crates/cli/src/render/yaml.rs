//! JSON as YAML in block style. Strings are quoted as in JSON, which YAML 1.2 reads.

use std::fmt::Write as _;

use serde_json::Value;

/// A document, with a line feed at its end.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut text, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut text, value, 0),
        scalar => writeln(&mut text, scalar),
    }
    text
}

/// The lines of a map or list that is not empty.
fn block(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                text.push_str(&indent);
                text.push_str(&key(name));
                text.push(':');
                entry(text, value, depth);
            }
        }
        Value::Array(list) => {
            for value in list {
                text.push_str(&indent);
                text.push('-');
                if value.as_object().is_some_and(|map| map.values().any(|value| !value.is_null())) {
                    // The first key is on the line of the dash.
                    let mut inner = String::new();
                    block(&mut inner, value, depth + 1);
                    text.push(' ');
                    text.push_str(inner.trim_start());
                } else {
                    entry(text, value, depth);
                }
            }
        }
        scalar => writeln(text, scalar),
    }
}

/// What follows a key or a dash.
fn entry(text: &mut String, value: &Value, depth: usize) {
    let is_empty = match value {
        Value::Object(map) => map.values().all(Value::is_null),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(_) if is_empty => text.push_str(" {}\n"),
        Value::Array(_) if is_empty => text.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            text.push('\n');
            block(text, value, depth + 1);
        }
        scalar => {
            text.push(' ');
            writeln(text, scalar);
        }
    }
}

fn writeln(text: &mut String, scalar: &Value) {
    // A string takes everything.
    let _ = writeln!(text, "{scalar}");
}

/// A key as it is, if it cannot be anything else in YAML.
fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&&*name.to_ascii_lowercase());
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_lists_are_blocks_and_strings_are_quoted() {
        let value = json!({
            "kind": "Pod",
            "metadata": {"labels": {"edgewright.dev/order": "1", "on": "x"}, "annotations": {}, "gone": null},
            "spec": {"args": ["a\nb", ["c"], {"d": 1}], "none": [], "yes": true},
        });
        let expected = "kind: \"Pod\"\nmetadata:\n  annotations: {}\n  labels:\n    \
                        edgewright.dev/order: \"1\"\n    \"on\": \"x\"\nspec:\n  args:\n    - \"a\\nb\"\n    \
                        -\n      - \"c\"\n    - d: 1\n  none: []\n  \"yes\": true\n";
        assert_eq!(yaml(&value), expected);
    }
}
