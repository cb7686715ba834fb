use boon::{Compiler, Schemas};
use edgewright_model::format::{Diagnostic, Place};
use edgewright_model::moves::{BaseMove, ImageMove, LockCheck, LockCheckResult, LockMoves, PackageMove};
use edgewright_model::order::{BlobRef, ManifestRef};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::resolve::VarOrigin;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckOutcome, CheckResult, Evidence, LaneResult, Note};
use edgewright_model::{Digest, names};
use serde_json::json;

use super::described::{undescribed, undescribed_fields};
use super::*;
use crate::diagnostic::DiagnosticView;
use crate::schemas;

/// The same schema without room for fields that it does not describe.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut map: serde_json::Map<_, _> =
                map.iter().map(|(key, value)| (key.clone(), closed(value))).collect();
            if map.get("type") == Some(&json!("object")) && map.contains_key("properties") {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            Value::Object(map)
        }
        Value::Array(list) => list.iter().map(closed).collect(),
        other => other.clone(),
    }
}

fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("https://edgewright.example/it.json", schema.clone()).map_err(|e| e.to_string())?;
    let index =
        compiler.compile("https://edgewright.example/it.json", &mut schemas).map_err(|e| e.to_string())?;
    schemas.validate(value, index).map_err(|error| format!("{error}\n{value:#}"))
}

#[test]
fn every_field_of_every_document_is_described() {
    for document in DOCUMENTS {
        assert!(document.schema()["description"].is_string(), "{}", document.name);
    }
    assert_eq!(undescribed_fields(), [""; 0], "fields without a doc comment");
}

#[test]
fn an_undescribed_field_is_found() {
    let schema = json!({ "properties": {
        "a": { "type": "string", "description": "Described." },
        "b": { "oneOf": [{ "type": "null" }, { "$ref": "#", "description": "Described." }] },
        "kind": { "enum": ["one"] },
        "c": { "items": { "properties": { "d": {} } }, "description": "Described." },
        "e": { "description": "" }
    }});
    let mut found = Vec::new();
    undescribed(&schema, "it", &mut found);
    assert_eq!(found, ["it.e", "it/properties/c/items.d"]);
}

#[test]
fn examples_are_of_their_documents_and_have_no_other_fields() {
    for document in DOCUMENTS {
        let example = document.example().unwrap_or_else(|error| panic!("{}: {error}", document.name));
        let written: Value = serde_json::from_str(document.example).unwrap();
        assert_eq!(example, written, "{}: the example is not as its type prints it", document.name);
        validate(&closed(&document.schema()), &example)
            .unwrap_or_else(|error| panic!("{}: {error}", document.name));
        assert_eq!(example["schema"], document.identifier());
    }
}

#[test]
fn names_are_unique_and_a_document_starts_with_its_schema() {
    let names: std::collections::BTreeSet<_> = DOCUMENTS.iter().map(|document| document.name).collect();
    assert_eq!(names.len(), DOCUMENTS.len());
    let error = ErrorDocument {
        error: CommandError { code: "conflict".to_owned(), message: "m".to_owned(), hint: None },
    };
    let text = serde_json::to_string(&tagged(&error)).unwrap();
    let expected =
        r#"{"schema":"edgewright/error/v1","error":{"code":"conflict","message":"m","hint":null}}"#;
    assert_eq!(text, expected);
}

#[test]
fn a_document_of_another_version_is_refused_and_unknown_fields_are_not() {
    let document = DOCUMENTS.iter().find(|document| document.name == "error").unwrap();
    let mut value = document.example().unwrap();
    value["added_later"] = json!(1);
    validate(&document.schema(), &value).unwrap();
    value["schema"] = json!("edgewright/error/v2");
    validate(&document.schema(), &value).unwrap_err();
}

/// Checks values of a type of `model` against its schema here.
fn holds<Mirror: utoipa::ToSchema>(values: impl IntoIterator<Item = Value>) {
    let mut parts = Vec::new();
    Mirror::schemas(&mut parts);
    let mut schema = serde_json::to_value(Mirror::schema()).unwrap();
    let parts: serde_json::Map<_, _> =
        parts.into_iter().map(|(name, part)| (name, serde_json::to_value(part).unwrap())).collect();
    schema["components"] = json!({ "schemas": parts });
    let schema = closed(&schema);
    for value in values {
        validate(&schema, &value).unwrap();
    }
}

