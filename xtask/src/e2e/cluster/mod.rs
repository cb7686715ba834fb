//! `e2e cluster`: jobs on a real Kubernetes with Tekton, from a commit to a release, and what goes wrong
//! there. Nothing is replaced by a stand-in.
//!
//! ```text
//!  World   one cluster, a registry of this host with our own image
//!   └ Stage   a scenario: its turn, its name in the output
//!      └ Site    a namespace with the rights of the how-to, a server of this host with jobs in it, a source
//! ```
//!
//! Each scenario has sites of its own, so that one that fails does not hide the others. Several run at once,
//! in the order of their table; those that disturb the whole cluster run beside no other.

mod api;
mod argo;
mod base;
mod listener;
pub(crate) mod options;
mod scenarios;
pub(crate) mod server;
pub(crate) mod settings;
mod shipwright;
pub(crate) mod site;
pub(crate) mod stage;
mod turns;
pub(crate) mod world;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cluster;
use crate::test::shown;
use options::Options;
use scenarios::Scenario;
use stage::Stage;
use turns::Turns;
use world::World;

/// What all scenarios without KubeVirt may take on two cores, once programs, the cluster's parts and the base
/// image are there. More is a warning.
const BUDGET: Duration = Duration::from_mins(4);
/// How many scenarios run at once.
const AT_ONCE: usize = 6;

/// How a scenario ended.
type Ended = (&'static str, Duration, anyhow::Result<()>);

/// Runs the scenarios.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let mut options = Options::parse(arguments)?;
    if options.is_list {
        scenarios::list();
        return Ok(());
    }
    let passed = cluster::kubevirt_passed()?;
    if options.is_kubevirt_once {
        options.has_kubevirt = !passed.exists();
        if options.has_kubevirt {
            println!("e2e: WITH KubeVirt: its scenarios have not passed on this machine yet");
        } else {
            println!(
                "e2e: WITHOUT KubeVirt: its scenarios have passed on this machine ({})",
                passed.display()
            );
        }
    }
    let chosen = scenarios::choose(&options)?;
    println!("Jobs on a cluster. All files are below target/e2e-cluster; Ctrl-C ends it at any time.");
    let world = World::prepare(&options)?;
    world.story.progress("the base image");
    ensure_base(&world)?;
    let began = Instant::now();
    let ended = play(&world, &chosen);
    report(&ended, began.elapsed(), &options)?;
    if options.has_kubevirt && options.names.is_empty() {
        std::fs::write(&passed, "").with_context(|| format!("cannot write {}", passed.display()))?;
    }
    Ok(())
}

/// Makes the base image of all sites, if it is not kept.
pub(crate) fn ensure_base(world: &World) -> anyhow::Result<()> {
    base::ensure(world).context("cannot make the base image of the scenarios")
}

/// Plays the scenarios: each in a thread of its own, because a server ends with the thread that started it.
fn play(world: &World, scenarios: &[&'static Scenario]) -> Vec<Ended> {
    let turns = Turns::new(AT_ONCE);
    std::thread::scope(|scope| {
        let begin = |scenario: &'static Scenario| {
            let (name, ticket) = (scenario.name, turns.queue());
            let play = move || {
                let stage = Stage::new(world, name, ticket.wait(scenario.is_alone));
                let began = Instant::now();
                stage.progress("begins");
                let ended = (scenario.run)(&stage);
                match &ended {
                    Ok(()) => stage.progress("passed"),
                    Err(error) => stage.progress(&format!("FAILED: {error:#}")),
                }
                (name, began.elapsed(), ended)
            };
            (name, scope.spawn(play))
        };
        let threads: Vec<_> = scenarios.iter().copied().map(begin).collect();
        let panicked = |name| (name, Duration::ZERO, Err(anyhow::anyhow!("the scenario panicked")));
        threads.into_iter().map(|(name, thread)| thread.join().unwrap_or_else(|_| panicked(name))).collect()
    })
}

fn report(ended: &[Ended], took: Duration, options: &Options) -> anyhow::Result<()> {
    println!();
    for (name, took, result) in ended {
        let result = if result.is_ok() { "passed" } else { "FAILED" };
        println!("{name:24} {result}  {}", shown(*took));
    }
    println!("e2e: {} scenarios on a cluster took {} of {}", ended.len(), shown(took), shown(BUDGET));
    if took > BUDGET && !options.has_kubevirt && !options.is_all {
        println!("warning: the scenarios took longer than their budget");
    }
    let failed: Vec<&str> =
        ended.iter().filter(|(_, _, result)| result.is_err()).map(|(name, _, _)| *name).collect();
    if !failed.is_empty() {
        bail!("these scenarios failed: {}; files are below target/e2e-cluster/NAME", failed.join(", "));
    }
    Ok(())
}
