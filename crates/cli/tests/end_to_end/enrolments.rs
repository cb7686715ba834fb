//! The program `edgewright-agent` at a server: it enrols with a token, takes a release, and each fault of an
//! enrolment names its cause.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use edgewright_process::Command;
use edgewright_testkit::bootc::BootcDevice;

use crate::devices::{plants, released, serve};
use crate::rollouts::json;
use crate::server::Server;
use crate::world::{Ended, PATIENCE, Repository, edgewright, until};

/// What the agent checks besides the image's own checks needs systemd.
const HEALTH: &str = "\n[health]\ntarget = \"\"\ngreenboot = false\n";

/// A device that is installed, and was never enrolled.
struct Machine {
    folder: PathBuf,
    program: PathBuf,
    bootc: BootcDevice,
}

/// A running agent; it is killed when this is dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let installed = edgewright_model::Digest::of("the image of the factory").to_string();
        let bootc = BootcDevice::new(&folder, "registry.example/device/self:current", &installed);
        let program = edgewright_testkit::binary("edgewright-agent");
        Self { folder, program, bootc }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let options = [("--config", "etc/agent.toml"), ("--state", "state"), ("--run", "run")];
        let options = options.map(|(option, name)| [option.into(), self.path(name).into_os_string()]);
        let programs = [("--bootc", self.bootc.bootc()), ("--reboot", self.bootc.reboot())];
        let programs = programs.map(|(option, path)| [option.into(), path.into_os_string()]);
        [options.concat(), programs.concat()].concat()
    }

    /// Runs a command of the agent to its end.
    async fn agent(&self, arguments: &[&str]) -> Ended {
        let command = Command::new(&self.program).args(self.arguments()).args(arguments.iter().copied());
        let finished = command.deadline(PATIENCE).run_status().await.unwrap();
        Ended {
            code: finished.code().unwrap_or(-1),
            errors: finished.output.stderr_tail.join("\n"),
            out: String::from_utf8(finished.output.stdout).unwrap(),
        }
    }

    /// Enrols with a token, as the service of a first boot does.
    async fn enrol(&self, server: &str, token: &str, more: &[&str]) -> Ended {
        std::fs::write(self.path("token"), format!("{token}\n")).unwrap();
        let token = self.path("token");
        let arguments = ["enrol", "--server", server, "--token-file", token.to_str().unwrap()];
        self.agent(&[&arguments, more].concat()).await
    }

    /// The service of the agent.
    #[expect(clippy::disallowed_methods, reason = "it is to be killed, not awaited")]
    fn start(&self) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = std::process::Command::new(&self.program);
        Running(command.args(self.arguments()).arg("run").stderr(log).spawn().unwrap())
    }

    /// The files of its identity that only their owner can read.
    fn private_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("etc")).unwrap().map(Result::unwrap);
        let private = entries.filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o777 == 0o600);
        let mut names: Vec<_> = private.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn id(&self) -> String {
        let text = std::fs::read_to_string(self.path("etc/agent.toml")).unwrap();
        let (_, id) = text.split_once("\ndevice = \"").unwrap();
        id.split('"').next().unwrap().to_owned()
    }
}

async fn token(folder: &Path, arguments: &[&str]) -> String {
    let made = json(folder, &[&["device", "enrol"], arguments].concat()).await;
    made["token"].as_str().unwrap().to_owned()
}

/// A server with a release for three slots, and its address.
async fn server(folder: &Path) -> (Server, Repository, String) {
    let repository = plants(folder, 3).await;
    let server = serve(folder, &repository).await;
    let url = format!("http://{}", server.address);
    (server, repository, url)
}

