//! Fields of documents that have no description: the reference is not written with one.

use serde_json::Value;

use super::DOCUMENTS;

/// The fields of all JSON documents and of the HTTP API that have no doc comment, with their places.
pub(super) fn undescribed_fields() -> Vec<String> {
    let mut found = Vec::new();
    for document in DOCUMENTS {
        undescribed(&document.schema(), document.name, &mut found);
    }
    undescribed(&crate::openapi::document()["components"]["schemas"], "openapi", &mut found);
    found
}

/// The properties of a schema and of all schemas in it that have no description, with their places.
pub(super) fn undescribed(schema: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            let alternatives = ["oneOf", "anyOf", "allOf"];
            let inner = alternatives.iter().filter_map(|key| property.get(key)?.as_array()).flatten();
            let has_text = |schema: &Value| {
                schema.get("description").and_then(Value::as_str).is_some_and(|text| text.len() > 4)
            };
            // The tag of an alternative: its one value is described by the alternative.
            let is_tag =
                property.get("enum").and_then(Value::as_array).is_some_and(|values| values.len() == 1);
            if !is_tag && !std::iter::once(property).chain(inner).any(has_text) {
                found.push(format!("{at}.{name}"));
            }
        }
    }
    match schema {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| undescribed(value, &format!("{at}/{key}"), found));
        }
        Value::Array(list) => list.iter().for_each(|value| undescribed(value, at, found)),
        _ => {}
    }
}
