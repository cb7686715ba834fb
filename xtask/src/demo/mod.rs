//! `demo`: the whole of Edgewright in seven minutes, on the sample source, with every claim asserted.
//!
//! It has its own folders, port, container storage and git identity, all below `target/demo`. However it
//! ends, the next demo starts clean.

pub(crate) mod cluster;
mod fleet;
pub(crate) mod place;
pub(crate) mod puller;
pub(crate) mod server;
pub(crate) mod source;
pub(crate) mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use self::place::Place;
use self::server::{Server, text};
use self::source::Source;
use self::story::{Story, say};
use crate::command::Run;
use crate::{setup, workspace};

/// The first run bootstraps a Debian over the network.
const FIRST_RUN_LIMIT: Duration = Duration::from_mins(20);
/// Later runs only add files.
const RUN_LIMIT: Duration = Duration::from_mins(5);
/// The variants that the sample's devices run.
const ROLES: [&str; 4] = ["gateway/plant-a", "gateway/plant-b", "hmi/plant-a", "hmi/plant-b"];

/// Variants with their digests.
type Digests = BTreeMap<String, String>;

/// Runs the demo.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut story = Story::new();
    println!("Edgewright demo. All files are below target/demo; Ctrl-C ends it at any time.");

    story.step("Programs and the edgewright command");
    setup::run()?;
    let place = Place::prepare("demo")?;
    // A copy, so that a build beside the demo does not take the program away.
    Run::new("cargo").args(["build", "--locked", "--package", "edgewright"]).cwd(workspace::root()).run()?;
    std::fs::copy(workspace::target().join("debug/edgewright"), &place.program)?;
    let program = place.program.clone();
    let tools = setup::tool_image(&program)?;

    story.step("A git repository with the sample source: two roles at two sites, on one Debian base");
    // git finds no settings of the user there, and so takes no identity or hooks of theirs.
    Run::new(&program).arg("init").arg(&place.source).env("HOME", &place.home).output()?;
    let source = Source::open(&place.source);
    say(&workspace::shown(&place.source));

    story.step("The server: it polls the repository and hosts the images");
    let server = Server::start(program.clone(), &place, &tools)?;
    say(&format!("{} (log: {})", server.url(), workspace::shown(&place.log)));

    let mut demo = Demo { story, server, source, place: &place };
    let released = demo.first_run()?;
    let after = demo.a_site_changes(&released)?;
    demo.a_service_breaks(&after)?;
    demo.the_change_is_taken_back(&after)?;
    demo.a_fleet()?;
    demo.next()
}

/// The demo, once the server runs.
struct Demo<'a> {
    story: Story,
    server: Server<'a>,
    source: Source<'a>,
    place: &'a Place,
}