#[tokio::test]
async fn the_agent_enrols_and_takes_releases() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (server, repository, url) = server(folder).await;
    let machine = Machine::new(folder, "machine");
    let enrolled = machine.enrol(&url, &token(folder, &["press-0"]).await, &[]).await.ends(0);
    let id = machine.id();
    assert_eq!(enrolled.out.trim(), format!("enrolled as {id} in slot s-a/press-0"));
    assert_eq!(machine.private_files(), ["auth.json", "device-token"]);
    let config = std::fs::read_to_string(machine.path("etc/agent.toml")).unwrap();
    std::fs::write(machine.path("etc/agent.toml"), config + HEALTH).unwrap();

    // From the image of the factory to the first release, and to the next one.
    for (number, text) in [(1, "first\n"), (2, "second\n")] {
        if number > 1 {
            repository.write("images/hmi/files/etc/hmi", text);
            let commit = repository.commit(text).await;
            server.builds(&commit).await;
        }
        let digest = released(&server, "hmi/a").await;
        until("the offer", async || {
            let shown = json(folder, &["device", "show", &id]).await;
            (shown["offer"] == digest.to_string()).then_some(())
        })
        .await;
        let agent = machine.start();
        until("the agent", async || {
            let status: serde_json::Value =
                serde_json::from_str(&machine.agent(&["status", "--json"]).await.out).ok()?;
            (status["is_running"] == true).then_some(())
        })
        .await;
        // It may be at it already: then the command is rejected.
        machine.agent(&["check"]).await;
        until("the reboot", async || (machine.bootc.disk().reboots == number).then_some(())).await;
        drop(agent);
        let _agent = machine.start();
        let shown = until("the confirmation", async || {
            let shown = json(folder, &["device", "show", &id]).await;
            (shown["confirmed"] == digest.to_string()).then_some(shown)
        })
        .await;
        let mut steps: Vec<_> = shown["evidence"]
            .as_array()
            .unwrap()
            .iter()
            // A device that asks twice during its download may be inferred to have it before it reports so.
            .filter(|fact| fact["digest"] == digest.to_string() && fact["basis"] != "inferred")
            .map(|fact| (fact["step"].as_str().unwrap(), fact["basis"].as_str().unwrap()))
            .collect();
        steps.sort_unstable();
        let reported = ["booted", "downloaded", "healthy"].map(|step| (step, "reported"));
        assert_eq!(steps, [&reported[..], &[("offered", "observed")]].concat(), "{shown:#}");
        let text = edgewright(folder, &["device", "show", &id]).await.ends(0).out;
        assert!(text.contains("healthy") && text.contains("press-0"), "{text}");
        let listed = edgewright(folder, &["devices"]).await.ends(0).out;
        assert!(listed.lines().any(|line| line.contains(&id) && line.contains("active")), "{listed}");
    }

    // Revoked, the agent keeps its image and names the cause.
    edgewright(folder, &["device", "revoke", &id, "--reason", "stolen"]).await.ends(0);
    let denied = machine.agent(&["check", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&denied.out).unwrap();
    assert_eq!((denied.code, status["problem"]["kind"].as_str()), (1, Some("denied")), "{status:#}");
    assert_eq!(machine.bootc.disk().reboots, 2);
}

#[tokio::test]
async fn an_enrolment_that_fails_names_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (server, _repository, url) = server(folder).await;
    let machine = Machine::new(folder, "machine");
    let fails = |ended: Ended, code, texts: &[&str]| {
        let ended = ended.ends(code);
        for text in texts {
            assert!(ended.errors.contains(text), "{text}: {}", ended.errors);
        }
    };
    let another = "hint: ask an operator for another token: `edgewright device enrol SLOT`";

    fails(machine.enrol(&url, "ewenr_0", &[]).await, 4, &["the token is unknown", another]);
    let repeat = "repeat the command: it gives the same device";
    fails(machine.enrol("http://127.0.0.1:1", "ewenr_0", &[]).await, 5, &["no response from", repeat]);
    fails(machine.enrol("server.example", "ewenr_0", &[]).await, 2, &["`server.example` is not the address"]);
    let short = token(folder, &["s-a", "--any-slot", "--serial", "SN-1", "--expires", "1s"]).await;
    until("the end of a token", async || {
        let ended = machine.enrol(&url, &short, &["--serial", "SN-2"]).await;
        let is_over = ended.errors.contains("time is over");
        let expected = if is_over { another } else { "devices with other serial numbers" };
        fails(ended, 4, &[expected]);
        is_over.then_some(())
    })
    .await;
    assert!(!machine.path("etc").exists(), "nothing was written");

    // An enrolment that ended after the exchange is repeated, and gives the same device.
    let single = token(folder, &["press-0"]).await;
    std::fs::create_dir_all(machine.path("etc/auth.json")).unwrap();
    fails(machine.enrol(&url, &single, &[]).await, 5, &["cannot write", "auth.json"]);
    std::fs::remove_dir(machine.path("etc/auth.json")).unwrap();
    machine.enrol(&url, &single, &[]).await.ends(0);
    let devices = server.client.devices(None).await.unwrap();
    assert_eq!(devices.iter().map(|device| device.id.to_string()).collect::<Vec<_>>(), [machine.id()]);

    // Done, it is not repeated by accident; another machine cannot use the token.
    fails(machine.enrol(&url, &single, &[]).await, 4, &["agent.toml exists", "--force"]);
    fails(machine.enrol(&url, &single, &["--force"]).await, 4, &["the token was used already", another]);
    let other = Machine::new(folder, "other");
    fails(other.enrol(&url, &single, &[]).await, 4, &["the token was used already", another]);
    let two = token(folder, &["s-a", "--any-slot", "--uses", "2", "--approval"]).await;
    fails(other.enrol(&url, &two, &["--slot", "press-0"]).await, 4, &["no slot", "is free"]);

    // A device that waits gets no image before its approval.
    let waiting = other.enrol(&url, &two, &["--slot", "press-2"]).await.ends(0);
    assert_eq!(waiting.out.trim(), format!("enrolled as {}: waits for an operator's approval", other.id()));
    let ended = other.agent(&["check", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, status["problem"]["kind"].as_str()), (1, Some("not_found")), "{status:#}");
    edgewright(folder, &["device", "approve", &other.id()]).await.ends(0);
    let config = std::fs::read_to_string(other.path("etc/agent.toml")).unwrap();
    std::fs::write(other.path("etc/agent.toml"), format!("policy = \"download\"\n{config}")).unwrap();
    let ended = other.agent(&["check", "--json"]).await.ends(0);
    let status: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(status["state"]["state"], "staged", "{status:#}");
}

