//! A namespace with the rights that the how-to has, a server with its jobs in it, and its source.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::server::{Server, Signal};
use super::settings::Settings;
use super::stage::Stage;
use super::world::{World, copy, free_port, source_folder, until};
use crate::cluster::HOST_NAME;
use crate::command::Run;
use crate::demo::server::text;
use crate::demo::source::Source;
use crate::workspace;

/// The page whose first YAML block makes a namespace for jobs.
const HOW_TO: &str = "docs/how-to/run-jobs-on-kubernetes.md";
/// The namespace of that block.
const NAMESPACE: &str = "edgewright-jobs";
/// The namespace of the second block.
const MACHINE_NAMESPACE: &str = "edgewright-machines";
/// The service account of that block.
pub(crate) const ACCOUNT: &str = "edgewright";
/// The label of all objects of a server.
const LABEL: &str = "edgewright.dev/server";
/// How long objects may stay after the last job: a minute by rule, and a margin for a busy machine.
const LEFT_LIMIT: Duration = Duration::from_mins(4);

/// A site; its server ends with it. Its namespace stays as long as the cluster.
#[derive(Debug)]
pub(crate) struct Site<'s> {
    stage: &'s Stage<'s>,
    /// All files of this site.
    pub(crate) folder: PathBuf,
    pub(crate) namespace: String,
    pub(crate) settings: Settings,
    address: String,
    server: Option<Server>,
}

impl<'s> Site<'s> {
    /// Lays out the files, and makes the namespace. The server does not run yet.
    pub(super) fn prepare(stage: &'s Stage<'s>, name: &str) -> anyhow::Result<Self> {
        let world = stage.world;
        let folder = world.place.root.join(name);
        let namespace = format!("ew-{name}");
        std::fs::create_dir_all(&folder)?;
        let host = world.cluster.host_address();
        let address = format!("{host}:{}", free_port(host)?);
        let pull_from = format!("{name}.edgewright.internal");
        let (_, port) = address.rsplit_once(':').context("the address has a port")?;
        world.cluster.pull_from(&pull_from, &format!("http://{HOST_NAME}:{port}"))?;
        let mut site =
            Self { stage, folder, namespace, settings: Settings::default(), address, server: None };
        site.fill_settings(&pull_from);
        copy(&source_folder(), &site.source())?;
        Run::new("git").args(["init", "--quiet", "--initial-branch=main"]).arg(site.source()).run()?;
        site.make_namespace()?;
        site.write_token()?;
        site.write_kubeconfig()?;
        Ok(site)
    }

    fn fill_settings(&mut self, pull_from: &str) {
        let url = format!("http://{}", self.address);
        let path = |name: &str| self.folder.join(name).display().to_string();
        let (data, kubeconfig, source) = (path("data"), path("kubeconfig"), path("source"));
        let world = self.stage.world;
        let settings = &mut self.settings;
        settings.text("server", "listen", &self.address).text("server", "data", &data);
        settings.text("jobs", "registry", &url);
        settings.text("jobs", "tools", &world.tools.display().to_string());
        settings.text("cluster", "image", &world.image).text("cluster", "kubeconfig", &kubeconfig);
        settings.text("cluster", "namespace", &self.namespace).text("cluster", "pull_from", pull_from);
        // Two processors are a whole node here.
        settings.text("cluster", "job_cpu", "100m").text("cluster", "job_memory", "256Mi");
        settings.text("cluster", "test_cpu", "50m").text("cluster", "test_memory", "64Mi");
        settings.of_source("url", &source).of_source("name", "plant").of_source("poll", "1m");
    }

    /// The objects of the how-to, and nothing else.
    fn make_namespace(&self) -> anyhow::Result<()> {
        let block = yaml_of_how_to(0, NAMESPACE)?;
        self.apply("namespace.yaml", &block.replace(NAMESPACE, &self.namespace))?;
        // A kept cluster has what an earlier test left there.
        self.kubectl(&["delete", "taskruns,pods,secrets", "--selector", LABEL])?;
        self.wait_for_account(&self.namespace)
    }

