//! Devices enrol, as they do: a token of their site for a credential.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::client::Connection;

/// Sites whose devices enrol at the same time.
const SITES: usize = 32;

/// A device with its credential.
pub(crate) struct Device {
    /// As it is sent with each poll.
    pub(crate) authorization: String,
}

/// Enrols a device in each slot, and writes the credentials.
pub(crate) async fn all(
    server: SocketAddr,
    operator: &str,
    (sites, slots): (usize, usize),
    file: &Path,
) -> anyhow::Result<Value> {
    let start = Instant::now();
    let of_sites = stream::iter((0..sites).map(|site| of_site(server, operator, site, slots)));
    let devices: Vec<Vec<String>> = of_sites.buffer_unordered(SITES).try_collect().await?;
    let devices = devices.concat();
    let seconds = start.elapsed().as_secs_f64();
    tokio::fs::write(file, devices.join("\n")).await?;
    Ok(json!({ "devices": devices.len(), "seconds": seconds }))
}

/// The devices of a file.
pub(crate) async fn read(file: &Path) -> anyhow::Result<Vec<Device>> {
    let text =
        tokio::fs::read_to_string(file).await.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().map(|line| Device { authorization: line.to_owned() }).collect())
}

async fn of_site(
    server: SocketAddr,
    operator: &str,
    site: usize,
    slots: usize,
) -> anyhow::Result<Vec<String>> {
    let mut connection = Connection::open(server, site).await?;
    let order = json!({ "site": format!("plant-{site}"), "uses": slots });
    let made = connection.post("/api/v1/enrolments", Some(operator), &order).await?;
    let token = text(&made, "token")?;
    let mut devices = Vec::with_capacity(slots);
    for slot in 0..slots {
        let order = json!({ "token": token, "slot": format!("press-{slot}") });
        let identity = connection.post("/api/v1/enrol", None, &order).await?;
        let (id, credential) = (text(&identity, "device")?, text(&identity, "credential")?);
        let basic = BASE64_STANDARD.encode(format!("{id}:{credential}"));
        devices.push(format!("Basic {basic}"));
    }
    Ok(devices)
}

fn text<'a>(document: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    document[name].as_str().with_context(|| format!("no `{name}` in {document}"))
}
