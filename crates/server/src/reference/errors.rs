//! The classes of errors, as the API and `--json` name them.

use edgewright_api::error::status_of;
use edgewright_model::error::ErrorClass;

/// Every class with its meaning.
const CLASSES: [(ErrorClass, &str); 6] = [
    (ErrorClass::UserFault, "The request, the settings or a file is invalid."),
    (ErrorClass::NotFound, "What was asked for does not exist."),
    (ErrorClass::Conflict, "The state does not permit it: in use, or changed in the meantime."),
    (ErrorClass::Denied, "A token is missing, wrong, or does not permit it."),
    (ErrorClass::Unavailable, "A service, the network or the disk failed. A retry may help."),
    (ErrorClass::Bug, "A defect of Edgewright."),
];

/// The list, in Markdown.
pub(super) fn page() -> String {
    let code = |class| serde_json::to_string(&class).unwrap_or_default();
    let row = |(class, about): &(ErrorClass, &str)| {
        format!("- `{}`, HTTP {}: {about}\n", code(*class).trim_matches('"'), status_of(*class))
    };
    CLASSES.iter().map(row).collect()
}
