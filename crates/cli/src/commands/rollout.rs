//! `rollout simulate`: the engine that ships, with the slots of a source as devices.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_api::documents::{RolloutSimulation, SimulatedRate, SimulatedStage};
use edgewright_model::error::ErrorClass;
use edgewright_model::names::{ChannelName, LabelKey};
use edgewright_model::spec::{Definition, Labels, RolloutSpec, SiteSpec, SlotSpec};
use edgewright_process::Clock;
use edgewright_rollout::Engine;
use edgewright_rollout::fleet::Device;
use edgewright_rollout::gate::Baseline;
use edgewright_rollout::policy::Policy;
use edgewright_rollout::simulate::{Case, Model, Release, Summary, simulate};
use edgewright_rollout::state::{Event, Order, Status};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::check::{Folder, show};
use crate::args::SimulateArgs;
use crate::exit::{End, Failure};
use crate::{output, render};

/// A rollout that has not ended by then waits for something that does not come.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(24 * 90);

/// `rollout simulate`.
pub(crate) async fn simulation(args: &SimulateArgs) -> Result<End, Failure> {
    let folder = Folder::read(&args.dir).await?;
    let Some(definition) = &folder.parsed.definition else {
        show(&folder.parsed.diagnostics, &folder.worktree.tree);
        return Ok(End::Fault);
    };
    let channel = channel(definition, args.channel.as_ref())?;
    let spec = policy(definition, &channel);
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|error| {
            Failure::user(format!("unknown time zone `{name}`: {error}"))
                .hint("write a name such as Europe/Berlin; the package tzdata has them")
        })?,
    };
    let begin = Clock::system().now();
    let model = model(args);
    let devices = devices(definition, &channel, spec.group.as_ref(), &model, begin);
    if devices.is_empty() {
        return Err(Failure::user(format!("no slot follows the channel `{channel}`"))
            .hint("slots of sites/SITE/site.yaml have `channel: NAME`"));
    }
    let policy = Policy::of(&spec, &zone);
    let rates = args.failing.iter().map(|percent| {
        let runs = (0..args.runs).map(|run| {
            let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(run));
            let baseline = Baseline::new(args.baseline / 100.0);
            let mut engine = Engine::new(policy.clone(), &seed.to_string(), baseline, &devices);
            for stage in (0..).take(policy.stages.len()) {
                engine.apply(&Event::Ordered { order: Order::Approve { stage }, at: begin });
            }
            let release = Release::failing(percent / 100.0);
            let case = Case {
                devices: &devices,
                model: &model,
                release: &release,
                from: begin,
                longest: LONGEST,
                seed,
            };
            simulate(&mut engine, case)
        });
        rate(*percent, &policy, begin, &runs.collect::<Vec<_>>())
    });
    let report = RolloutSimulation {
        source: definition.source.name.to_string(),
        channel: channel.to_string(),
        devices: devices.len() as u64,
        sites: devices.iter().map(|device| device.site).collect::<BTreeSet<_>>().len() as u64,
        rates: rates.collect(),
    };
    if args.format.json {
        output::json(&report)?;
    } else {
        output::print(&render::rollout::simulation(&report))?;
    }
    Ok(End::Good)
}

/// The channel that was named, or the only one that slots follow.
fn channel(definition: &Definition, wanted: Option<&ChannelName>) -> Result<ChannelName, Failure> {
    if let Some(name) = wanted {
        return if definition.source.channels.contains_key(name) {
            Ok(name.clone())
        } else {
            Err(Failure::new(ErrorClass::NotFound, format!("there is no channel `{name}`"))
                .hint("edgewright.yaml declares channels"))
        };
    }
    let slots = definition.sites.values().flat_map(|site| &site.slots);
    let followed: BTreeSet<&ChannelName> = slots.filter_map(|slot| slot.channel.as_ref()).collect();
    match followed.iter().collect::<Vec<_>>()[..] {
        [only] => Ok((*only).clone()),
        [] => Err(Failure::user("no slot follows a channel")
            .hint("slots of sites/SITE/site.yaml have `channel: NAME`")),
        _ => {
            let names: Vec<&str> = followed.iter().map(|name| name.as_str()).collect();
            Err(Failure::user(format!("slots follow several channels: {}", names.join(", ")))
                .hint("name one with --channel"))
        }
    }
}

