//! `schema`: the JSON Schemas of the format's files.

use edgewright_model::error::ErrorClass;
use edgewright_model::format::{SchemaKind, schema};

use crate::exit::{End, Failure};
use crate::output;

/// Prints one schema, or all by the name of their kind.
pub(crate) fn print(kind: Option<&str>) -> Result<End, Failure> {
    let Some(name) = kind else {
        let all: std::collections::BTreeMap<&str, serde_json::Value> =
            SchemaKind::ALL.into_iter().map(|kind| (kind.name(), schema(kind))).collect();
        output::json(&all)?;
        return Ok(End::Good);
    };
    let Some(kind) = SchemaKind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let message = format!("there is no schema `{name}`");
        let known = SchemaKind::ALL.map(SchemaKind::name).join(", ");
        return Err(Failure::new(ErrorClass::NotFound, message).hint(format!("schemas: {known}")));
    };
    output::json(&schema(kind))?;
    Ok(End::Good)
}
