//! The fast model: outcomes only. Each device that ends makes room for the next one; stages end when all of
//! their devices have.

use edgewright_rollout::simulate::Random;

use crate::rules::Rule;

/// The last device of each stage.
const STAGES: [u32; 4] = [10, 100, 1_000, 10_000];
/// How many devices have the release and have not ended, at most.
pub(crate) const IN_FLIGHT: u32 = 50;

/// What became of one rollout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) is_stopped: bool,
    pub(crate) failed: u32,
}

/// One rollout of a release that fails with this probability.
pub(crate) fn run(rule: &mut Rule, failing: f64, seed: u64) -> Run {
    let mut random = Random::new(seed);
    let mut ended = 0;
    let mut failed = 0;
    let mut is_stopped = false;
    'stages: for last in STAGES {
        while ended < last {
            let has_failed = random.happens(failing);
            failed += u32::from(has_failed);
            is_stopped = rule.stops(ended, has_failed);
            ended += 1;
            if is_stopped {
                // Those under way end, too.
                let under_way = IN_FLIGHT.min(last - ended);
                failed += (0..under_way).map(|_| u32::from(random.happens(failing))).sum::<u32>();
                break 'stages;
            }
        }
        is_stopped = rule.stops_at_end();
        if is_stopped {
            break;
        }
    }
    Run { is_stopped, failed }
}

/// Many rollouts.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    pub(crate) count: u32,
    pub(crate) stopped: u32,
    pub(crate) median_failed: u32,
}

/// As many rollouts, each with seeds of its own.
pub(crate) fn runs(rule: impl Fn() -> Rule, failing: f64, count: u32, seed: u64) -> Runs {
    let one =
        |number: u32| run(&mut rule(), failing, seed.wrapping_mul(0x1_0000_0001) ^ u64::from(number) << 20);
    let all: Vec<Run> = (0..count).map(one).collect();
    let median = |value: fn(&Run) -> u32| {
        let mut values: Vec<u32> = all.iter().map(value).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Runs {
        count,
        stopped: u32::try_from(all.iter().filter(|run| run.is_stopped).count()).unwrap_or(u32::MAX),
        median_failed: median(|run| run.failed),
    }
}
