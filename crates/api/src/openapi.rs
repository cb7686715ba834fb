//! The OpenAPI document: paths from the table of [`crate::routes`], schemas from the documents' own types.
//!
//! `utoipa` derives the schemas. Its paths are not used: they are attributes of handlers, which are in
//! another crate than the client, and nothing would keep them equal to what is served. Types of `model` that
//! have a text form are strings here; those with an inner structure are described in [`crate::schemas`].

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use edgewright_model::error::ErrorClass;
use edgewright_model::principal::PrincipalKind;

use crate::access::{Access, Rule};
use crate::error::{ApiError, status_of};
use crate::routes::{Content, ROUTES, Route};

#[derive(OpenApi)]
#[openapi(components(schemas(
    ApiError,
    crate::AuditEntry,
    crate::AuditPage,
    crate::BuildView,
    crate::ChannelPost,
    crate::ChannelView,
    crate::Counts,
    crate::DataFolder,
    crate::DeviceReport,
    crate::DeviceReportView,
    crate::DeviceEvidence,
    crate::DeviceIdentity,
    crate::DevicePost,
    crate::DeviceReports,
    crate::DeviceReportsResponse,
    crate::DeviceState,
    crate::DeviceSummary,
    crate::DeviceView,
    crate::EnrolPost,
    crate::EnrolmentPost,
    crate::EnrolmentView,
    crate::DiagnosticView,
    crate::EvidenceView,
    crate::ImageState,
    crate::ImageSummary,
    crate::ImageView,
    crate::InventoryView,
    crate::LockView,
    crate::NodeAction,
    crate::NodeView,
    crate::PollResponse,
    crate::Proof,
    crate::Provenance,
    crate::PullCommands,
    crate::ReconcilerView,
    crate::ExportPost,
    crate::ExportView,
    crate::RebuildPost,
    crate::RebuildResult,
    crate::RebuildStatus,
    crate::RebuildStep,
    crate::RebuildView,
    crate::ReleaseEntry,
    crate::ReleaseView,
    crate::QuarantinePost,
    crate::QuarantineView,
    crate::RolloutDeviceView,
    crate::RolloutPost,
    crate::RolloutStage,
    crate::RolloutSummary,
    crate::RolloutView,
    crate::RunResponse,
    crate::RunJob,
    crate::RunJobs,
    crate::RunStateChanged,
    crate::RunSummary,
    crate::RunView,
    crate::KeptMachine,
    crate::RunningJob,
    crate::ServerStatus,
    crate::Severity,
    crate::SinkView,
    crate::SiteSummary,
    crate::SiteView,
    crate::SlotView,
    crate::SourceView,
    crate::StepView,
    crate::TargetView,
    crate::Identity,
    crate::LoginToken,
    crate::LoginView,
    crate::TokenPost,
    crate::TokenResponse,
    crate::TokenView,
    crate::UserPost,
    crate::UserView,
    crate::VerdictPost,
    crate::VerdictResponse,
    crate::VerdictSummary,
    crate::VerdictView,
    crate::schemas::BaseMove,
    crate::schemas::BlobRef,
    crate::schemas::CheckOutcome,
    crate::schemas::CheckResult,
    crate::schemas::Evidence,
    crate::schemas::FailureKind,
    crate::schemas::JobFailure,
    crate::schemas::LaneResult,
    crate::schemas::ImageMove,
    crate::schemas::LockMoves,
    crate::schemas::ManifestRef,
    crate::schemas::Note,
    crate::schemas::PackageMove,
    crate::schemas::Phase,
    crate::schemas::Place,
    crate::schemas::UpdateCheck,
    crate::schemas::UpdateResult,
    crate::schemas::VarOrigin,
)))]
struct Schemas;

/// The classes of errors, described for clients.
pub const ERRORS: [(ErrorClass, &str); 6] = [
    (ErrorClass::UserFault, "The request is invalid; sending it again unchanged fails again."),
    (ErrorClass::Denied, "The caller does not have the permission."),
    (ErrorClass::NotFound, "The object does not exist."),
    (ErrorClass::Conflict, "The state of the object does not allow the operation, or changed concurrently."),
    (ErrorClass::Bug, "A defect of Edgewright."),
    (ErrorClass::Unavailable, "Something is unreachable or full; a retry may succeed."),
];

