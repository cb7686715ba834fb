//! Another project's Pipeline lets channels go, holds them, moves one before its turn, and resumes.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::team::Team;
use crate::demo::server::text;
use crate::e2e::cluster::scenarios::release::RUN_LIMIT;
use crate::e2e::cluster::scenarios::view::ensure_contains;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::world::until;

/// Two channels of the source: the second one takes a release a week after the first one.
const CHANNELS: &str =
    "channels:\n  stable: {follows: default-branch}\n  wide: {follows: {channel: stable}, after: 7d}\n";
/// Why a channel is held.
const REASON: &str = "fault at plant-a";

/// Adds the channels to the source.
pub(super) fn define(site: &Site<'_>) -> anyhow::Result<()> {
    let definition = std::fs::read_to_string(site.source().join("edgewright.yaml"))?;
    site.write("edgewright.yaml", &format!("{definition}{CHANNELS}"))
}

/// `stable` is pinned to the only release: it is unpinned and held; `wide` takes the release before its turn.
/// Gives the release.
pub(super) fn held(site: &Site<'_>, team: &Team<'_>) -> anyhow::Result<u64> {
    let release = channel(site, "stable")?["release"].as_u64().context("the channel has a release")?;
    let unpin = task("unpin", &[("action", "unpin"), ("channel", "stable")]);
    let mut hold = task("hold", &[("action", "hold"), ("channel", "stable"), ("reason", REASON)]);
    hold["runAfter"] = json!(["unpin"]);
    let number = release.to_string();
    let early =
        [("action", "promote"), ("channel", "wide"), ("release", number.as_str()), ("reason", REASON)];
    let run = team.run("channels-1", &pipeline(&[unpin, hold, task("promote", &early)]))?;
    team.succeeded(&run)?;
    let stable = channel(site, "stable")?;
    ensure!(stable["pin"].is_null(), "the channel is not pinned: {stable}");
    ensure_contains("the hold", &stable["hold"].to_string(), REASON)?;
    let wide = channel(site, "wide")?;
    ensure!(wide["release"] == release, "the channel has the release a week early: {wide}");
    Ok(release)
}

/// There is a newer release, which a held channel does not take. Resumed, it does.
pub(super) fn resumed(site: &Site<'_>, team: &Team<'_>, (before, newer): (u64, u64)) -> anyhow::Result<()> {
    let stable = channel(site, "stable")?;
    ensure!(newer > before && stable["release"] == before, "a held channel does not move: {stable}");
    let run =
        team.run("channels-2", &pipeline(&[task("resume", &[("action", "resume"), ("channel", "stable")])]))?;
    team.succeeded(&run)?;
    until("the channel moves again", RUN_LIMIT, || {
        let stable = channel(site, "stable")?;
        ensure!(stable["hold"].is_null(), "the channel is not held: {stable}");
        Ok(stable["release"] == newer)
    })?;
    // What the Task needs is known before the server is asked.
    let run =
        team.run("channels-3", &pipeline(&[task("other", &[("action", "move"), ("channel", "stable")])]))?;
    ensure!(run["status"]["conditions"][0]["status"] == "False", "an unknown action fails: {run:#}");
    ensure!(channel(site, "stable")?["release"] == newer, "the channel stays");
    Ok(())
}

fn channel(site: &Site<'_>, name: &str) -> anyhow::Result<Value> {
    let channels = site.server()?.get("/api/v1/channels")?;
    let found = channels.as_array().into_iter().flatten().find(|channel| text(&channel["name"]) == name);
    found.cloned().with_context(|| format!("no channel {name}: {channels}"))
}

fn pipeline(tasks: &[Value]) -> Value {
    json!({
        "pipelineSpec": { "workspaces": [{ "name": "server" }], "tasks": tasks },
        "workspaces": [{ "name": "server", "secret": { "secretName": "edgewright" } }],
        "taskRunTemplate": { "podTemplate": { "automountServiceAccountToken": false } },
    })
}

fn task(name: &str, parameters: &[(&str, &str)]) -> Value {
    let parameters: Vec<Value> =
        parameters.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    json!({
        "name": name,
        "taskRef": { "name": "edgewright-promote" },
        "params": parameters,
        "workspaces": [{ "name": "server", "workspace": "server" }],
    })
}
