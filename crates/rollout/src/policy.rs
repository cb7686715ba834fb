//! Policies: in which stages devices follow a channel, and what bounds a rollout.

use std::time::Duration;

use edgewright_model::duration::Span;
use edgewright_model::names::StageName;
use edgewright_model::spec::{Labels, RolloutSpec, StageSpec};
use edgewright_model::window::Windows;
use jiff::tz::TimeZone;

use crate::gate::Rules;

/// How devices follow a channel.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The stages in order. Devices in none of them come after the last one.
    pub stages: Vec<Stage>,
    /// When devices may be offered a release for the first time; none: at any time.
    pub windows: Option<Windows>,
    /// How many devices may have a release that they have neither confirmed nor left, at the same time.
    pub in_flight: u32,
    /// How many devices may be offered a release for the first time in a period.
    pub rate: Option<Rate>,
    /// How many devices of a redundancy group may be unavailable at the same time.
    pub unavailable: u32,
    /// A device that was not heard of for this long is offline.
    pub offline_after: Duration,
    /// What stops a rollout.
    pub gate: Rules,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: StageName,
    /// Labels of slots and sites that all must match.
    pub select: Labels,
    /// How many of the devices that match.
    pub size: Size,
    /// The share of the stage's reachable devices that must have ended, in percent, before the soak begins.
    pub ended: u8,
    /// How long to watch after that.
    pub soak: Duration,
    /// Whether someone must approve it before it begins.
    pub needs_approval: bool,
}

/// How many devices of those that a stage selects; the devices of earlier stages count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All of them.
    All,
    /// A share of all whose digest would change, 1 to 100, rounded up.
    Percent(u8),
    /// This many.
    Count(u32),
    /// This many at each site.
    PerSite(u32),
}

/// `count` in each `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how much time.
    pub period: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stages: Vec::new(),
            windows: None,
            in_flight: 50,
            rate: None,
            unavailable: 1,
            offline_after: Duration::from_hours(24),
            gate: Rules::default(),
        }
    }
}

impl Policy {
    /// The policy that a source declares. `zone`: its [`RolloutSpec::time_zone`].
    pub fn of(spec: &RolloutSpec, zone: &TimeZone) -> Self {
        let default = Self::default();
        Self {
            stages: spec.stages.iter().map(Stage::of).collect(),
            windows: (!spec.windows.is_empty())
                .then(|| Windows { zone: zone.clone(), windows: spec.windows.clone() }),
            in_flight: spec.in_flight.unwrap_or(default.in_flight),
            rate: spec.rate.as_ref().map(|rate| Rate { count: rate.devices, period: rate.every.get() }),
            unavailable: spec.unavailable.unwrap_or(default.unavailable),
            offline_after: spec.offline_after.map_or(default.offline_after, Span::get),
            gate: default.gate,
        }
    }
}

impl Stage {
    /// The share of a stage that must have ended, if nothing else is declared: a device may be switched off
    /// for long.
    const ENDED: u8 = 95;

    fn of(spec: &StageSpec) -> Self {
        Self {
            name: spec.name.clone(),
            select: spec.select.clone(),
            size: spec
                .percent
                .map(Size::Percent)
                .or(spec.count.map(Size::Count))
                .or(spec.per_site.map(Size::PerSite))
                .unwrap_or(Size::All),
            ended: spec.ended.unwrap_or(Self::ENDED),
            soak: spec.soak.map_or(Duration::ZERO, Span::get),
            needs_approval: spec.approvals() > 0,
        }
    }
}
