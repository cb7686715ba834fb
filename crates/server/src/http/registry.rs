//! Access to the registry: which principal may do what, and audit entries for changes by the operator.

use axum::extract::Request;
use axum::http::{Method, Response, header::HeaderName};
use edgewright_api::access::{self, Rule};
use edgewright_control::access::Operation;
use edgewright_control::context::OperationContext;
use edgewright_control::devices::Virtual;
use edgewright_model::grants::BlobGrant;
use edgewright_model::principal::Principal;
use edgewright_model::role::Scope;
use edgewright_registry::{AccessRequest, Action, Authorizer, Contents, Decision, RESERVED};
use edgewright_store::audit::NewAuditEntry;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;

use super::access::{Caller, Gate, Verdict};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The registry's authorizer: the same principals and the same table as for the API.
#[derive(Debug, Clone)]
pub struct RegistryGate(pub Gate);

impl RegistryGate {
    async fn decide(&self, request: AccessRequest<'_>) -> Decision {
        // The middleware has identified the caller already, unless the registry is served without it.
        let known = request.extensions.get::<Caller>().cloned();
        let caller = match known {
            Some(caller) => caller,
            None => self.0.caller(request.headers).await,
        };
        let is_virtual = request.action.repository().is_some_and(|name| Virtual::of(name).is_some());
        if is_virtual && matches!(caller, Caller::Silent | Caller::Known(Principal::Anonymous)) {
            let reason = "this repository answers each device by its credential: log in with the device's id and \
                          credential";
            return Decision::Unauthenticated { reason: reason.to_owned() };
        }
        let verdict = match self.0.judge(&caller, operation(request.action).access()) {
            Verdict::IfGranted if !is_granted(&caller, request.action, request.contents).await => {
                Verdict::Denied
            }
            Verdict::IfGranted => Verdict::Permitted,
            Verdict::Permitted if !self.is_in_scope(&caller, request.action) => Verdict::Denied,
            verdict => verdict,
        };
        match (verdict, caller) {
            (Verdict::Permitted, Caller::Known(principal)) => Decision::Allow(principal),
            (Verdict::Permitted, _) => Decision::Allow(Principal::Anonymous),
            (Verdict::Denied | Verdict::IfGranted, _) => {
                tracing::warn!(action = ?request.action, "access denied");
                Decision::Denied { reason: denied(request.action) }
            }
            (Verdict::Unauthenticated, Caller::Wrong) => {
                tracing::info!(action = ?request.action, "access denied: invalid token");
                Decision::Unauthenticated { reason: format!("invalid token; {LOGIN_HINT}") }
            }
            (Verdict::Unauthenticated, _) => {
                Decision::Unauthenticated { reason: format!("credentials are required; {LOGIN_HINT}") }
            }
        }
    }
}

impl RegistryGate {
    /// Whether a user's grants cover the repository: `SOURCE/IMAGE[/SITE[/SLOT]]`, or that of a device, which
    /// is where the device is. What anyone may read, every user may.
    fn is_in_scope(&self, caller: &Caller, action: Action<'_>) -> bool {
        let Caller::Known(Principal::User { grants, .. }) = caller else { return true };
        let access = operation(action).access();
        let Rule::Role(permission) = access.user else { return true };
        if self.0.judge(&Caller::Known(Principal::Anonymous), access) == Verdict::Permitted {
            return true;
        }
        let permits = |scope: &Scope<'_>| grants.iter().any(|grant| grant.permits(permission, scope));
        let Some(name) = action.repository() else { return permits(&Scope::default()) };
        if let Some(device) = Virtual::of(name) {
            let device = device.and_then(|name| name.device);
            let place = device.map(|id| self.0.devices().whereabouts(&id)).unwrap_or_default();
            return permits(&place.scope());
        }
        let mut parts = name.as_str().split('/');
        let source = parts.next().and_then(|source| source.parse().ok());
        let (image, site) = (parts.next(), parts.next());
        permits(&Scope { source: source.as_ref(), image, site, channel: None })
    }
}

/// What users of a registry client do next.
const LOGIN_HINT: &str = "log in with `podman login`, any user name, and the server's token as the password";

fn denied(action: Action<'_>) -> String {
    match action {
        Action::WriteReserved(_) => RESERVED.to_owned(),
        _ => "these credentials do not permit it; see docs/reference/access.md".to_owned(),
    }
}

impl Authorizer for RegistryGate {
    fn authorize<'a>(&'a self, request: AccessRequest<'a>) -> BoxFuture<'a, Decision> {
        self.decide(request).boxed()
    }
}

