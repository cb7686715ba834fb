//! What commands print with `--json`, against the published schemas in `docs/reference/json`.

use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::Value;

/// Reads a document, and panics unless its schema describes it with all of its fields.
pub(crate) fn validated(text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(
        text.trim_start_matches(['{', '\n', ' ']).starts_with("\"schema\""),
        "not the first field: {text}"
    );
    let name = document["schema"].as_str().and_then(|name| name.strip_prefix("edgewright/")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/json");
    let file = folder.join(format!("{}.schema.json", name.replace('/', ".")));
    let schema = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut schema = serde_json::from_slice(&schema).unwrap();
    close(&mut schema);
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let url = "https://edgewright.example/schema.json";
    compiler.add_resource(url, schema).unwrap();
    let index = compiler.compile(url, &mut schemas).unwrap();
    if let Err(error) = schemas.validate(&document, index) {
        panic!("{name}: {error:#}\n{document:#}");
    }
    document
}

/// Refuses fields that a schema does not describe: readers have to ignore them, but commands must not print
/// them.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            if map.get("type").is_some_and(|kind| kind == "object") && map.contains_key("properties") {
                map.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}
