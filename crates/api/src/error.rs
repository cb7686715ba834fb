//! The error document, and the mapping of error classes to HTTP statuses.

use edgewright_model::error::ErrorClass;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[error("{message}")]
pub struct ApiError {
    /// Class of the error: `user_fault`, `denied`, `not_found`, `conflict`, `unavailable` or `bug`.
    #[schema(value_type = String)]
    pub code: ErrorClass,
    /// What failed and why, on one line.
    pub message: String,
    /// What to do about it; absent if there is no advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// An error about an object that does not exist.
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: ErrorClass::NotFound, message: message.into(), hint: Some(hint.into()) }
    }

    /// An error about invalid input.
    pub fn user_fault(message: impl Into<String>) -> Self {
        Self { code: ErrorClass::UserFault, message: message.into(), hint: None }
    }
}

/// The HTTP status of a class.
pub const fn status_of(class: ErrorClass) -> u16 {
    match class {
        ErrorClass::UserFault => 400,
        ErrorClass::Denied => 403,
        ErrorClass::NotFound => 404,
        ErrorClass::Conflict => 409,
        ErrorClass::Bug => 500,
        ErrorClass::Unavailable => 503,
    }
}

/// The class of an HTTP status whose body is no [`ApiError`]: the response is from a proxy or from another
/// server.
pub const fn class_of(status: u16) -> ErrorClass {
    match status {
        401 | 403 | 407 => ErrorClass::Denied,
        404 | 410 => ErrorClass::NotFound,
        409 | 412 => ErrorClass::Conflict,
        408 | 425 | 429 | 502..=504 => ErrorClass::Unavailable,
        400..=499 => ErrorClass::UserFault,
        _ => ErrorClass::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_status_and_comes_back_from_it() {
        let classes = [
            (ErrorClass::UserFault, 400),
            (ErrorClass::Denied, 403),
            (ErrorClass::NotFound, 404),
            (ErrorClass::Conflict, 409),
            (ErrorClass::Bug, 500),
            (ErrorClass::Unavailable, 503),
        ];
        for (class, status) in classes {
            assert_eq!(status_of(class), status);
            assert_eq!(class_of(status), class);
        }
    }

    #[test]
    fn the_document_is_stable_and_tolerant() {
        let error = ApiError::not_found("there is no run 7", "`edgewright runs` lists them");
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(
            text,
            r#"{"code":"not_found","message":"there is no run 7","hint":"`edgewright runs` lists them"}"#
        );
        let newer = r#"{"code":"conflict","message":"x","trace":"abc"}"#;
        assert_eq!(serde_json::from_str::<ApiError>(newer).unwrap().hint, None);
    }
}