/// The policy of a channel; without one, all devices are one stage.
fn policy(definition: &Definition, channel: &ChannelName) -> RolloutSpec {
    let source = &definition.source;
    let name = source.channels.get(channel).and_then(|channel| channel.rollout.as_ref());
    name.and_then(|name| source.rollouts.get(name)).cloned().unwrap_or_default()
}

fn model(args: &SimulateArgs) -> Model {
    let float = |size: u64| f64::from(u32::try_from(size >> 10).unwrap_or(u32::MAX)) * 1024.0;
    let poll = args.poll.get();
    Model {
        poll: (poll, poll / 8),
        bytes: float(args.download.bytes()),
        bandwidth: float(args.link.bytes()).max(1024.0),
        failing: args.baseline / 100.0,
        ..Model::default()
    }
}

/// The slots that follow a channel, as devices.
fn devices(
    definition: &Definition,
    channel: &ChannelName,
    group: Option<&LabelKey>,
    model: &Model,
    now: Timestamp,
) -> Vec<Device> {
    let mut variants = BTreeMap::new();
    let mut groups = BTreeMap::new();
    let mut devices = Vec::new();
    for (number, site) in (0..).zip(definition.sites.values()) {
        let slots: Vec<&SlotSpec> =
            site.slots.iter().filter(|slot| slot.channel.as_ref() == Some(channel)).collect();
        let sharing = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        for slot in slots {
            let labels = labels(site, slot);
            let named = group.and_then(|key| labels.get(key));
            let count = groups.len();
            let group = named.map(|value| *groups.entry((number, value.clone())).or_insert(index(count)));
            let count = variants.len();
            devices.push(Device {
                id: format!("{}/{}", site.name, slot.id),
                site: number,
                variant: *variants.entry(&slot.image).or_insert(index(count)),
                group,
                patience: model.patience(sharing),
                seen: Some(now),
                labels,
            });
        }
    }
    devices
}

fn index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Labels of a slot; those of its site where the slot has none of that name.
fn labels(site: &SiteSpec, slot: &SlotSpec) -> Labels {
    let mut labels = site.labels.clone();
    labels.extend(slot.labels.clone());
    labels
}

/// What several simulations with one failure rate have in common.
fn rate(percent: f64, policy: &Policy, begin: Timestamp, runs: &[Summary]) -> SimulatedRate {
    let since = |moment: Timestamp| u64::try_from(begin.duration_until(moment).as_secs()).unwrap_or_default();
    let stages = (0..=policy.stages.len()).map(|stage| {
        let begins = runs.iter().filter_map(|run| {
            run.stages.iter().find(|(number, _)| usize::from(*number) == stage).map(|(_, at)| since(*at))
        });
        let begins: Vec<u64> = begins.collect();
        SimulatedStage {
            stage: policy
                .stages
                .get(stage)
                .map_or("all other devices", |stage| stage.name.as_str())
                .to_owned(),
            reached: begins.len() as u64,
            median_begin_seconds: median(begins),
        }
    });
    let is_stopped = |run: &&Summary| matches!(run.status, Status::Stopped(_));
    let ended = runs.iter().filter(|run| run.status == Status::Complete || is_stopped(run));
    let bytes = |run: &Summary| run.bytes.iter().copied().fold(0.0, f64::max);
    SimulatedRate {
        failing_percent: percent,
        runs: runs.len() as u64,
        stopped: runs.iter().filter(is_stopped).count() as u64,
        completed: runs.iter().filter(|run| run.status == Status::Complete).count() as u64,
        stages: stages.collect(),
        median_end_seconds: median(ended.map(|run| since(run.end)).collect()),
        median_offered: median(runs.iter().map(|run| u64::from(run.offered)).collect()).unwrap_or_default(),
        median_failed: median(runs.iter().map(|run| u64::from(run.failed)).collect()).unwrap_or_default(),
        largest_site_mib: runs.iter().map(bytes).fold(0.0, f64::max) / 1_048_576.0,
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
