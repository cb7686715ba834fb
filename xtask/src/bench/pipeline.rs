//! `bench pipeline`: how long from a commit to hosted, tested images.
//!
//! (a) a commit that changes no image, in a source of 1,000 variants; (b) one site's change until its
//! manifests can be read; (c) first build and site change against `bench/pipeline/baseline.sh`, the same by
//! hand, interleaved. Both sides begin each round with empty storage; the baseline pushes to a CNCF
//! distribution registry on loopback. Our side is a running server that is woken as a webhook would, its
//! times end with the run; (d) a sandbox with a network.

mod decide;
mod rival;
mod sample;
mod server;

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use super::measure::Cost;
use super::report::{self, Goal, median};
use crate::command::Run;
use crate::{setup, workspace};

/// Interleaved rounds of (c).
const ROUNDS: usize = 5;
/// Sandboxes of (d).
const SANDBOXES: usize = 9;

pub(super) fn run() -> anyhow::Result<()> {
    setup::run()?;
    rival::setup()?;
    let root = workspace::target().join("bench/pipeline");
    clear(&root)?;
    std::fs::create_dir_all(&root)?;
    Run::new("cargo").args(["build", "--release", "--locked", "-p", "edgewright"]).run()?;
    let edgewright = workspace::target().join("release/edgewright");

    let made = Instant::now();
    setup::tool_image(&edgewright)?;
    println!("tool image there after {:.0} s", made.elapsed().as_secs_f64());
    let sandbox = sandbox_ms(&edgewright)?;
    let unrelated = decide::unrelated_commit(&edgewright, &root)?;
    let rounds: Vec<Round> =
        (1..=ROUNDS).map(|number| round(&edgewright, &root, number)).collect::<Result<_, _>>()?;

    let column = |pick: Pick| median(&rounds.iter().map(pick).collect::<Vec<_>>());
    println!("\nmedians of {ROUNDS} rounds, seconds         edgewright   baseline      ratio");
    let rows: [(&str, Pick, Pick); 4] = [
        ("first build, wall", |round| round.first.0.wall, |round| round.first.1.wall),
        ("first build, CPU", |round| round.first.0.cpu, |round| round.first.1.cpu),
        ("site change, wall", |round| round.site.0.wall, |round| round.site.1.wall),
        ("site change, CPU", |round| round.site.0.cpu, |round| round.site.1.cpu),
    ];
    for (name, ours, theirs) in rows {
        let (ours, theirs) = (column(ours), column(theirs));
        println!("{name:<36} {ours:>12.2} {theirs:>10.2} {:>10.2}", ours / theirs);
    }
    let goals = [
        Goal { name: "(a) nothing relevant in 1,000 variants: decided, ms", value: unrelated, bound: 200.0 },
        Goal {
            name: "(b) one site's change: manifests readable, ms",
            value: column(|round| round.readable_ms),
            bound: 1000.0,
        },
        Goal {
            name: "(c) first build, wall, ratio to the baseline",
            value: ratio(&rounds, |round| round.first),
            bound: 0.9,
        },
        Goal {
            name: "(c) one site's change, wall, ratio to the baseline",
            value: ratio(&rounds, |round| round.site),
            bound: 0.2,
        },
        Goal {
            name: "(d) a sandbox with a network, until its program runs, ms",
            value: sandbox,
            bound: 50.0,
        },
    ];
    report::write("pipeline", &goals)
}

/// How long a sandbox takes in which a program prints its version: the median of some.
fn sandbox_ms(edgewright: &Path) -> anyhow::Result<f64> {
    let tools = setup::tool_image(edgewright)?;
    let one = || {
        let doctor = Run::new(edgewright).args(["doctor", "--json", "--tools"]).arg(&tools);
        let report: serde_json::Value = serde_json::from_str(&doctor.answer()?)?;
        report["sandbox_ms"].as_f64().context("no sandbox could be started")
    };
    Ok(median(&(0..SANDBOXES).map(|_| one()).collect::<Result<Vec<_>, _>>()?))
}

/// A column of the table.
type Pick = fn(&Round) -> f64;
/// Ours and the baseline's.
type Pair = (Cost, Cost);

struct Round {
    first: Pair,
    site: Pair,
    readable_ms: f64,
}

fn ratio(rounds: &[Round], pick: fn(&Round) -> Pair) -> f64 {
    median(&rounds.iter().map(|round| pick(round).0.wall / pick(round).1.wall).collect::<Vec<_>>())
}

/// One round: each side builds all, then a site's change without tests. Who begins alternates.
fn round(edgewright: &Path, root: &Path, number: usize) -> anyhow::Result<Round> {
    let rival = rival::Rival::start(&root.join("rival"))?;
    let ours = || decide::round(edgewright, &root.join("ours"));
    let theirs = || rival.round(&root.join("rival.log"));
    let (ours, theirs) = if number % 2 == 1 {
        let ours = ours()?;
        (ours, theirs()?)
    } else {
        let theirs = theirs()?;
        (ours()?, theirs)
    };
    println!(
        "round {number}: first build {:.1} s, baseline {:.1} s; site change {:.2} s, baseline {:.2} s",
        ours.first.wall, theirs.0.wall, ours.site.wall, theirs.1.wall
    );
    Ok(Round { first: (ours.first, theirs.0), site: (ours.site, theirs.1), readable_ms: ours.readable_ms })
}

/// Removes a folder with what container tools left mounted in it.
fn clear(folder: &Path) -> anyhow::Result<()> {
    const UNMOUNT: &str = r#"grep -o " $0/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l"#;
    Run::as_root("bash")?.args(["-c", UNMOUNT]).arg(folder).run()?;
    Run::as_root("rm")?.arg("-rf").arg(folder).run()
}
