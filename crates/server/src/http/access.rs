//! Access checks: every request gets its principal here, once, and is checked against the table of
//! [`edgewright_api::access`].
//!
//! ```text
//!  request ─▶ principal ─▶ row of the matched route ─┬─▶ handler, with the principal in its context
//!       (token, webhook signature, none)             └─▶ 401, 403, 404, 405
//! ```
//!
//! A principal is identified by a token or a webhook's signature, never by an address, `Origin` or a
//! forwarding header. A route that is not in the table is rejected. Requests to the registry get their
//! principal here, too; the registry asks [`super::registry::RegistryGate`] whether they are permitted,
//! because only it parses its paths.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use edgewright_api::access::{Access, Rule};
use edgewright_api::routes::{self, Route};
use edgewright_api::{ApiError, RegistryAddress, access};
use edgewright_control::audit::Audit;
use edgewright_control::context::{OperationContext, RequestId};
use edgewright_control::devices::Devices;
use edgewright_control::users::Users;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::principal::Principal;
use edgewright_model::role::Permission;
use edgewright_process::Clock;
use edgewright_registry::{AccessToken, BaseUrl, Credentials, presented_token};
use tracing::Instrument as _;

use super::error::{HttpError, no_route, not_allowed};
use super::registry::Change;
use super::traffic::Traffic;
use super::{hooks, host};
use crate::live::Shared;
use crate::oidc::InvalidToken;
use crate::tokens::{JobTokens, ProcessTokens};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The challenge for clients of the API.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"Edgewright\"");
/// Where clients find a token.
const TOKEN_HINT: &str = "log in with `edgewright login`, or send a token: --token-file FILE or EDGEWRIGHT_TOKEN_FILE, over HTTP \
                          `Authorization: Bearer …`; the operator's is in the file `operator-token` of the server's data folder, or in \
                          the file that `[access] token_file` names";

/// The credentials of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Valid credentials, or explicitly anonymous ones.
    Known(Principal),
    /// No credentials at all: anonymous, and not challenged yet.
    Silent,
    /// Invalid credentials.
    Wrong,
}

impl Caller {
    pub(super) const fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Known(principal) => Some(principal),
            Self::Silent => Some(&Principal::Anonymous),
            Self::Wrong => None,
        }
    }
}

/// What the table decides for a caller on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Permitted,
    /// For jobs: if the order grants it. For devices: if it is their own.
    IfGranted,
    Unauthenticated,
    Denied,
}

/// Identifies principals and checks their access. Clones share the state.
#[derive(Debug, Clone)]
pub struct Gate {
    live: Shared,
    jobs: JobTokens,
    devices: Devices,
    system: AccessToken,
    users: Users,
    clock: Clock,
    address: RegistryAddress,
    webhooks: hooks::WebhookGate,
}

/// Whom a gate knows, besides what settings name.
#[derive(Debug)]
pub struct Known<'a> {
    /// Jobs, and the server itself.
    pub tokens: &'a ProcessTokens,
    /// Enrolled devices.
    pub devices: Devices,
    /// Local users.
    pub users: Users,
    /// Time, for what expires.
    pub clock: Clock,
}

/// The state of the middleware.
#[derive(Debug, Clone)]
pub struct Enforcement {
    /// Identifies principals and checks access.
    pub gate: Gate,
    /// Records changes of the registry's content.
    pub audit: Audit,
}