fn value(of: impl Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

#[test]
fn schemas_of_jobs_and_lanes_are_those_of_the_model() {
    let failure = |kind, phase| JobFailure { kind, phase, message: "m".into(), hint: None, output: vec![] };
    let kinds = [FailureKind::Image, FailureKind::Check, FailureKind::Infrastructure];
    let phases = [Phase::Lock, Phase::Fetch, Phase::Build, Phase::Push, Phase::Test];
    holds::<schemas::JobFailure>(kinds.map(|kind| value(failure(kind, Phase::Build))));
    holds::<schemas::JobFailure>(phases.map(|phase| value(failure(FailureKind::Image, phase))));
    let (kind, message) = (FailureKind::Check, "m".to_owned());
    holds::<schemas::LaneResult>(
        [LaneResult::Passed, LaneResult::Failed { kind, message: message.clone() }].map(value),
    );
    let outcomes = [
        CheckOutcome::Passed,
        CheckOutcome::Failed { kind, message, output: vec!["line".into()] },
        CheckOutcome::Skipped { reason: "r".into() },
    ];
    holds::<schemas::CheckResult>(outcomes.map(|outcome| {
        value(CheckResult { id: name("units"), outcome, duration_ms: 1, tries: 1, notes: vec!["n".into()] })
    }));
    let (repository, digest) = (name("plants/hmi"), Digest::of("x"));
    let blob = BlobRef { repository, digest: digest.clone(), size: 1 };
    holds::<schemas::ManifestRef>([value(ManifestRef { repository: blob.repository.clone(), digest })]);
    let evidence = Evidence { name: "journal".into(), media_type: "text/plain".into(), blob };
    holds::<schemas::Evidence>([value(evidence)]);
}

#[test]
fn schemas_of_notes_are_those_of_the_model() {
    let (lane, digest) = (Lane::Container, Digest::of("x"));
    let notes = [
        Note::Excepted {
            lane,
            check: name("units"),
            found: "f".into(),
            until: jiff::civil::date(2026, 1, 31),
            owner: "o".into(),
            reason: "r".into(),
        },
        Note::NotNew { lane, check: None, digest: digest.clone() },
        Note::Inherited { lane, variant: name("hmi/plant-a"), digest: digest.clone() },
        Note::Awaiting { lane, check_set: digest.clone(), until: jiff::Timestamp::UNIX_EPOCH },
        Note::Comparing { lane, digest },
        Note::Other,
    ];
    holds::<schemas::Note>(notes.map(value));
}

#[test]
fn schemas_of_update_checks_are_those_of_the_model() {
    let results =
        [LockCheckResult::First, LockCheckResult::Moved, LockCheckResult::Unchanged, LockCheckResult::Kept];
    holds::<schemas::UpdateCheck>(results.map(|result| {
        value(LockCheck {
            image: name("base"),
            result,
            overlay: Some(1),
            moves: LockMoves {
                base: Some(BaseMove { from: None, to: Digest::of("x") }),
                images: vec![ImageMove { name: "quay.io/a/b:1".into(), from: None, to: Digest::of("y") }],
                packages: vec![PackageMove { name: "curl".into(), from: None, to: Some("8".into()) }],
                refreshed: true,
                hashed: false,
            },
            message: Some("m".into()),
        })
    }));
}

#[test]
fn schemas_of_files_are_those_of_the_model() {
    let (site, image): (names::SiteName, names::ImageName) = (name("plant-a"), name("hmi"));
    let origins = [
        VarOrigin::Default { image: image.clone() },
        VarOrigin::Source,
        VarOrigin::Group { group: name("west") },
        VarOrigin::Site { site: site.clone() },
        VarOrigin::SiteImage { site: site.clone(), image },
        VarOrigin::Slot { site, slot: name("one") },
    ];
    holds::<schemas::VarOrigin>(origins.map(value));
    holds::<DiagnosticView>([value(DiagnosticView::error(Diagnostic {
        file: Some(name("images/hmi/image.yaml")),
        place: Some(Place { line: 1, column: 1, length: 1 }),
        message: "m".into(),
        hint: None,
    }))]);
}