    /// The same for virtual machines.
    pub(crate) fn make_machine_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        let block = yaml_of_how_to(1, MACHINE_NAMESPACE)?.replace(MACHINE_NAMESPACE, namespace);
        self.apply("machines.yaml", &block.replace(NAMESPACE, &self.namespace))?;
        self.wait_for_account(namespace)
    }

    /// Made some time after its namespace: before that, no Pod can be created there.
    fn wait_for_account(&self, namespace: &str) -> anyhow::Result<()> {
        until("the namespace has its default service account", LEFT_LIMIT, || {
            Ok(self.stage.world.api.object(namespace, ("serviceaccounts", "default")).is_ok())
        })
    }

    /// Creates or changes objects, as administrator.
    pub(crate) fn apply(&self, file: &str, yaml: &str) -> anyhow::Result<()> {
        let file = self.folder.join(file);
        std::fs::write(&file, yaml)?;
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename"];
        self.stage.world.cluster.command().args(apply).arg(&file).output().map(drop)
    }

    /// Writes a new token of the server's account.
    pub(crate) fn write_token(&self) -> anyhow::Result<()> {
        let token = self.kubectl(&["create", "token", ACCOUNT, "--duration=2h"])?;
        Ok(std::fs::write(self.folder.join("token"), token.trim())?)
    }

    fn write_kubeconfig(&self) -> anyhow::Result<()> {
        let world = self.stage.world;
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"https://{}:6443\", certificate-authority: \"{}\"}}}}]\n\
             users: [{{name: u, user: {{tokenFile: \"{}\"}}}}]\n",
            world.cluster.node_address(),
            world.authority.display(),
            self.token().display()
        );
        Ok(std::fs::write(self.folder.join("kubeconfig"), config)?)
    }

    /// The file with the server's token for the cluster.
    pub(crate) fn token(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// The server's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The git repository.
    pub(crate) fn source(&self) -> PathBuf {
        self.folder.join("source")
    }

    /// `kubectl` as administrator, in the site's namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let namespace = ["--namespace", &self.namespace];
        self.stage.world.cluster.command().args(namespace).args(arguments).output()
    }

    /// `kubectl` as administrator, in no namespace.
    pub(crate) fn cluster_command(&self) -> Run {
        self.stage.world.cluster.command()
    }

    /// `kubectl` with the server's account and rights.
    pub(crate) fn as_server(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let command = self.cluster_command().arg("--kubeconfig").arg(self.folder.join("kubeconfig"));
        command.args(["--namespace", &self.namespace]).args(arguments).output()
    }

    /// Whether the API server accepts the server's credentials.
    pub(crate) fn has_access(&self) -> bool {
        self.as_server(&["get", "pods"]).is_ok()
    }

    /// What the servers of this site have printed.
    pub(crate) fn output(&self) -> anyhow::Result<String> {
        Ok(self.logs()?.concat())
    }

    /// Starts the server, with the settings as they are.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let file = self.folder.join("edgewright.toml");
        std::fs::write(&file, self.settings.file())?;
        let log = self.log_file(self.logs()?.len() + 1);
        let files = (self.address.as_str(), self.data().join("operator-token"), log);
        self.server = Some(Server::start(&self.stage.world.place.program, &file, files)?);
        Ok(())
    }

    fn log_file(&self, number: usize) -> PathBuf {
        self.folder.join(format!("server-{number}.log"))
    }

    /// What each server of this site has printed.
    fn logs(&self) -> anyhow::Result<Vec<String>> {
        let mut logs = Vec::new();
        loop {
            let file = self.log_file(logs.len() + 1);
            if !file.exists() {
                return Ok(logs);
            }
            logs.push(std::fs::read_to_string(file)?);
        }
    }

    /// The server; an error if it was ended.
    pub(crate) fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("the server does not run")
    }

    /// The server's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What all scenarios share.
    pub(crate) const fn world(&self) -> &World {
        self.stage.world
    }

    /// The `edgewright` command.
    pub(crate) fn program(&self) -> PathBuf {
        self.stage.world.place.program.clone()
    }

    /// A command of `edgewright` that asks the server, as its operator.
    pub(crate) fn edgewright(&self, words: &[&str]) -> Run {
        let token = self.data().join("operator-token");
        Run::new(self.program()).args(words).args(["--server", &self.url(), "--token-file"]).arg(token)
    }

    /// Ends the server.
    pub(crate) fn end_server(&mut self, signal: Signal) -> anyhow::Result<()> {
        let server = self.server.take().context("the server does not run")?;
        let status = server.end(signal)?;
        ensure!(signal == Signal::Kill || status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Writes a file of the source.
    pub(crate) fn write(&self, file: &str, content: &str) -> anyhow::Result<()> {
        let path = self.source().join(file);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Replaces a text in a file of the source.
    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.source().join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{file} of the test's source has no `{from}`");
        Ok(std::fs::write(&path, text.replace(from, to))?)
    }

    /// Removes a folder of the source.
    pub(crate) fn remove(&self, folder: &str) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(self.source().join(folder))?)
    }

    /// Commits, and notifies the server, as a hook of a repository does. Gives the commit.
    pub(crate) fn commit(&self, message: &str) -> anyhow::Result<String> {
        let commit = Source::open(&self.source()).commit(message)?;
        if let Some(server) = &self.server {
            server.ask("POST", "/api/v1/sources/plant/poll")?;
        }
        Ok(commit)
    }

    /// The run of a commit, if there is one yet.
    pub(crate) fn run_of(&self, commit: &str) -> anyhow::Result<Option<Value>> {
        let server = self.server()?;
        let runs = server.get("/api/v1/runs")?;
        let run = runs.as_array().into_iter().flatten().find(|run| run["commit"] == commit);
        let Some(number) = run.and_then(|run| run["number"].as_u64()) else { return Ok(None) };
        server.get(&format!("/api/v1/runs/{number}")).map(Some)
    }

    /// Waits until the run of a commit has ended. Gives its document.
    pub(crate) fn ended(&mut self, commit: &str, limit: Duration) -> anyhow::Result<Value> {
        let mut ended = None;
        let waited = until("the run has ended", limit, || {
            if let Some(server) = &mut self.server {
                server.must_live()?;
            }
            ended = self.run_of(commit)?.filter(|run| {
                matches!(text(&run["state"]), "passed" | "failed" | "cancelled" | "superseded")
            });
            Ok(ended.is_some())
        });
        waited.with_context(|| self.situation())?;
        ended.context("the run has ended")
    }

    /// The same; an error if it did not pass.
    pub(crate) fn passed(&mut self, commit: &str, limit: Duration) -> anyhow::Result<Value> {
        let run = self.ended(commit, limit)?;
        if text(&run["state"]) != "passed" {
            let nodes: Vec<String> = run["nodes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|node| format!("{}: {} {}", node["node"], node["state"], node["failure"]))
                .collect();
            bail!(
                "the run is `{}`: {} {}\n{}\n{}",
                text(&run["state"]),
                run["error"],
                run["diagnostics"],
                nodes.join("\n"),
                self.situation()
            );
        }
        Ok(run)
    }

    /// The log of a node's newest job in a run.
    pub(crate) fn log(&self, run: &Value, node: &str) -> anyhow::Result<String> {
        self.server()?.ask("GET", &format!("/api/v1/runs/{}/jobs/{node}/log", run["number"]))
    }

    /// Waits until the log of a node has a text.
    pub(crate) fn wait_for_log(
        &self,
        commit: &str,
        (node, wanted): (&str, &str),
        limit: Duration,
    ) -> anyhow::Result<()> {
        let mut seen = String::new();
        let found = until(&format!("`{wanted}` in the log of {node}"), limit, || {
            if let Some(run) = self.run_of(commit)? {
                // Before the job has begun, there is no log.
                seen = self.log(&run, node).unwrap_or_default();
            }
            Ok(seen.contains(wanted))
        });
        found.with_context(|| format!("{seen}\n{}", self.situation()))
    }

    /// An object of the site's namespace, such as `("pods", "clone")`.
    pub(crate) fn object(&self, object: (&str, &str)) -> anyhow::Result<Value> {
        self.stage.world.api.object(&self.namespace, object)
    }

    /// The objects of the server's jobs of a kind, such as `pods`.
    pub(crate) fn objects(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        self.stage.world.api.list(&self.namespace, kind, LABEL)
    }

    /// The names of objects of some kinds.
    pub(crate) fn names<const N: usize>(&self, kinds: [&str; N]) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for kind in kinds {
            names.extend(self.stage.world.api.names(&self.namespace, kind, LABEL)?);
        }
        Ok(names)
    }

    /// The names of all objects of a kind.
    pub(crate) fn all_names(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        self.stage.world.api.names(&self.namespace, kind, "")
    }

    /// What is there, for errors.
    pub(crate) fn situation(&self) -> String {
        let objects = self.kubectl(&["get", "taskruns,pods", "--output", "wide"]).unwrap_or_default();
        let events = self.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]).unwrap_or_default();
        let events: Vec<&str> = events.lines().collect();
        let events = events[events.len().saturating_sub(10)..].join("\n");
        let server = self.server.as_ref().map(Server::tail).unwrap_or_default();
        format!("{objects}\n{events}\n{server}")
    }

    /// The name of the server's registry, as nodes pull from it.
    pub(crate) fn pull_from(&self) -> String {
        format!("{}.edgewright.internal", self.namespace.trim_start_matches("ew-"))
    }

    /// The requests of service accounts, as the API server logs them.
    pub(crate) fn audit_log(&self) -> anyhow::Result<String> {
        Run::as_root("cat")?.arg(self.stage.world.cluster.audit_log()).output()
    }

    /// The end of a scenario: when its jobs are over, nothing of them stays in the cluster.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.end_but("")
    }

    /// Waits until nothing is left.
    pub(crate) fn settled(&mut self) -> anyhow::Result<()> {
        self.settled_but("")
    }

    /// The same, but for TaskRuns of this name's ending, with what they own.
    pub(crate) fn end_but(mut self, kept: &str) -> anyhow::Result<()> {
        self.settled_but(kept)?;
        self.end_server(Signal::Term)
    }

    fn settled_but(&mut self, kept: &str) -> anyhow::Result<()> {
        self.stage.rest();
        let mut left = String::new();
        let waited = until("no object of the server is left", LEFT_LIMIT, || {
            if let Some(server) = &mut self.server {
                server.must_live()?;
            }
            let is_kept = |name: &str| !kept.is_empty() && name.trim_end_matches("-pod").ends_with(kept);
            for kind in ["pods", "taskruns", "secrets"] {
                // Another scenario may have killed the API server.
                let all = self.names([kind]).unwrap_or_else(|error| vec![format!("{error:#}")]);
                left = all.into_iter().filter(|name| !is_kept(name)).collect::<Vec<_>>().join("\n");
                if !left.is_empty() {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        waited.with_context(|| left)
    }
}

/// A YAML block of the how-to, which has this namespace.
fn yaml_of_how_to(number: usize, namespace: &str) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(workspace::root().join(HOW_TO))?;
    let block = page.split("```yaml\n").nth(number + 1).and_then(|rest| rest.split_once("```"));
    let (block, _) = block.with_context(|| format!("{HOW_TO} has no YAML block {number}"))?;
    ensure!(block.contains(namespace), "the YAML block {number} of {HOW_TO} has no {namespace}");
    Ok(block.to_owned())
}