/// Marks requests that came over TLS.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// The middleware of the whole router.
pub async fn enforce(State(enforcement): State<Enforcement>, mut request: Request, next: Next) -> Response {
    let Enforcement { gate, audit } = &enforcement;
    let id = RequestId::new();
    let span = tracing::info_span!("request", request.id = %id, principal = tracing::field::Empty);
    let respond = async {
        if let Err(error) = host::check(&request, &gate.address.host) {
            return error.into_response();
        }
        request.extensions_mut().insert(id);
        match gate.admit(request).await {
            Ok(request) => {
                let change = Change::of(&request);
                let traffic = Traffic::of(&request, &gate.devices);
                let response = next.run(request).await;
                let response = match traffic {
                    Some(traffic) => traffic.follow(response),
                    None => response,
                };
                if let Some(entry) = change.and_then(|change| change.entry(&response)) {
                    audit.note(entry).await;
                }
                response
            }
            Err(response) => *response,
        }
    };
    let mut response = respond.instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

impl Gate {
    /// `address` is where clients reach the server.
    pub fn new(live: Shared, known: Known<'_>, address: RegistryAddress) -> Self {
        let Known { tokens, devices, users, clock } = known;
        let (jobs, system) = (tokens.jobs.clone(), AccessToken::new(tokens.system.reveal()));
        let webhooks = hooks::WebhookGate::default();
        Self { live, jobs, devices, system, users, clock, address, webhooks }
    }

    /// Enrolled devices.
    pub(super) const fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The request with its principal, or the response that rejects it.
    async fn admit(&self, mut request: Request) -> Result<Request, Box<Response>> {
        // Without a route, the router's fallback returns 404.
        let Some(matched) = request.extensions().get::<MatchedPath>().cloned() else { return Ok(request) };
        if is_registry(matched.as_str()) {
            let caller = self.caller(request.headers()).await;
            record_principal(&caller);
            let base = self.base_url(&request);
            if let Some(principal) = caller.principal().cloned() {
                let id = request.extensions().get::<RequestId>().copied();
                request.extensions_mut().insert(OperationContext::of_request(principal, id));
            }
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(base);
            return Ok(request);
        }
        let route = find(request.method(), matched.as_str())?;
        let caller = if route.access == Access::SIGNED {
            let (caller, unread) =
                self.signed(request).await.map_err(|error| Box::new(error.into_response()))?;
            request = unread;
            caller
        } else {
            self.caller(request.headers()).await
        };
        record_principal(&caller);
        let Some(principal) = self.permitted(&caller, route.access) else {
            return Err(Box::new(rejection(&caller, route).into_response()));
        };
        let id = request.extensions().get::<RequestId>().copied();
        request.extensions_mut().insert(OperationContext::of_request(principal, id));
        Ok(request)
    }

    /// The principal, if the row permits it.
    fn permitted(&self, caller: &Caller, access: Access) -> Option<Principal> {
        let principal = caller.principal()?;
        let is_permitted = match self.judge(caller, access) {
            Verdict::Permitted => true,
            // Control compares it with the device that the request is about.
            Verdict::IfGranted => matches!(principal, Principal::Device { id: Some(_) }),
            Verdict::Unauthenticated | Verdict::Denied => false,
        };
        is_permitted.then(|| principal.clone())
    }

    pub(super) fn judge(&self, caller: &Caller, access: Access) -> Verdict {
        let Some(principal) = caller.principal() else { return Verdict::Unauthenticated };
        let rejected = match principal {
            Principal::Anonymous => Verdict::Unauthenticated,
            _ => Verdict::Denied,
        };
        match access.rule(principal.kind()) {
            Rule::Allowed => Verdict::Permitted,
            Rule::IfOpen if self.live.now().anonymous => Verdict::Permitted,
            Rule::Challenged if *caller != Caller::Silent && self.live.now().anonymous => Verdict::Permitted,
            Rule::Granted | Rule::Own => Verdict::IfGranted,
            Rule::Role(permission) if has(principal, permission) => Verdict::Permitted,
            // What anyone may read, a user without roles may, too.
            Rule::Role(_) if access.anonymous == Rule::IfOpen && self.live.now().anonymous => {
                Verdict::Permitted
            }
            Rule::RoleByOrder
                if has(principal, Permission::Operate) || has(principal, Permission::Approve) =>
            {
                Verdict::Permitted
            }
            Rule::Role(_) | Rule::RoleByOrder | Rule::IfOpen | Rule::Challenged | Rule::Denied => rejected,
        }
    }

    /// The caller that a token or its absence identifies.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Caller {
        match Credentials::of(headers) {
            Credentials::Missing => Caller::Silent,
            Credentials::Anonymous => Caller::Known(Principal::Anonymous),
            Credentials::Unusable => Caller::Wrong,
            Credentials::Token(token) => match self.holder(&token) {
                Some(principal) => Caller::Known(principal),
                None => self.logged_in(headers).await.map_or(Caller::Wrong, Caller::Known),
            },
        }
    }

    /// The user whom the provider identifies.
    async fn logged_in(&self, headers: &HeaderMap) -> Option<Principal> {
        let provider = self.live.now().provider.clone()?;
        let token = presented_token(headers)?;
        match provider.principal(&token, &self.clock).await {
            Ok(principal) => Some(principal),
            Err(InvalidToken::Malformed) => None,
            Err(error) => {
                tracing::info!(reason = %Chain(&error), "token of the login provider rejected");
                None
            }
        }
    }

    fn holder(&self, token: &AccessToken) -> Option<Principal> {
        if *token == self.live.now().operator {
            return Some(Principal::Operator { name: "token" });
        }
        if *token == self.live.now().reports {
            return Some(Principal::Device { id: None });
        }
        if *token == self.system {
            return Some(Principal::System { component: "control" });
        }
        if let Some(id) = self.devices.holder(token) {
            return Some(Principal::Device { id: Some(id) });
        }
        self.jobs.principal(token).or_else(|| self.users.holder(token.digest()))
    }

    /// The sender of a webhook. The body is read for its signature and then dropped.
    async fn signed(&self, request: Request) -> Result<(Caller, Request), HttpError> {
        let (parts, body) = request.into_parts();
        let live = self.live.now();
        let proven = self.webhooks.prove(&parts, &live.hooks, body).await?;
        let caller = proven.map_or(Caller::Wrong, |source| Caller::Known(Principal::Hook { source }));
        Ok((caller, Request::from_parts(parts, Body::empty())))
    }

    /// How the client of a request reaches the server, for challenges.
    fn base_url(&self, request: &Request) -> BaseUrl {
        let host = edgewright_registry::host(request.uri(), request.headers()).unwrap_or(&self.address.host);
        let is_tls = request.extensions().get::<OverTls>().is_some()
            || (self.address.tls && host == self.address.host);
        BaseUrl(format!("{}://{host}", if is_tls { "https" } else { "http" }))
    }
}

