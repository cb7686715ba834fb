//! `schema`: the JSON Schemas of the format's files and of the documents of `--json`.

use edgewright_api::documents::DOCUMENTS;
use edgewright_model::error::ErrorClass;
use edgewright_model::format::{SchemaKind, schema};

use crate::exit::{End, Failure};
use crate::output;

/// Prints one schema, or those of all files by their kind. A document's name is the value of its field
/// `schema`.
pub(crate) fn print(kind: Option<&str>) -> Result<End, Failure> {
    let Some(name) = kind else {
        let all: std::collections::BTreeMap<&str, serde_json::Value> =
            SchemaKind::ALL.into_iter().map(|kind| (kind.name(), schema(kind))).collect();
        output::value(&all)?;
        return Ok(End::Good);
    };
    if let Some(document) = DOCUMENTS.iter().find(|document| document.identifier() == name) {
        output::value(&document.schema())?;
        return Ok(End::Good);
    }
    let Some(kind) = SchemaKind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let message = format!("there is no schema `{name}`");
        let known = SchemaKind::ALL.map(SchemaKind::name).join(", ");
        return Err(Failure::new(ErrorClass::NotFound, message)
            .hint(format!("schemas: {known}, and documents by their field `schema`")));
    };
    output::value(&schema(kind))?;
    Ok(End::Good)
}