/// The document.
pub fn document() -> Value {
    let schemas = serde_json::to_value(Schemas::openapi().components).unwrap_or_default();
    let mut paths = Map::new();
    for route in ROUTES {
        let method = method(route);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Edgewright",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Operations of an Edgewright server. Fields are added, never renamed; ignore unknown ones. \
                            The registry under /v2/ follows the OCI distribution specification. \
                            `x-access` states for each kind of principal whether it may call an operation: `allowed`, \
                            `denied`, or `if_open`, which is unless anonymous reading is switched off.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas["schemas"],
            "responses": responses(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer",
                    "description": "The operator's token: the file `operator-token` of the data folder, or `[access] token_file`." },
                "signature": { "type": "apiKey", "in": "header", "name": "X-Hub-Signature-256",
                    "description": "HMAC-SHA256 of the body with the source's secret; GitLab: the secret in X-Gitlab-Token." },
            },
        },
    })
}

fn method(route: &Route) -> String {
    route.method.name().to_ascii_lowercase()
}

/// The alternatives of credentials; an empty one for none.
fn security(access: Access) -> Value {
    let mut alternatives = Vec::new();
    if access.hook == Rule::Allowed {
        alternatives.push(json!({ "signature": [] }));
    }
    if access.operator == Rule::Allowed {
        alternatives.push(json!({ "token": [] }));
    }
    if access.anonymous != Rule::Denied {
        alternatives.push(json!({}));
    }
    Value::Array(alternatives)
}

fn operation(route: &Route) -> Value {
    let parameters: Vec<Value> = route
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "in": if parameter.in_path { "path" } else { "query" },
                "required": parameter.in_path,
                "description": parameter.about,
                "schema": { "type": parameter.kind },
            })
        })
        .collect();
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let (media_type, schema) = match route.content {
        Content::Document(name) => ("application/json", reference(name)),
        Content::List(name) => ("application/json", json!({ "type": "array", "items": reference(name) })),
        Content::Text(media_type) => (media_type, json!({ "type": "string" })),
        Content::Json => ("application/json", json!({ "type": "object" })),
    };
    let mut responses = Map::new();
    let success = if route.access == Access::SIGNED { "202" } else { "200" };
    responses.insert(
        success.to_owned(),
        json!({ "description": route.about, "content": { media_type: { "schema": schema } } }),
    );
    for (class, _) in ERRORS {
        let reference = json!({ "$ref": format!("#/components/responses/{}", code(class)) });
        responses.insert(status_of(class).to_string(), reference);
    }
    if route.access != Access::PUBLIC {
        responses.insert("401".to_owned(), json!({ "$ref": "#/components/responses/unauthenticated" }));
    }
    let access: Map<String, Value> = PrincipalKind::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), route.access.rule(kind).name().into()))
        .collect();
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.about,
        "parameters": parameters,
        "responses": responses,
        "security": security(route.access),
        "x-access": access,
    });
    if let Some(name) = route.body {
        let content = json!({ "application/json": { "schema": reference(name) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn responses() -> Map<String, Value> {
    let error = json!({ "$ref": "#/components/schemas/ApiError" });
    let response =
        |about| json!({ "description": about, "content": { "application/json": { "schema": error } } });
    let mut responses: Map<String, Value> =
        ERRORS.iter().map(|(class, about)| (code(*class), response(*about))).collect();
    let about = "Credentials are missing or wrong; `hint` names the place of the token.";
    responses.insert("unauthenticated".to_owned(), response(about));
    responses
}

/// The class as the error document has it.
fn code(class: ErrorClass) -> String {
    serde_json::to_value(class).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_every_error_is_in_the_document() {
        let document = document();
        let mut ids = std::collections::BTreeSet::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path][method(route)];
            assert_eq!(operation["operationId"], route.id, "{}", route.path);
            assert!(ids.insert(route.id), "{} is twice", route.id);
            for name in route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let known =
                    route.parameters.iter().any(|parameter| parameter.in_path && parameter.name == name);
                assert!(known, "{} has no parameter {name}", route.path);
            }
            for (class, _) in ERRORS {
                assert!(operation["responses"].get(status_of(class).to_string()).is_some(), "{class:?}");
            }
            assert!(!route.about.is_empty() && route.about.ends_with('.'));
        }
        for (class, about) in ERRORS {
            assert_eq!(document["components"]["responses"][code(class)]["description"], about);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(to)) = map.get("$ref") {
                        found.push(to.clone());
                    }
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > ROUTES.len());
        for to in found {
            let pointer = to.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{to}");
        }
    }
}