/// Whether a user has a role with a permission somewhere. Where, control and the registry's gate decide: they
/// know what the request is about.
fn has(principal: &Principal, permission: Permission) -> bool {
    let Principal::User { grants, .. } = principal else { return false };
    grants.iter().any(|grant| grant.role().has(permission))
}

fn is_registry(matched: &str) -> bool {
    matched == "/v2" || matched.starts_with("/v2/")
}

/// The row of a request, or the response to one without a row.
fn find(method: &Method, matched: &str) -> Result<&'static Route, Box<Response>> {
    let known = match *method {
        Method::GET | Method::HEAD => Some(access::Method::Get),
        Method::POST => Some(access::Method::Post),
        Method::PUT => Some(access::Method::Put),
        Method::PATCH => Some(access::Method::Patch),
        Method::DELETE => Some(access::Method::Delete),
        _ => None,
    };
    if let Some(route) = known.and_then(|method| routes::route(method, matched)) {
        return Ok(route);
    }
    let allowed: Vec<&str> = access::Method::ALL
        .into_iter()
        .filter(|method| routes::route(*method, matched).is_some())
        .map(access::Method::name)
        .collect();
    if allowed.is_empty() {
        return Err(Box::new(no_route().into_response()));
    }
    Err(Box::new(not_allowed(method, &allowed.join(", "))))
}

/// Adds the principal to the request's span.
fn record_principal(caller: &Caller) {
    if let Some(principal) = caller.principal() {
        tracing::Span::current().record("principal", tracing::field::display(principal));
    }
}

/// Why a caller may not use a route.
fn rejection(caller: &Caller, route: &Route) -> HttpError {
    let (message, hint) = match caller {
        _ if route.access == Access::SIGNED => ("missing or invalid webhook signature", hooks::PROOF_HINT),
        Caller::Wrong => ("invalid token", TOKEN_HINT),
        Caller::Silent | Caller::Known(Principal::Anonymous) => ("authentication required", TOKEN_HINT),
        Caller::Known(principal) => {
            tracing::warn!(route = route.id, "access denied");
            let message = format!("access denied for {}", principal.kind());
            let hint = Some("see docs/reference/access.md for the permissions of each principal".to_owned());
            return HttpError::from(ApiError { code: ErrorClass::Denied, message, hint });
        }
    };
    tracing::info!(route = route.id, reason = message, "access denied");
    let error =
        ApiError { code: ErrorClass::Denied, message: message.to_owned(), hint: Some(hint.to_owned()) };
    HttpError { status: Some(StatusCode::UNAUTHORIZED), error }
}

/// Adds the challenge that HTTP requires with status 401.
pub(super) fn challenge(response: &mut Response) {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
}
