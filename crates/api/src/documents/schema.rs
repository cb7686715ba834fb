//! JSON Schemas of documents, made from the same `utoipa` schemas as the OpenAPI document. OpenAPI 3.1
//! schemas are JSON Schemas of draft 2020-12; what remains is to make each document stand alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Document, identifier};

/// Where `utoipa` puts the schemas that others refer to.
const COMPONENTS: &str = "#/components/schemas/";
/// Where JSON Schema has them.
const DEFINITIONS: &str = "#/$defs/";

/// The JSON Schema of a document.
pub(super) fn schema<T: Document>() -> Value {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let parts: BTreeMap<String, Value> = parts
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()))
        .collect();
    let own = serde_json::to_value(T::schema()).unwrap_or_default();
    let mut root = merged(&own, &parts);
    let identifier = identifier(T::NAME, T::VERSION);
    let about = "Name and version of this document's schema. It is the first field.";
    root["properties"]["schema"] = json!({ "const": identifier, "description": about });
    let mut required = vec![json!("schema")];
    required.extend(root["required"].as_array().cloned().unwrap_or_default());
    root["required"] = required.into();
    let definitions = definitions(&root, &parts);
    if !definitions.is_empty() {
        root["$defs"] = definitions.into();
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!(identifier);
    rewrite(&mut root);
    root
}

/// A schema whose flattened parts (`allOf`) are one list of properties, as in the document.
fn merged(schema: &Value, parts: &BTreeMap<String, Value>) -> Value {
    let Some(all) = schema.get("allOf").and_then(Value::as_array) else { return schema.clone() };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let mut description = schema.get("description").cloned();
    for part in all {
        let part = match reference(part) {
            Some(name) => parts.get(name).map(|part| merged(part, parts)).unwrap_or_default(),
            None => part.clone(),
        };
        // The part of the type's own fields comes last, and has the type's description.
        description = schema.get("description").or(part.get("description")).cloned().or(description);
        properties.extend(part.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
        required.extend(part.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    json!({ "type": "object", "description": description, "properties": properties, "required": required })
}

/// The definitions that a schema needs, with those that they need.
fn definitions(root: &Value, parts: &BTreeMap<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    let mut open: Vec<String> = references(root).into_iter().collect();
    while let Some(name) = open.pop() {
        if let Some(part) = parts.get(&name).filter(|_| !found.contains_key(&name)) {
            let part = merged(part, parts);
            open.extend(references(&part));
            found.insert(name, part);
        }
    }
    found
}

/// The name that a schema refers to, if it is a reference.
fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(COMPONENTS)
}

/// All names that a schema refers to.
fn references(schema: &Value) -> BTreeSet<String> {
    let below: Vec<&Value> = match schema {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    let own = reference(schema).map(str::to_owned);
    own.into_iter().chain(below.into_iter().flat_map(references)).collect()
}

/// Makes references of OpenAPI references of JSON Schema, and leaves out formats that JSON Schema does not
/// know.
fn rewrite(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(name) =
                map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(COMPONENTS))
            {
                let to = format!("{DEFINITIONS}{name}");
                map.insert("$ref".to_owned(), to.into());
            }
            if map.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("int")) {
                map.remove("format");
            }
            map.values_mut().for_each(rewrite);
        }
        Value::Array(list) => list.iter_mut().for_each(rewrite),
        _ => {}
    }
}
