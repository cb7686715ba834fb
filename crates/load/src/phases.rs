//! The ways in which devices ask.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::client::Connection;
use crate::enrol::Device;

/// What a device asks for.
pub(crate) const OWN: &str = "/v2/device/self/manifests/current";
/// Where it gets a token for that.
const TOKEN: &str = "/v2/token?service=edgewright&scope=repository:device/self:pull";

/// What came of a phase.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    answered: usize,
    errors: usize,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
}

impl Figures {
    fn of(latencies: &mut [Duration], errors: usize, took: Duration) -> Self {
        latencies.sort_unstable();
        let at = |percent: usize| {
            let last = latencies.len().saturating_sub(1);
            latencies.get(last * percent / 100).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
        };
        Self {
            answered: latencies.len(),
            errors,
            seconds: took.as_secs_f64(),
            p50_ms: at(50),
            p99_ms: at(99),
            longest_ms: at(100),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "there are not so many polls")]
    pub(crate) fn figures(&self) -> Value {
        json!({
            "answered": self.answered,
            "errors": self.errors,
            "seconds": self.seconds,
            "per_s": self.answered as f64 / self.seconds,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "longest_ms": self.longest_ms,
        })
    }
}

/// Each connection does something again as soon as it is done, each time as another device.
pub(crate) async fn closed(
    server: SocketAddr,
    devices: &[Device],
    (connections, lasting): (usize, Duration),
    once: impl AsyncFn(&mut Connection, &Device) -> anyhow::Result<()>,
) -> anyhow::Result<Figures> {
    let begin = Instant::now();
    let client = async |number: usize| {
        let mut connection = Connection::open(server, number).await?;
        let mut latencies = Vec::new();
        for place in (number..).step_by(connections) {
            let start = Instant::now();
            if start >= begin + lasting {
                break;
            }
            once(&mut connection, device(devices, place)?).await?;
            latencies.push(start.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let latencies = try_join_all((0..connections).map(client)).await?;
    Ok(Figures::of(&mut latencies.concat(), 0, begin.elapsed()))
}

/// Requests arrive at a rate, whether the ones before were answered or not: a latency counts from the moment
/// at which the request was due.
pub(crate) async fn open(
    server: SocketAddr,
    devices: &[Device],
    (connections, rate, lasting): (usize, u32, Duration),
    once: impl AsyncFn(&mut Connection, &Device) -> anyhow::Result<()>,
) -> anyhow::Result<Figures> {
    let begin = Instant::now() + Duration::from_millis(200);
    let interval = Duration::from_secs(1) / rate;
    let client = async |number: usize| {
        let mut connection = Connection::open(server, number).await?;
        let mut latencies = Vec::new();
        for place in (number..).step_by(connections) {
            let due = begin + interval * u32::try_from(place)?;
            if due >= begin + lasting {
                break;
            }
            sleep_until(due).await;
            once(&mut connection, device(devices, place)?).await?;
            latencies.push(due.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let latencies = try_join_all((0..connections).map(client)).await?;
    Ok(Figures::of(&mut latencies.concat(), 0, begin.elapsed()))
}

/// All devices connect within a time, as after an outage, and ask once.
pub(crate) async fn storm(
    server: SocketAddr,
    devices: &[Device],
    within: Duration,
) -> anyhow::Result<Figures> {
    let begin = Instant::now();
    let interval = within / u32::try_from(devices.len())?;
    let client = async |(place, device): (usize, &Device)| {
        let due = begin + interval * u32::try_from(place)?;
        sleep_until(due).await;
        let mut connection = Connection::open(server, place).await?;
        poll(&mut connection, device).await?;
        anyhow::Ok(due.elapsed())
    };
    let clients: FuturesUnordered<_> = devices.iter().enumerate().map(client).collect();
    let results: Vec<anyhow::Result<Duration>> = clients.collect().await;
    let count = results.len();
    let mut latencies = Vec::with_capacity(count);
    let mut first = None;
    for result in results {
        match result {
            Ok(latency) => latencies.push(latency),
            Err(error) => first = first.or(Some(error)),
        }
    }
    if let Some(error) = first {
        eprintln!("the first error of the storm: {error:#}");
    }
    let errors = count - latencies.len();
    Ok(Figures::of(&mut latencies, errors, begin.elapsed()))
}

/// What clients of registries do that send no credentials at first: 401, then a token, then the manifest.
pub(crate) async fn challenged(connection: &mut Connection, device: &Device) -> anyhow::Result<()> {
    let refused = connection.get(OWN, None).await?;
    ensure!(refused.status == StatusCode::UNAUTHORIZED, "without credentials: {}", refused.status);
    let answer = connection.get(TOKEN, Some(&device.authorization)).await?;
    ensure!(answer.status == StatusCode::OK, "the token: {}", answer.status);
    let document: Value = serde_json::from_slice(&answer.body)?;
    let bearer = format!("Bearer {}", document["token"].as_str().context("no token")?);
    manifest(connection, OWN, Some(&bearer)).await
}

/// A device asks for its image, with its credentials.
pub(crate) async fn poll(connection: &mut Connection, device: &Device) -> anyhow::Result<()> {
    manifest(connection, OWN, Some(&device.authorization)).await
}

/// A request for a manifest, which is answered.
pub(crate) async fn manifest(
    connection: &mut Connection,
    path: &str,
    authorization: Option<&str>,
) -> anyhow::Result<()> {
    let answer = connection.get(path, authorization).await?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == StatusCode::OK, "{path}: {}: {text}", answer.status);
    Ok(())
}

fn device(devices: &[Device], number: usize) -> anyhow::Result<&Device> {
    devices.get(number % devices.len().max(1)).context("there are no devices")
}