/// The command of the unit in the how-to, as systemd reads it, for a registry and credentials elsewhere.
fn beacon(registry: &str, auth: &Path) -> String {
    let page = include_str!("../../../../docs/how-to/enrol-devices.md");
    let (_, unit) = page.split_once("```ini\n").unwrap();
    let (unit, _) = unit.split_once("```").unwrap();
    // A line that ends with a backslash continues on the next one.
    let unit = unit.replace("\\\n", " ");
    let setting =
        |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    assert_eq!(setting("Environment"), "REGISTRY=edgewright.example:5443");
    let script = setting("ExecStart").strip_prefix("/bin/sh -c '").unwrap().strip_suffix('\'').unwrap();
    // systemd would replace `${NAME}` and `%` itself, and end the word at another quote.
    assert!(!script.contains("${") && !script.contains('%') && !script.contains('\''), "{script}");
    let moved = script.replace("/etc/ostree/auth.json", auth.to_str().unwrap());
    assert_ne!(moved, script);
    format!("REGISTRY={registry}; {moved}")
}

#[tokio::test]
async fn a_device_without_the_agent_reports_with_the_unit_of_the_manual() {
    if !edgewright_testkit::has(&["skopeo", "jq"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (server, _repository, url) = server(folder).await;
    let machine = Machine::new(folder, "machine");
    machine.enrol(&url, &token(folder, &["press-0"]).await, &[]).await.ends(0);
    let (id, address) = (machine.id(), server.address.clone());
    let insecure = format!("[[registry]]\nlocation = {address:?}\ninsecure = true\n");
    let containers = machine.path(".config/containers");
    std::fs::create_dir_all(&containers).unwrap();
    std::fs::write(containers.join("registries.conf"), insecure).unwrap();
    let path = format!("{}:{}", machine.folder.display(), "/usr/local/bin:/usr/bin:/bin");
    let run = async |script: &str| {
        let shell = Command::new("/bin/sh").arg("-c").arg(script).env("PATH", &path);
        let shell = shell.env("HOME", &machine.folder).env("XDG_CONFIG_HOME", machine.path(".config"));
        shell.deadline(PATIENCE).run_status().await.unwrap()
    };
    let report = beacon(&address, &machine.path("etc/auth.json"));
    let rejected = async |cause: &str| {
        let ended = run(&report).await;
        let errors = ended.output.stderr_tail.join("\n");
        assert!(ended.code() != Some(0) && errors.contains(cause), "{cause}: {errors}");
    };
    // A device that has not asked for its image yet has none that it could look up.
    rejected("manifest unknown").await;
    let digest = released(&server, "hmi/a").await;
    until("the offer", async || {
        let shown = json(folder, &["device", "show", &id]).await;
        (shown["offer"] == digest.to_string()).then_some(())
    })
    .await;
    let poll = report.split_once("skopeo").unwrap().1.replace("/healthy@$digest", ":current");
    let polled = run(&format!("REGISTRY={address}; skopeo{poll}")).await;
    assert_eq!(polled.code(), Some(0), "{:?}", polled.output.stderr_tail);
    machine.bootc.set_booted(&digest.to_string());
    let fact = async |step: &str| {
        until(step, async || {
            let shown = json(folder, &["device", "show", &id]).await;
            let mut facts = shown["evidence"].as_array()?.iter();
            facts.any(|fact| fact["step"] == step && fact["digest"] == digest.to_string()).then_some(shown)
        })
        .await
    };
    let ended = run(&report).await;
    assert_eq!(ended.code(), Some(0), "{:?}", ended.output.stderr_tail);
    let shown = fact("healthy").await;
    assert_eq!(shown["confirmed"], digest.to_string(), "{shown:#}");
    let ended = run(&report.replace("/healthy@", "/failed@")).await;
    assert_eq!(ended.code(), Some(0), "{:?}", ended.output.stderr_tail);
    fact("failed").await;

    // Without its credentials, it reports nothing.
    std::fs::write(machine.path("etc/auth.json"), "{}").unwrap();
    rejected("unauthorized").await;
}
