//! Sandboxes on the real kernel, with the tool image that `cargo xtask setup` made.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and reports what it skips"
)]

use std::path::Path;
use std::time::Duration;

use edgewright_process::{CancellationToken, Command, Finished, Stream};
use edgewright_sandbox::launch::Launch;
use edgewright_sandbox::{Bounds, Mount, Network, Sandbox, ToolImage, kept};

const BOUNDS: Bounds = Bounds { memory_bytes: 512 * 1024 * 1024, processes: 200, cpu_weight: 50 };

fn tools() -> Option<ToolImage> {
    edgewright_testkit::tool_image().map(|folder| ToolImage::open(&folder).unwrap())
}

/// Runs a shell script in a sandbox. `/bin/sh` of the tool image takes the place of the job's program.
async fn run(script: &str, network: Network, mounts: Vec<Mount>) -> Option<Finished> {
    let tools = tools()?;
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(&tools, script, network, mounts);
    let sandbox = Sandbox::new(tools, folder.path().to_owned());
    let (command, _sandboxed) = sandbox.prepare(launch).unwrap();
    Some(command.deadline(Duration::from_mins(2)).run_status().await.unwrap())
}

fn launch(tools: &ToolImage, script: &str, network: Network, mounts: Vec<Mount>) -> Launch {
    Launch {
        name: format!("test-{}-{}", std::process::id(), script.len()),
        program: tools.root().join("bin/sh"),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: Vec::new(),
        mounts,
        network,
        kvm: true,
        bounds: BOUNDS,
    }
}

fn output(finished: &Finished) -> String {
    format!("{}{}", finished.output.text(), finished.output.stderr_tail.join("\n"))
}

#[tokio::test]
async fn root_of_a_sandbox_is_no_root_and_sees_no_file_of_the_host() {
    let secret = tempfile::tempdir().unwrap();
    let path = secret.path().join("secret");
    std::fs::write(&path, "of the host").unwrap();
    let script = format!(
        "id -u; cut -c1-40 /proc/self/uid_map; cat {} 2>&1; touch /usr/x 2>&1; ls /proc | grep -c '^[0-9]'",
        path.display()
    );
    let device = || {
        use std::os::unix::fs::MetadataExt as _;
        let found = Path::new("/dev/null").metadata().unwrap();
        (found.uid(), found.mode(), found.ctime(), found.ctime_nsec())
    };
    let before = device();
    let Some(finished) = run(&script, Network::None, Vec::new()).await else { return };
    assert_eq!(device(), before, "the host's devices stay as they are");
    let text = output(&finished);
    assert!(text.starts_with("0\n"), "{text}");
    assert!(text.contains("100000"), "{text}");
    assert!(text.contains("No such file") && text.contains("Read-only file system"), "{text}");
    assert!(!text.contains("of the host"), "{text}");
}

#[tokio::test]
async fn a_mounted_folder_is_all_that_can_be_written() {
    // The name has what a table of mounts must escape.
    let folder = tempfile::Builder::new().prefix("a b\\#\t").tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(100_000), Some(100_000)).unwrap();
    let mount = Mount { from: folder.path().to_owned(), to: "/work".to_owned(), writable: true };
    let Some(finished) =
        run("echo made > /work/file; chown 7:7 /work/file", Network::None, vec![mount]).await
    else {
        return;
    };
    let file = folder.path().join("file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "made\n", "{}", output(&finished));
    let owner = std::os::unix::fs::MetadataExt::uid(&Path::new(&file).metadata().unwrap());
    assert_eq!(owner, 100_007);
}

#[tokio::test]
async fn neither_loopback_nor_addresses_of_the_host_nor_link_local_ones_answer() {
    let listener = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = own_address();
    std::net::TcpStream::connect((own.as_str(), port)).expect("the host itself reaches the listener");
    let probe = |address: &str| {
        format!(
            "timeout 3 bash -c \"exec 3<>/dev/tcp/{address}/{port}\" 2>/dev/null && echo REACHED-{address}; "
        )
    };
    let script = format!(
        "exec bash -c '{}{}{} setpriv --bounding-set -net_admin,-sys_ptrace -- ip route del unreachable {own} \
         2>/dev/null && echo CHANGED; cat /proc/net/route | wc -l; timeout 30 bash -c \"exec 3<>/dev/tcp/169.254.169.254/80\" 2>&1 | tail -1'",
        probe("127.0.0.1"),
        probe("10.0.2.2"),
        probe(&own)
    );
    let Some(finished) = run(&script, Network::Others, Vec::new()).await else { return };
    let text = output(&finished);
    assert!(!text.contains("REACHED"), "{text}");
    // As scripts of packages run.
    assert!(!text.contains("CHANGED"), "{text}");
    assert!(text.contains("No route to host") || text.contains("unreachable"), "{text}");
}

/// The address by which this host reaches others.
fn own_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("198.51.100.1:9")
        .map_or_else(|_| "127.0.0.2".to_owned(), |()| socket.local_addr().unwrap().ip().to_string())
}

#[tokio::test]
async fn memory_and_processes_are_bounded_and_nothing_is_left_behind() {
    let script =
        "exec bash -c 'for i in $(seq 400); do sleep 99 & done 2>&1 | head -1; jobs | wc -l; echo done'";
    let Some(finished) = run(script, Network::None, Vec::new()).await else { return };
    let text = output(&finished);
    assert!(text.contains("Resource temporarily unavailable") || text.contains("fork"), "{text}");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0099\0")
    });
    assert_eq!(left.count(), 0);
    let hungry = "exec bash -c 'x=$(head -c 900000000 /dev/zero | tr \"\\0\" x); echo SURVIVED'";
    let Some(finished) = run(hungry, Network::None, Vec::new()).await else { return };
    assert!(!output(&finished).contains("SURVIVED"), "{}", output(&finished));
}

#[tokio::test]
async fn a_kept_sandbox_outlives_its_runtime_and_is_entered_and_removed() {
    let Some(tools) = tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(tools.clone(), folder.path().to_owned());
    let script = "echo of the job > /run/file; echo ready; exec sleep infinity";
    let (command, sandboxed) = sandbox.prepare(launch(&tools, script, Network::None, Vec::new())).unwrap();
    let ready = CancellationToken::new();
    tokio::select! {
        ended = command.run_lines_status(|stream, line| {
            if stream == Stream::Stdout && line == "ready" {
                ready.cancel();
            }
        }) => panic!("it ended: {ended:?}"),
        () = ready.cancelled() => {}
    }
    sandboxed.keep("plants/os").unwrap();
    let other = sandbox.prepare(launch(&tools, "true", Network::None, Vec::new())).unwrap();
    std::mem::forget(other);
    // As the next process with this folder does.
    Sandbox::clear(folder.path());

    let kept = kept::list(folder.path()).unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].label() == "plants/os" && kept[0].runs());
    let words = kept[0].entry(&["-c".into(), "cat /run/file; exit 7".into()], false);
    let entered = Command::new(&words[0]).args(&words[1..]).run_status().await.unwrap();
    assert!(output(&entered).contains("of the job"), "{}", output(&entered));
    assert_eq!(entered.ended, edgewright_process::Ended::Code(7));
    kept[0].remove().unwrap();
    assert!(!kept[0].runs() && kept::list(folder.path()).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files are left");
}