impl Demo<'_> {
    fn first_run(&mut self) -> anyhow::Result<Digests> {
        self.story.step("The first run; most of its time is Debian's bootstrap");
        let first = self.server.wait_for_run(&self.source.head()?, FIRST_RUN_LIMIT, &self.story)?;
        ensure_state(&self.server, &first, "passed")?;
        let released = digests(&self.server)?;
        for variant in ROLES {
            ensure!(released.contains_key(variant), "{variant} is not released, though the run passed");
        }
        say(&self.server.cli(&["images"]).answer()?);

        self.story.step("Any OCI client can pull an image; here skopeo, by the channel's tag");
        let reference = self.tag();
        Run::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false", &reference])
            .arg(format!("oci:{}:plant-a", self.place.pulled.display()))
            .run()?;
        say(&format!("{reference}\n  -> {}", workspace::shown(&self.place.pulled)));
        Ok(released)
    }

    fn a_site_changes(&mut self, released: &Digests) -> anyhow::Result<Digests> {
        self.story.step("A commit changes one file of one site");
        let commit = self.source.change(
            "sites/plant-a/files/etc/plant/site.conf",
            "shift_change=06:00",
            "shift_change=05:30",
            "plant-a: earlier shift",
        )?;
        say(&self.source.last_change()?);
        let second = self.server.wait_for_run(&commit, RUN_LIMIT, &self.story)?;
        ensure_state(&self.server, &second, "passed")?;
        let after = digests(&self.server)?;
        ensure_changed(released, &after, &["gateway/plant-a", "hmi/plant-a"])?;
        ensure_tested(&second, &["gateway/plant-a", "hmi/plant-a"])?;
        say(
            "Built and tested: gateway/plant-a, hmi/plant-a. All others kept their digests, so devices there download nothing.",
        );
        Ok(after)
    }

    fn a_service_breaks(&mut self, after: &Digests) -> anyhow::Result<()> {
        self.story.step("A commit breaks a service: the panel gets a port that is not a number");
        let commit = self.source.change(
            "images/hmi/files/etc/plant/hmi.env",
            "HTTP_PORT=8080",
            "HTTP_PORT=eighty",
            "hmi: another port",
        )?;
        say(&self.source.last_change()?);
        let third = self.server.wait_for_run(&commit, RUN_LIMIT, &self.story)?;
        ensure_state(&self.server, &third, "failed")?;
        ensure_changed(after, &digests(&self.server)?, &[])?;
        let tagged = digest_of(&self.tag(), self.place)?;
        ensure!(
            after.get("hmi/plant-a") == Some(&tagged),
            "`stable` should still have the old digest and has {tagged}"
        );
        say(&self.server.cli(&["run", "show", &number(&third)]).answer()?);
        say("Not released, with the evidence above. `stable` still has the old digests.");
        Ok(())
    }

    fn the_change_is_taken_back(&mut self, after: &Digests) -> anyhow::Result<()> {
        self.story.step("A commit reverts it: nothing is built, since every key is known");
        let fourth = self.server.wait_for_run(&self.source.revert()?, RUN_LIMIT, &self.story)?;
        ensure_state(&self.server, &fourth, "passed")?;
        ensure_changed(after, &digests(&self.server)?, &[])
    }

    /// Where the panel of plant A is pulled from, by its channel.
    fn tag(&self) -> String {
        format!("docker://{}/plant-os/hmi/plant-a:stable", self.server.address)
    }

    /// Shows what to try next, and keeps the server running for it if this is a terminal.
    fn next(&mut self) -> anyhow::Result<()> {
        let is_watched = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let url = self.server.url();
        self.story.step("Done. What to try next");
        let edgewright = workspace::shown(&self.place.program);
        if !is_watched {
            say(&format!("{}        # start the server again", self.server.command_line()));
        }
        say(&format!(
            "{edgewright} status --server {url}
{edgewright} image show hmi/plant-a --server {url}     # why built, from what, checks, verdict
{edgewright} run show 3 --server {url}                 # the refused change
{edgewright} logs 3 hmi/plant-a --server {url}
{edgewright} rollout explain stable --server {url}     # each device, and why it has what it has
podman pull --tls-verify=false {}/plant-os/hmi/plant-a:stable
$EDITOR {}/README.md          # then commit a change of your own there",
            self.server.address,
            workspace::shown(&self.place.source)
        ));
        if is_watched {
            println!("\nThe server runs until you press Ctrl-C.");
            self.server.wait()?;
        }
        Ok(())
    }
}

/// The variants that the newest release holds.
fn digests(server: &Server<'_>) -> anyhow::Result<Digests> {
    let images = server.json(&["images"])?;
    let images = images["images"].as_array().context("`edgewright images --json` has no `images`")?;
    let entry =
        |image: &Value| Some((image["variant"].as_str()?.to_owned(), image["digest"].as_str()?.to_owned()));
    Ok(images.iter().filter_map(entry).collect())
}

/// The digest of a reference, by skopeo.
fn digest_of(reference: &str, place: &Place) -> anyhow::Result<String> {
    let manifest = Run::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", reference]).output()?;
    let file = place.root.join("manifest.json");
    std::fs::write(&file, manifest)?;
    Ok(Run::new("skopeo").arg("manifest-digest").arg(&file).output()?.trim().to_owned())
}

fn number(view: &Value) -> String {
    view["number"].to_string()
}

/// Shows the run unless it ended in this state.
fn ensure_state(server: &Server<'_>, view: &Value, wanted: &str) -> anyhow::Result<()> {
    let state = text(&view["state"]);
    if state != wanted {
        say(&server.cli(&["run", "show", &number(view)]).answer()?);
    }
    ensure!(state == wanted, "run {} should be `{wanted}` and is `{state}`", number(view));
    Ok(())
}

/// Exactly these variants have another digest than before.
fn ensure_changed(before: &Digests, after: &Digests, wanted: &[&str]) -> anyhow::Result<()> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed: Vec<&str> =
        names.into_iter().filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect();
    ensure!(changed == wanted, "these variants should have changed: {wanted:?}; these did: {changed:?}");
    Ok(())
}

/// Exactly these variants were built, and each has a verdict.
fn ensure_tested(view: &Value, wanted: &[&str]) -> anyhow::Result<()> {
    let nodes = view["nodes"].as_array().context("the run has no nodes")?;
    let mut built: Vec<&str> = Vec::new();
    for node in nodes.iter().filter(|node| text(&node["action"]) == "build") {
        let name = text(&node["node"]);
        ensure!(
            node["verdicts"].as_array().is_some_and(|verdicts| !verdicts.is_empty()),
            "{name} was built, but it has no verdict"
        );
        built.push(name);
    }
    built.sort_unstable();
    ensure!(built == wanted, "these nodes should have been built: {wanted:?}; these were: {built:?}");
    Ok(())
}
