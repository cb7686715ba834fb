//! The inner loop with real processes: `run --watch` on uncommitted files, `logs --follow` through a restart
//! of the server.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edgewright_process::{Command, Finished};
use serde_json::Value;

/// How long anything may take that a test waits for, on a machine that is busy with much else.
const DEADLINE: Duration = Duration::from_mins(2);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// A folder with a source of three variants that are made of files only, and a data folder.
struct World(tempfile::TempDir);

impl World {
    fn new(lanes: &str) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        world.write("edgewright.yaml", "edgewright: 1\nname: plants\n");
        world.write("images/base/image.yaml", "from: scratch\nsteps: [{files: files/}]\ntest: none\n");
        world.write("images/base/files/etc/motd", "hello\n");
        let hmi = format!("from: base\nper: site\nsteps: [{{files: files/}}]\ntest: {lanes}\n");
        world.write("images/hmi/image.yaml", &hmi);
        world.write("images/hmi/files/etc/hmi", "x\n");
        for site in ["a", "b"] {
            let yaml = format!("id: s-{site}\nslots: [{{id: one, image: hmi}}]\n");
            world.write(&format!("sites/plant-{site}/site.yaml"), &yaml);
            world.write(&format!("sites/plant-{site}/files/etc/site"), site);
        }
        world
    }

    fn source(&self) -> PathBuf {
        self.0.path().join("plants")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.source().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn commit(&self) {
        let git = async |arguments: &[&str]| {
            let command = Command::new("git").args(["-c", "user.name=a", "-c", "user.email=a@b"]);
            command.args(arguments.iter().copied()).cwd(self.source()).run().await.unwrap();
        };
        git(&["init", "--quiet", "--initial-branch=main"]).await;
        git(&["add", "--all"]).await;
        git(&["commit", "--quiet", "--message=first"]).await;
    }

    async fn call(&self, arguments: &[&str]) -> Finished {
        let command = Command::new(env!("CARGO_BIN_EXE_edgewright")).args(arguments.iter().copied());
        let command = command.cwd(self.source()).env("HOME", self.0.path());
        let (tools, folder) = edgewright_testkit::tools();
        command.env("EDGEWRIGHT_DATA", self.data()).env(tools, folder).run_status().await.unwrap()
    }

    /// A read command's document; nothing while there is none.
    async fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_slice(&self.call(&arguments).await.output.stdout).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn start(&self, arguments: &[&str]) -> Started {
        Started::new(arguments, &self.source(), self.0.path(), &self.data())
    }

    /// The newest run with its nodes, once it is over.
    async fn finished(&self, number: u64) -> Value {
        let number = number.to_string();
        poll(&format!("the end of run {number}"), async || {
            let view = self.json(&["run", "show", &number]).await;
            (view["finished"] != Value::Null).then_some(view)
        })
        .await
    }
}

