//! The registry alone: `cargo run -p edgewright-registry --example serve -- FOLDER [ADDRESS]`. Every client
//! may pull and push. Prints its address when it is ready. For conformance suites, benchmarks and crash
//! tests.

use std::io::Write as _;
use std::sync::Arc;

use edgewright_registry::{NoReservedTags, Open, Registry, RegistrySettings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().ok_or("usage: serve FOLDER [ADDRESS]")?;
    let address = arguments.next().and_then(|text| text.into_string().ok());
    let settings = RegistrySettings::new(folder);
    let registry = Registry::open(settings, Arc::new(NoReservedTags), Arc::new(Open::new(None))).await?;
    let listener = tokio::net::TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    axum::serve(listener, registry.router())
        .with_graceful_shutdown(async {
            // Without the signal there is nothing to wait for.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    registry.close().await;
    Ok(())
}
