//! The full model: a fleet with sites, links and outages, on a virtual clock.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use edgewright_rollout::Engine;
use edgewright_rollout::fleet::Device;
use edgewright_rollout::gate::{Baseline, Outcomes};
use edgewright_rollout::policy::{Policy, Size, Stage};
use edgewright_rollout::simulate::{self, Model, Release, Summary, simulate};
use jiff::Timestamp;

/// Devices of a site.
const SITE: u32 = 50;
const VARIANTS: u32 = 8;
/// From as many devices, the rate of failures of good releases is learned.
const SAMPLE: usize = 20_000;
/// A rollout that has not ended by then waits for something.
const LONGEST: Duration = Duration::from_hours(24 * 60);

/// A case of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) release: Release,
    pub(crate) model: Model,
}

/// The cases: what is wrong, and with what.
pub(crate) fn cases() -> Vec<Case> {
    let model = Model::default();
    let healthy = Release::failing(model.failing);
    let one_variant = Release { failing: vec![model.failing, model.failing, 0.2, model.failing] };
    let case = |name, release: &Release, model: &Model| Case {
        name,
        release: release.clone(),
        model: model.clone(),
    };
    vec![
        case("healthy", &healthy, &model),
        case("healthy, 1 % of devices lie", &healthy, &Model { lying: 0.01, ..model.clone() }),
        case(
            "healthy, links are down for a tenth of the time",
            &healthy,
            &Model { outages: (Duration::from_hours(24), Duration::from_hours(3)), ..model.clone() },
        ),
        case("healthy, a tenth of reports is lost", &healthy, &Model { lost: 0.1, ..model.clone() }),
        case("1 % fail", &Release::failing(0.01), &model),
        case("3 % fail", &Release::failing(0.03), &model),
        case(
            "3 % fail, 1 % of devices lie",
            &Release::failing(0.03),
            &Model { lying: 0.01, ..model.clone() },
        ),
        case("20 % of one variant fail", &one_variant, &model),
        case("2 % never come back", &healthy, &Model { dying: 0.02, ..model.clone() }),
    ]
}

/// A rollout of a case, after one of a good release, from which the baseline is learned.
pub(crate) fn run(case: &Case, count: u32, seed: u64) -> anyhow::Result<(Summary, Duration)> {
    let begin: Timestamp = "2026-11-02T08:00:00Z".parse().context("the first moment")?;
    let patience = case.model.patience(SITE / 2);
    let devices: Vec<Device> = (0..count)
        .map(|number| Device {
            id: format!("device-{number}"),
            labels: [].into(),
            site: number / SITE,
            variant: number % VARIANTS,
            group: None,
            patience,
            seen: Some(begin),
        })
        .collect();
    // The release before it was good: without a gate, to learn what is normal.
    let sample = devices.get(..SAMPLE).unwrap_or(&devices);
    let mut known = Policy { in_flight: count, ..Policy::default() };
    known.gate.alpha = 0.0;
    known.gate.variants_alpha = 0.0;
    known.gate.first.failures = 0;
    let before = Model { dying: case.model.dying.min(Model::default().dying), ..case.model.clone() };
    let mut engine = Engine::new(known, "before", Baseline::of(Outcomes::default()), sample);
    let good = Release::failing(before.failing);
    let case_before = simulate::Case {
        devices: sample,
        model: &before,
        release: &good,
        from: begin,
        longest: Duration::from_hours(24 * 7),
        seed: !seed,
    };
    let history = simulate(&mut engine, case_before).outcomes;
    let started = Instant::now();
    let mut engine = Engine::new(policy(count)?, &seed.to_string(), Baseline::of(history), &devices);
    let now = simulate::Case {
        devices: &devices,
        model: &case.model,
        release: &case.release,
        longest: LONGEST,
        seed,
        ..case_before
    };
    let summary = simulate(&mut engine, now);
    Ok((summary, started.elapsed()))
}

/// As many in flight as half a percent of a large fleet.
fn policy(count: u32) -> anyhow::Result<Policy> {
    let stage = |name: &str, size, hours| {
        anyhow::Ok(Stage {
            name: name.parse()?,
            select: [].into(),
            size,
            ended: 95,
            soak: Duration::from_hours(hours),
            needs_approval: false,
        })
    };
    let stages = vec![
        stage("canary", Size::Count(10), 1)?,
        stage("one-percent", Size::Percent(1), 2)?,
        stage("tenth", Size::Percent(10), 4)?,
    ];
    let in_flight = Policy::default().in_flight.max(count / 200);
    Ok(Policy { stages, in_flight, ..Policy::default() })
}