/// A process with all that it prints; killed where a test ends early.
struct Started {
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Started {
    #[expect(
        clippy::disallowed_methods,
        reason = "these processes outlive a call: they get signals, and continue"
    )]
    fn new(arguments: &[&str], folder: &Path, home: &Path, data: &Path) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edgewright"));
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        command.env("HOME", home).env("EDGEWRIGHT_DATA", data).envs([edgewright_testkit::tools()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for mut stream in streams {
            let printed = Arc::clone(&printed);
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut chunk) {
                    printed.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..length]));
                }
            });
        }
        Self { child, printed }
    }

    fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    async fn prints(&self, text: &str) {
        poll(&format!("{text:?}"), async || self.printed().contains(text).then_some(())).await;
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; gives the exit code.
    async fn end(&mut self) -> Option<i32> {
        poll("the end of a process", async || self.child.try_wait().unwrap()).await.code()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn poll<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The nodes that a run built, prefixes left out.
fn built(view: &Value) -> Vec<&str> {
    let nodes = view["nodes"].as_array().unwrap().iter();
    let built = nodes.filter(|node| node["action"] == "build" && node["variant"] != Value::Null);
    built.map(|node| node["node"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn watching_builds_uncommitted_files_and_releases_nothing() {
    let world = World::new("none");
    world.write(".gitignore", "*.log\n");
    world.commit().await;
    let mut watch = world.start(&["run", "--watch"]);
    let first = world.finished(1).await;
    assert_eq!(built(&first), ["base", "hmi/plant-a", "hmi/plant-b"], "{}", watch.printed());
    watch.prints("watching").await;

    // Neither is a change: the next run is that of the file below.
    world.write("build.log", "ignored\n");
    world.write(".git/description", "git's own\n");
    world.write("sites/plant-a/files/etc/site", "changed\n");
    let second = world.finished(2).await;
    assert_eq!((built(&second), &second["state"]), (vec!["hmi/plant-a"], &"passed".into()));
    assert_eq!(second["no_release"], "the files are not committed: no release");

    let site = "id: s-b\nslots: [{id: one, image: hmi}]\n";
    world.write("edgewright.yaml", "edgewright: 1\nname: [plants\n");
    watch.prints("--> edgewright.yaml:2").await;
    world.write("edgewright.yaml", "edgewright: 1\nname: plants\n");
    world.write("sites/plant-b/site.yaml", &format!("{site}vars: {{}}\n# a comment builds nothing\n"));
    let third = world.finished(3).await;
    assert_eq!((built(&third), &third["state"]), (vec![], &"passed".into()), "{}", watch.printed());

    watch.signal(rustix::process::Signal::INT);
    assert_eq!(watch.end().await, Some(0), "{}", watch.printed());
    let call = async |arguments: &[&str]| world.call(arguments).await.output.text();
    assert_eq!(call(&["release", "list", "--quiet"]).await, "", "nothing was released");
    assert_eq!(call(&["run", "list", "-q"]).await, "3\n2\n1");
    // On request uncommitted files are released, too: what was built is there already.
    let released = world.call(&["run", "--release"]).await;
    assert!(released.success(), "{:?}", released.output.stderr_tail);
    assert_eq!(call(&["release", "list", "--quiet"]).await, "1");
    assert_eq!(world.json(&["status"]).await["server_pid"], Value::Null, "the data folder is free again");
    let left: Vec<_> = std::fs::read_dir(world.data().join("work/jobs")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn ctrl_c_cancels_a_run() {
    let world = World::new("{lanes: [external]}");
    world.commit().await;
    let mut run = world.start(&["run"]);
    run.prints("waits for a verdict").await;
    run.signal(rustix::process::Signal::INT);
    assert_eq!(run.end().await, Some(130), "{}", run.printed());
    assert!(
        run.printed().contains("cancelling the run; press Ctrl-C again to leave at once"),
        "{}",
        run.printed()
    );
    assert_eq!(world.finished(1).await["state"], "cancelled");
}

#[tokio::test]
async fn a_log_is_followed_through_a_restart_of_the_server_to_the_jobs_end() {
    let world = World::new("{lanes: [external]}");
    world.commit().await;
    let source = world.source().display().to_string();
    let serve =
        |listen: &str| world.start(&["serve", "--source", &source, "--poll", "1s", "--listen", listen]);
    let server = serve("127.0.0.1:0");
    let address = poll("the server's address", async || {
        world.json(&["status"]).await["registry"].as_str().map(str::to_owned)
    })
    .await;
    let url = format!("http://{address}");
    // Built, and waiting for another system's verdict: the node has not ended.
    let digest = async |node: &str| {
        poll(&format!("the digest of {node}"), async || {
            let view = world.json(&["run", "show", "1"]).await;
            let mut nodes = view["nodes"].as_array()?.iter();
            let node = nodes.find(|row| row["node"] == node)?;
            node["digest"].as_str().map(str::to_owned)
        })
        .await
    };
    let (a, b) = (digest("hmi/plant-a").await, digest("hmi/plant-b").await);
    let mut logs = world.start(&["logs", "1", "hmi/plant-a", "--follow", "--server", &url]);
    let mut all = world.start(&["logs", "-f", "1", "--server", &url]);
    let mut watched = world.start(&["run", "watch", "1", "--server", &url]);
    logs.prints("push files sites/plant-a/files").await;

    drop(server);
    logs.prints("the server is gone").await;
    let server = serve(&address);
    poll("the server", async || {
        (world.json(&["status"]).await["registry"] == address.as_str()).then_some(())
    })
    .await;
    for digest in [a, b] {
        poll("the verdict to be taken", async || {
            // As tables print it.
            let posted = world.call(&["verdict", "post", &digest[..19], "--passed", "--server", &url]).await;
            posted.success().then_some(())
        })
        .await;
    }
    assert_eq!(logs.end().await, Some(0), "{}", logs.printed());
    assert_eq!(watched.end().await, Some(0), "{}", watched.printed());
    assert!(watched.printed().contains("hmi/plant-b passed"), "{}", watched.printed());
    assert_eq!(all.end().await, Some(0), "{}", all.printed());
    let lines = all.printed();
    let of = |node: &str| lines.lines().any(|line| line.starts_with(node) && line.contains("push files"));
    assert!(of("hmi/plant-a ") && of("hmi/plant-b "), "{lines}");
    let once = logs.printed().matches("push files sites/plant-a/files").count();
    assert_eq!(once, 1, "nothing is printed twice: {}", logs.printed());
    assert_eq!(world.finished(1).await["state"], "passed", "{}", server.printed());
}
