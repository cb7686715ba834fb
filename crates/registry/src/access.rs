//! The default authorizer: open to everyone, except for the artifacts that only Edgewright writes.

use axum::http::HeaderMap;
use edgewright_model::principal::Principal;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::credentials::{AccessToken, Credentials};
use crate::ports::{AccessRequest, Action, Authorizer, Decision};

/// Why clients may not write artifacts of Edgewright.
pub const RESERVED: &str = "verdicts and other vnd.edgewright artifacts are published by Edgewright alone; \
                            post external results with `edgewright verdict post`";

/// Everyone may pull, push and delete; only the holder of the control token may write artifacts of
/// Edgewright. For tools and tests that host a registry in their own process.
#[derive(Debug, Clone)]
pub struct Open {
    control: Option<AccessToken>,
}

impl Open {
    /// The token of control. Without it, no client can write artifacts of Edgewright over HTTP.
    pub const fn new(control: Option<AccessToken>) -> Self {
        Self { control }
    }

    fn decide(&self, headers: &HeaderMap, action: Action<'_>) -> Decision {
        let is_control = match Credentials::of(headers) {
            Credentials::Token(token) => self.control.as_ref() == Some(&token),
            Credentials::Missing | Credentials::Anonymous | Credentials::Unusable => false,
        };
        match action {
            _ if is_control => Decision::Allow(Principal::System { component: "control" }),
            Action::WriteReserved(_) => Decision::Denied { reason: RESERVED.to_owned() },
            _ => Decision::Allow(Principal::Anonymous),
        }
    }
}

impl Authorizer for Open {
    fn authorize<'a>(&'a self, request: AccessRequest<'a>) -> BoxFuture<'a, Decision> {
        ready(self.decide(request.headers, request.action)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;

    #[test]
    fn only_the_control_token_writes_reserved_artifacts() {
        let open = Open::new(Some(AccessToken::new("control")));
        let repository = "a".parse().unwrap();
        let system = Principal::System { component: "control" };
        let denied = Decision::Denied { reason: RESERVED.to_owned() };
        for (credentials, action, expected) in [
            (None, Action::PushManifest(&repository), Decision::Allow(Principal::Anonymous)),
            (None, Action::DeleteBlob(&repository), Decision::Allow(Principal::Anonymous)),
            (None, Action::WriteReserved(&repository), denied.clone()),
            (Some("Bearer wrong"), Action::WriteReserved(&repository), denied),
            (Some("Bearer control"), Action::WriteReserved(&repository), Decision::Allow(system)),
        ] {
            let value = credentials.map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
            let headers = value.into_iter().collect();
            assert_eq!(open.decide(&headers, action), expected, "{credentials:?} {action:?}");
        }
        assert_eq!(format!("{open:?}"), "Open { control: Some(AccessToken(…)) }");
    }
}
