//! JSON Schemas for editors, made of the shapes by which the decoder rejects unknown keys.

use serde_json::{Map, Value, json};

use super::shape::{self, Field, Kind, Shape};

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

/// The JSON Schema (draft 2020-12) of a kind of file. References between files are beyond a schema; `check`
/// finds them.
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
        .chain(shape.keys.iter().filter_map(deprecated))
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

/// The old spelling of a key, as editors strike it through.
fn deprecated(field: &Field) -> Option<(String, Value)> {
    let mut value = of(&field.kind);
    value["deprecated"] = json!(true);
    value["description"] = json!(format!("Old name of `{}`.", field.name));
    Some((field.old_name?.to_owned(), value))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use boon::{Compiler, SchemaIndex, Schemas};

    use super::super::yaml::{self, Data, Node};
    use super::*;

    /// The value that an editor's validator sees.
    fn json(node: &Node) -> Value {
        match &node.data {
            Data::Refused | Data::Null => Value::Null,
            Data::Boolean(value) => json!(value),
            Data::Integer(value) => json!(value),
            Data::Number(text) => json!(text.parse::<f64>().unwrap()),
            Data::Text(text) => json!(text),
            Data::List(items) => items.iter().map(json).collect(),
            Data::Map(entries) => {
                entries.iter().map(|(key, value)| (key.text.clone(), json(value))).collect()
            }
        }
    }

    /// The schemas, compiled by an independent validator.
    struct Editor(Schemas, Vec<(SchemaKind, SchemaIndex)>);

    impl Editor {
        fn new() -> Self {
            let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
            let mut compile = |kind: SchemaKind| {
                let url = format!("https://edgewright.example/{}.json", kind.name());
                compiler.add_resource(&url, schema(kind)).unwrap();
                (kind, compiler.compile(&url, &mut schemas).unwrap())
            };
            let editors = SchemaKind::ALL.map(&mut compile).into();
            Self(schemas, editors)
        }

        /// The validator's error for a file of the format; `None` for a valid file, and for a file that is
        /// not of the format.
        fn complaint(&self, path: &str, text: &str) -> Option<String> {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let kind = match name {
                "edgewright.yaml" => SchemaKind::Source,
                "image.yaml" => SchemaKind::Image,
                "site.yaml" => SchemaKind::Site,
                _ if folder == "exceptions" => SchemaKind::Exception,
                _ => return None,
            };
            let value = json(&yaml::read(text).0.unwrap());
            let (_, index) = self.1.iter().find(|(it, _)| *it == kind).unwrap();
            self.0.validate(&value, *index).err().map(|error| format!("{path}: {error:#}"))
        }
    }

    /// Every file of a folder with its path in it.
    fn files(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn a_validator_accepts_what_the_decoder_accepts() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sample");
        let mut all = Vec::new();
        files(&sample, &sample, &mut all);
        assert!(all.len() >= 6, "the sample exists");
        let good = include_str!("../../tests/good.txt").split("== ").skip(1);
        all.extend(good.filter_map(|file| {
            let (path, text) = file.split_once('\n')?;
            Some((path.to_owned(), text.to_owned()))
        }));
        let editor = Editor::new();
        let complaints: Vec<String> =
            all.iter().filter_map(|(path, text)| editor.complaint(path, text)).collect();
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn a_validator_rejects_mistakes() {
        let editor = Editor::new();
        for (path, text) in [
            ("edgewright.yaml", "edgewright: 2\nname: a\n"),
            ("edgewright.yaml", "edgewright: 1\n"),
            ("edgewright.yaml", "edgewright: 1\nname: a\nvar: {a: 1}\n"),
            ("images/a/image.yaml", "from: scratch\nper: sites\n"),
            ("images/a/image.yaml", "from: scratch\nsteps: [{files: a, containerfile: b}]\n"),
            ("images/a/image.yaml", "from: a\nlabels: {n: 1}\n"),
            ("images/a/image.yaml", "from: a\nchecks: [{id: a, port: 80, timeout: 60}]\n"),
            ("images/a/image.yaml", "from: a\nchecks: [{id: a}]\n"),
            ("sites/a/site.yaml", "id: a\nslots: [{id: b}]\n"),
            ("exceptions/a.yaml", "{check: a, variants: b, reason: c, owner: d, until: 2027-01-01}\n"),
        ] {
            assert!(editor.complaint(path, text).is_some(), "{path}: {text}");
        }
    }
}