/// The row of the access table for an action.
const fn operation(action: Action<'_>) -> access::RegistryOperation {
    use access::RegistryOperation as Row;
    match action {
        Action::Ping => Row::Ping,
        Action::Token => Row::Token,
        Action::Catalog => Row::Catalog,
        Action::ListTags(_) => Row::ListTags,
        Action::ListReferrers(_) => Row::ListReferrers,
        Action::PullManifest(..) => Row::PullManifest,
        Action::LookForBlob(..) => Row::LookForBlob,
        Action::PullBlob(..) => Row::PullBlob,
        Action::PushBlob(_) => Row::PushBlob,
        Action::PushManifest(_) => Row::PushManifest,
        Action::DeleteManifest(_) => Row::DeleteManifest,
        Action::DeleteBlob(_) => Row::DeleteBlob,
        Action::Tag(_) => Row::Tag,
        Action::MountFrom(..) => Row::MountFrom,
        Action::WriteReserved(_) => Row::WriteReserved,
    }
}

/// Whether a job's order grants a request, or it is about what belongs to the device that asks.
async fn is_granted(caller: &Caller, action: Action<'_>, contents: &dyn Contents) -> bool {
    if let Caller::Known(Principal::Device { id: Some(id) }) = caller {
        let name = action.repository().and_then(Virtual::of).flatten();
        return name.is_some_and(|name| name.device.is_none_or(|device| device == *id));
    }
    let Caller::Known(Principal::Job { grants, .. }) = caller else { return false };
    match action {
        Action::ListTags(name) | Action::ListReferrers(name) => grants.may_list(name),
        Action::PullManifest(name, reference) => grants.may_pull_manifest(name, reference),
        Action::LookForBlob(name, _) if grants.may_look_for_blob(name) => true,
        Action::LookForBlob(name, digest)
        | Action::PullBlob(name, digest)
        | Action::MountFrom(name, digest) => match grants.may_pull_blob(name, digest) {
            BlobGrant::Yes => true,
            BlobGrant::No => false,
            BlobGrant::IfReferredToBy(manifests) => contents.refers(name, &manifests, digest).await,
        },
        Action::PushBlob(name) => grants.may_push_blob(name),
        Action::PushManifest(name) => grants.may_push_manifest(name),
        Action::Ping
        | Action::Token
        | Action::Catalog
        | Action::DeleteManifest(_)
        | Action::DeleteBlob(_)
        | Action::Tag(_)
        | Action::WriteReserved(_) => false,
    }
}

/// A manifest or tag that the operator or a user pushes or deletes, or a blob that one deletes. Pushes by
/// jobs and control are recorded with their runs. A pushed blob has no name before a manifest names it.
pub(super) struct Change {
    context: OperationContext,
    operation: Operation,
    repository: String,
    reference: String,
}

impl Change {
    /// The change that a request asks for; none for requests that are not audited.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let context = request.extensions().get::<OperationContext>()?.clone();
        let rest = request.uri().path().strip_prefix("/v2/")?;
        // Names may have a part `manifests` or `blobs`.
        let named = |part: &str| rest.rsplit_once(part).filter(|(_, reference)| !reference.contains('/'));
        let manifest = named("/manifests/");
        let ((repository, reference), operation) = match (request.method(), manifest) {
            (&Method::PUT, Some(manifest)) => (manifest, Operation::PushManifest),
            (&Method::DELETE, Some(manifest)) => (manifest, Operation::DeleteManifest),
            (&Method::DELETE, None) => (named("/blobs/")?, Operation::DeleteBlob),
            _ => return None,
        };
        let is_operator = matches!(context.actor(), Principal::Operator { .. } | Principal::User { .. });
        let (repository, reference) = (repository.to_owned(), reference.to_owned());
        is_operator.then_some(Self { context, operation, repository, reference })
    }

    /// Its entry in the audit trail; none if the request failed.
    pub(super) fn entry<B>(self, response: &Response<B>) -> Option<NewAuditEntry> {
        let Self { context, operation, repository, reference } = self;
        let separator = if reference.contains(':') || reference.contains('%') { '@' } else { ':' };
        let digest = response.headers().get(CONTENT_DIGEST).and_then(|digest| digest.to_str().ok());
        let after = digest.map(|digest| json!({ "digest": digest }));
        let object = format!("{repository}{separator}{reference}");
        response.status().is_success().then(|| context.entry(operation, object, None, after))
    }
}
