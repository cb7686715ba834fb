//! `bench fleet`: a server that 100,000 devices know.
//!
//! The devices enrol, connect after an outage, poll, and take a release that fails. They are one process
//! with one thread (`crates/load`), which shares the machine with the server. Rivals that answer devices one
//! by one need a cluster and a database; what we compare with is a registry that knows no devices: CNCF
//! distribution answers all with one manifest, without credentials.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::distribution::{self, Distribution};
use super::report::{self, Goal};
use crate::command::Run;
use crate::demo::place::Place;
use crate::demo::server::Server;
use crate::demo::source::Source;
use crate::demo::story::Story;
use crate::{setup, workspace};

const SITES: usize = 2_000;
const SLOTS: usize = 50;
/// How long a run of one small image may take.
const RUN_LIMIT: Duration = Duration::from_mins(5);
/// What is polled at the rival.
const RIVALS: &str = "/v2/press/manifests/current";
const ROLLOUTS: &str = "\
channels: {stable: {follows: default-branch, rollout: careful}}
rollouts:
  careful: {stages: [{name: canary, percent: 1, soak: 1h}], in_flight: 1000}
";

pub(super) fn run() -> anyhow::Result<()> {
    setup::run()?;
    distribution::setup()?;
    let packages = ["-p", "edgewright", "-p", "edgewright-load"];
    Run::new("cargo").args(["build", "--release", "--locked"]).args(packages).run()?;
    let release = workspace::target().join("release");
    let program = release.join("edgewright");
    let tools = setup::tool_image(&program)?;
    let place = Place::prepare("bench-fleet")?;
    let story = Story::new();
    println!("{SITES} sites with {SLOTS} slots each");
    write(&place.source)?;
    let source = Source::open(&place.source);
    let first = source.commit("the fleet")?;
    let mut server = Server::start(program, &place, &tools)?;
    server.wait_for_run(&first, RUN_LIMIT, &story)?;

    let (devices, token) = (place.root.join("devices"), place.data.join("operator-token"));
    let load = |command: &str| {
        Run::new(release.join("edgewright-load")).args([command, &server.address]).arg(&devices)
    };
    let read = |run: Run| anyhow::Ok(serde_json::from_str::<Value>(&run.output()?)?);
    let enrolled = read(load("enrol").arg(&token).args([SITES.to_string(), SLOTS.to_string()]))?;
    let polls = read(load("polls"))?;
    let memory = memory_mib(server.process())?;
    let bad = source.change("images/press/files/etc/release", "1", "2", "a release that fails")?;
    let decide = load("decide").arg(&token);
    server.wait_for_run(&bad, RUN_LIMIT, &story)?;
    let decision = read(decide)?;

    let registry = rival(&place, &server.address)?;
    drop(server);
    let polled = Run::new(release.join("edgewright-load")).args(["rival", &registry.address, RIVALS]);
    let rival = read(polled)?;
    print(&enrolled, &polls, &rival);
    let number = |phase: &str, name: &str| polls[phase][name].as_f64().unwrap_or(f64::NAN);
    let rivals_rate = rival["closed"]["per_s"].as_f64().unwrap_or(f64::NAN);
    let goals = [
        Goal { name: "fleet.us_per_poll", value: 1e6 / number("closed", "per_s"), bound: 100.0 },
        Goal { name: "fleet.rival_poll_ratio", value: rivals_rate / number("closed", "per_s"), bound: 1.0 },
        Goal { name: "fleet.open_loop_p99_ms", value: number("open", "p99_ms"), bound: 20.0 },
        Goal { name: "fleet.storm_s", value: number("storm", "seconds"), bound: 61.0 },
        Goal { name: "fleet.storm_errors", value: number("storm", "errors"), bound: 0.0 },
        Goal { name: "fleet.server_mib", value: memory, bound: 1024.0 },
        Goal {
            name: "fleet.decision_s",
            value: decision["decision_s"].as_f64().unwrap_or(f64::NAN),
            bound: 1.0,
        },
    ];
    report::write("fleet", &goals)
}

/// A registry that knows no devices, with the image that ours have.
fn rival(place: &Place, ours: &str) -> anyhow::Result<Distribution> {
    let registry = Distribution::start(&place.root.join("distribution"))?;
    let [from, to] = [
        format!("docker://{ours}/fleet/press:stable"),
        format!("docker://{}/press:current", registry.address),
    ];
    let copy = ["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to];
    Run::new("skopeo").args(copy).run()?;
    Ok(registry)
}

/// The definitions: one small image, and many sites with its slots.
fn write(folder: &Path) -> anyhow::Result<()> {
    let file = |path: &str, text: &str| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    file("edgewright.yaml", &format!("edgewright: 1\nname: fleet\n{ROLLOUTS}"))?;
    file("images/press/image.yaml", "from: scratch\nsteps: [files: files/]\ntest: none\n")?;
    file("images/press/files/etc/release", "1\n")?;
    for site in 0..SITES {
        let mut text = format!("id: plant-{site}\nslots:\n");
        for slot in 0..SLOTS {
            writeln!(text, "  - {{id: press-{slot}, image: press}}")?;
        }
        file(&format!("sites/plant-{site}/site.yaml"), &text)?;
    }
    Run::new("git").args(["init", "--quiet", "--initial-branch", "main"]).arg(folder).run()
}

/// The most memory that a process had, in MiB.
fn memory_mib(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn print(enrolled: &Value, polls: &Value, rival: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let seconds = number(&enrolled["seconds"]);
    println!("\n{} devices enrolled in {seconds:.1} s", enrolled["devices"]);
    println!(
        "{:<36} {:>9} {:>7} {:>9} {:>9} {:>9}",
        "devices", "per s", "errors", "p50 ms", "p99 ms", "max ms"
    );
    for (of_whom, phase, name) in [
        (polls, "storm", "connect in 60 s, and ask once"),
        (polls, "closed", "ask again at once, 64 connections"),
        (rival, "closed", "  distribution, one manifest for all"),
        (polls, "open", "5,000 polls a second"),
        (rival, "open", "  distribution, one manifest for all"),
        (polls, "exchange", "401, token, manifest"),
    ] {
        let of = |what: &str| number(&of_whom[phase][what]);
        println!(
            "{name:<36} {:>9.0} {:>7} {:>9.2} {:>9.2} {:>9.1}",
            of("per_s"),
            of("errors"),
            of("p50_ms"),
            of("p99_ms"),
            of("longest_ms")
        );
    }
}
