//! Listeners: one for plain HTTP, and one for TLS if the settings name a certificate. Both serve the same
//! router.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::http::header;
use axum::{Router, middleware};
use edgewright_control::audit::Audit;
use edgewright_process::Tasks;
use futures::FutureExt as _;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;

use super::accept::Acceptor;
use super::connections::Connections;
use super::{Composition, StartError};
use crate::http::access::{self, Enforcement, Gate};
use crate::http::{self, ApiState};
use crate::metrics;
use crate::settings::{Settings, SettingsError};
use crate::tls::Certificate;

/// The bound listeners with their addresses as clients on this machine reach them.
pub(super) struct Listeners {
    plain: TcpListener,
    pub(super) local: SocketAddr,
    secure: Option<(TcpListener, Certificate)>,
    pub(super) secure_local: Option<SocketAddr>,
}

impl Listeners {
    /// Binds the ports of the settings.
    pub(super) async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let (plain, local) = bind(settings.listen).await?;
        let (mut secure, mut secure_local) = (None, None);
        if let Some(tls) = &settings.tls {
            let certificate = Certificate::new(tls.read().map_err(SettingsError::from)?);
            let (listener, local) = bind(tls.listen).await?;
            (secure, secure_local) = (Some((listener, certificate)), Some(reachable(local)));
        }
        Ok(Self { plain, local: reachable(local), secure, secure_local })
    }

    /// The certificate of the TLS listener.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        self.secure.as_ref().map(|(_, certificate)| certificate.clone())
    }

    /// Serves the router until shutdown, with as many connections as the limit of open files permits.
    pub(super) fn serve(self, app: &Router, tasks: &Tasks, open_files: u64) {
        let connections = Connections::within(open_files);
        let acceptor = |listener, certificate| Acceptor {
            listener,
            certificate,
            app: app.clone(),
            connections: connections.clone(),
            tasks: tasks.clone(),
        };
        if let Some((listener, certificate)) = self.secure {
            tasks.spawn("https", acceptor(listener, Some(certificate)).run());
        }
        tasks.spawn("http", acceptor(self.plain, None).run());
    }
}

impl Composition {
    /// The router of API, registry and metrics behind the access checks.
    pub(super) fn router(&self, gate: Gate) -> Router {
        let registry = self.registry.clone();
        let storage: http::Storage = Arc::new(move || {
            let registry = registry.clone();
            async move { (registry.stored_bytes().await.unwrap_or(0), registry.external_traffic()) }.boxed()
        });
        let operations = (self.control.clone(), self.users.clone());
        let live = (self.live.clone(), self.clock.clone());
        let mut state = ApiState::new(self.views.clone(), operations, live, self.metrics.clone(), storage);
        state.ready = Arc::clone(&self.ready);
        let counted = self
            .registry
            .router()
            .layer(middleware::from_fn_with_state(self.metrics.clone(), metrics::count_registry));
        let audit = Audit::new(self.store.clone(), self.clock.clone());
        let enforcement = Enforcement { gate, audit };
        http::router(state)
            .merge(counted)
            .layer(middleware::from_fn_with_state(enforcement, access::enforce))
            // Errors are logged where the response is made; "not ready yet" is not an error.
            .layer(TraceLayer::new_for_http().on_failure(()))
            // A panic is a defect of one request: that request gets a response, and all others are served.
            .layer(CatchPanicLayer::custom(http::panicked))
            .layer(middleware::from_fn(http::oci_errors))
            .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
    }

    /// Counts events of runs until shutdown.
    pub(super) fn count_events(&self) {
        let (metrics, events) = (self.metrics.clone(), self.control.events().subscribe());
        let stopping = self.tasks.token().clone();
        self.tasks.spawn("metrics", async move {
            tokio::select! {
                () = metrics.follow(events) => {}
                () = stopping.cancelled() => {}
            }
        });
    }
}

/// The address by which this machine reaches a listener: loopback for one that listens on all interfaces.
fn reachable(local: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), local.port());
    }
    local
}

/// Binds a port; returns its address, too, which differs for port 0.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_on_all_interfaces_are_reached_over_loopback() {
        let cases =
            [("0.0.0.0:5080", "127.0.0.1:5080"), ("[::]:1", "127.0.0.1:1"), ("10.0.0.1:2", "10.0.0.1:2")];
        for (local, expected) in cases {
            assert_eq!(reachable(local.parse().unwrap()).to_string(), expected);
        }
    }
}
