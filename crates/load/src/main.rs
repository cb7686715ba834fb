//! The load of many devices on a server, in one thread: `cargo xtask bench fleet` starts the server.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints figures")]

mod client;
mod decide;
mod enrol;
mod phases;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::client::Connection;
use crate::enrol::Device;

const USAGE: &str = "\
Enrol devices, and let them ask a server for their images. Prints figures as JSON.

Usage: edgewright-load enrol  ADDRESS DEVICES TOKEN-FILE SITES SLOTS
       edgewright-load polls  ADDRESS DEVICES
       edgewright-load decide ADDRESS DEVICES TOKEN-FILE
       edgewright-load rival  ADDRESS PATH

  ADDRESS     of the server: 127.0.0.1:PORT
  DEVICES     file with the credentials of the devices
  TOKEN-FILE  with the operator's token
  SITES       how many sites there are: `plant-0`, …
  SLOTS       how many free slots each has: `press-0`, …
  PATH        of a manifest that anyone may read: /v2/press/manifests/current";

/// Connections that are kept.
const CONNECTIONS: usize = 64;
/// Polls per second that arrive whether others were answered or not.
const OPEN_RATE: u32 = 5_000;
const CLOSED: Duration = Duration::from_secs(15);
const OPEN: Duration = Duration::from_secs(15);
/// In this time all devices connect again.
const STORM: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let server = |address: &str| address.parse::<SocketAddr>().context("the address of the server");
    let figures = match words[..] {
        ["enrol", address, file, token, sites, slots] => {
            let (sites, slots) = (sites.parse().context("SITES")?, slots.parse().context("SLOTS")?);
            enrol::all(server(address)?, &operator(token).await?, (sites, slots), Path::new(file)).await?
        }
        ["polls", address, file] => polls(server(address)?, &enrol::read(Path::new(file)).await?).await?,
        ["decide", address, file, token] => {
            let devices = enrol::read(Path::new(file)).await?;
            decide::decide(server(address)?, &operator(token).await?, &devices).await?
        }
        ["rival", address, path] => rival(server(address)?, path).await?,
        _ => bail!("{USAGE}"),
    };
    println!("{figures}");
    Ok(())
}

async fn polls(server: SocketAddr, devices: &[Device]) -> anyhow::Result<Value> {
    // The first answer to each device: a row is written before it.
    let storm = phases::storm(server, devices, STORM).await?;
    eprintln!("storm: {storm:?}");
    let closed = phases::closed(server, devices, (CONNECTIONS, CLOSED), phases::poll).await?;
    eprintln!("closed loop: {closed:?}");
    let open = phases::open(server, devices, (CONNECTIONS, OPEN_RATE, OPEN), phases::poll).await?;
    eprintln!("open loop: {open:?}");
    let exchange = phases::closed(server, devices, (CONNECTIONS, CLOSED), phases::challenged).await?;
    eprintln!("401, token, manifest: {exchange:?}");
    Ok(json!({
        "devices": devices.len(),
        "storm": storm.figures(),
        "closed": closed.figures(),
        "open": open.figures(),
        "exchange": exchange.figures(),
    }))
}

/// The same loops at a registry that knows no devices: all ask for one manifest, without credentials.
async fn rival(server: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let anyone = [Device { authorization: String::new() }];
    let ask = async |connection: &mut Connection, _: &Device| phases::manifest(connection, path, None).await;
    let closed = phases::closed(server, &anyone, (CONNECTIONS, CLOSED), ask).await?;
    let open = phases::open(server, &anyone, (CONNECTIONS, OPEN_RATE, OPEN), ask).await?;
    Ok(json!({ "closed": closed.figures(), "open": open.figures() }))
}

/// The operator's credentials.
async fn operator(file: &str) -> anyhow::Result<String> {
    let token = tokio::fs::read_to_string(file).await.with_context(|| format!("cannot read {file}"))?;
    Ok(format!("Bearer {}", token.trim()))
}
