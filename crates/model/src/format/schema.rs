//! JSON Schemas for editors, made of the same shapes that the decoder refuses keys by.

use serde_json::{Map, Value, json};

use super::shape::{self, Kind, Shape};

/// The files of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    /// `edgewright.yaml`.
    Source,
    /// `images/*/image.yaml`.
    Image,
    /// `sites/*/site.yaml`.
    Site,
    /// `exceptions/*.yaml`.
    Exception,
}

impl SchemaKind {
    /// Every kind of file.
    pub const ALL: [Self; 4] = [Self::Source, Self::Image, Self::Site, Self::Exception];

    /// The word for it on the command line and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "edgewright",
            Self::Image => "image",
            Self::Site => "site",
            Self::Exception => "exception",
        }
    }

    pub(super) const fn shape(self) -> &'static Shape {
        match self {
            Self::Source => &shape::SOURCE,
            Self::Image => &shape::IMAGE,
            Self::Site => &shape::SITE,
            Self::Exception => &shape::EXCEPTION,
        }
    }
}

/// The JSON Schema (draft 2020-12) of a kind of file. References between files are not in its reach; `check` sees them.
pub fn schema(kind: SchemaKind) -> Value {
    let mut schema = record(kind.shape());
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        map.insert("title".to_owned(), json!(kind.shape().what));
    }
    schema
}

fn record(shape: &Shape) -> Value {
    let properties: Map<String, Value> = shape
        .keys
        .iter()
        .map(|field| {
            let mut value = of(&field.kind);
            if let Value::Object(map) = &mut value {
                map.insert("description".to_owned(), json!(field.doc));
            }
            (field.name.to_owned(), value)
        })
        .collect();
    let needed: Vec<&str> = shape.keys.iter().filter(|field| field.needed).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    if !shape.one_of.is_empty() {
        schema["oneOf"] = shape.one_of.iter().map(|key| json!({"required": [key]})).collect();
    }
    schema
}

fn of(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Value => json!({"type": ["string", "integer", "boolean", "array", "object"]}),
        Kind::Span => json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}),
        Kind::Size => json!({"type": "string", "pattern": "^[0-9]+([KMGT]i?)?B$"}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::List(item) => json!({"type": "array", "items": of(item)}),
        Kind::Map(value) => json!({"type": "object", "additionalProperties": of(value)}),
        Kind::Record(shape) => record(shape),
        Kind::Either(kinds) => json!({"anyOf": kinds.iter().map(of).collect::<Vec<_>>()}),
    }
}
