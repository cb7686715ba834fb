//! Commands against real processes.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use edgewright_model::error::ErrorClass;
use edgewright_process::{CancellationToken, Command, CommandError, Ended, ProcessContext, Stream};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script]).grace(Duration::from_millis(200))
}

fn runs(pid: &str) -> bool {
    // A zombie whose parent has not reaped it yet does not run any more.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn output_errors_and_exit_codes() {
    let output = sh("echo out; echo err >&2").run().await.unwrap();
    assert_eq!(
        (output.text().as_str(), output.stderr_tail.as_slice()),
        ("out", ["err".to_owned()].as_slice())
    );

    let error = sh("echo 'no space' >&2; exit 3").run().await.unwrap_err();
    assert_eq!(error.ended(), Some(Ended::Code(3)));
    assert_eq!(
        error.to_string(),
        "`sh -c 'echo '\\''no space'\\'' >&2; exit 3'` ended with exit code 3: no space"
    );
    let error = sh("kill -9 $$").run().await.unwrap_err();
    assert_eq!(error.ended(), Some(Ended::Signal(9)));
    assert_eq!(sh("exit 3").run_status().await.unwrap().code(), Some(3));

    let error = Command::new("no-such-tool").run().await.unwrap_err();
    assert!(
        matches!(&error, CommandError::NotFound { hint, .. } if hint.contains("apt-get install no-such-tool"))
    );
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

#[tokio::test]
async fn the_environment_is_clean() {
    let context =
        ProcessContext::new(CancellationToken::new()).with_env("A", "context").with_env("B", "context");
    let output = Command::new("env").env("A", "own").context(&context).run().await.unwrap();
    let text = output.text();
    let mut names: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    names.retain(|(name, _)| !matches!(*name, "PATH" | "HOME"));
    names.sort_unstable();
    assert_eq!(names, [("A", "own"), ("B", "context"), ("LANG", "C.UTF-8"), ("TZ", "UTC")]);
    assert!(!format!("{context:?}").contains("context\""), "values must not be printed");
}

#[tokio::test]
async fn the_deadline_kills_grandchildren() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!(
        "trap '' TERM; (trap '' TERM; sleep 600) & echo $! > {0}; echo $$ >> {0}; echo slow >&2; wait",
        pids.display()
    );
    let error = sh(&script).deadline(Duration::from_millis(500)).run().await.unwrap_err();
    assert!(
        matches!(&error, CommandError::Deadline { stderr_tail, .. } if stderr_tail == &["slow"]),
        "{error}"
    );
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2);
    assert!(!pids.lines().any(runs), "left behind: {pids}");
}

#[tokio::test]
async fn cancelling_and_dropping_kill() {
    let token = CancellationToken::new();
    let context = ProcessContext::new(token.clone());
    let canceller = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(sh("sleep 600").context(&context).run(), canceller);
    assert!(matches!(result, Err(CommandError::Cancelled { .. })));
    assert!(matches!(sh("exit 0").context(&context).run().await, Err(CommandError::Cancelled { .. })));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
    let until = Instant::now() + Duration::from_secs(10);
    tokio::select! {
        _ = sh(&script).run() => panic!("it cannot end"),
        () = async { while !file.exists() && Instant::now() < until { tokio::task::yield_now().await } } => {}
    }
    let pid = std::fs::read_to_string(&file).unwrap();
    while runs(&pid) && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(!runs(&pid));
}

#[tokio::test]
async fn floods_stay_within_bounds() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let error = sh("yes").stdout_limit(1_000_000).run().await.unwrap_err();
    assert!(matches!(error, CommandError::TooMuchOutput { limit: 1_000_000, .. }));
    // One endless line on one stream, many on the other.
    let mut lines = 0_u64;
    let flood = "head -c 100000000 /dev/zero & yes | head -c 4000000 >&2; wait";
    let output = sh(flood)
        .run_lines(|stream, line| {
            lines += u64::from(stream == Stream::Stderr);
            assert!(line.len() <= 4096);
        })
        .await
        .unwrap();
    assert_eq!((lines, output.stderr_tail.len()), (2_000_000, 50));
    let grown = resident() - before;
    assert!(grown < 64 * 1024, "grew by {grown} KiB");
}

#[tokio::test]
async fn big_input_and_output_do_not_deadlock() {
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 251) as u8).collect();
    let output = Command::new("cat").stdin_bytes(bytes.clone()).run().await.unwrap();
    assert!(output.stdout == bytes);
    // Unread input is no error.
    sh("exit 0").stdin_bytes(bytes).run().await.unwrap();
}

#[tokio::test]
async fn readers_may_stop_early_and_files_take_output() {
    let (sum, _) = sh("head -c 3000000 /dev/zero")
        .run_reader(|mut stream| std::io::copy(&mut stream, &mut std::io::sink()).unwrap())
        .await
        .unwrap();
    assert_eq!(sum, 3_000_000);
    let (first, _) = sh("head -c 500000 /dev/zero")
        .run_reader(|mut stream| {
            let mut first = [1_u8; 10];
            stream.read_exact(&mut first).unwrap();
            first
        })
        .await
        .unwrap();
    assert_eq!(first, [0; 10]);
    // More than is drained: it dies of the broken pipe.
    let (why, _) = sh("exec cat /dev/zero").run_reader(|_| "the disk is full").await.unwrap();
    assert_eq!(why, "the disk is full");
    let error = sh("exit 7").run_reader(|_| ()).await.unwrap_err();
    assert_eq!(error.ended(), Some(Ended::Code(7)));

    let mut file = tempfile::tempfile().unwrap();
    sh("printf hello").run_to_file(file.try_clone().unwrap()).await.unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let input = folder_file("from a file");
    assert_eq!(Command::new("cat").stdin_file(input).run().await.unwrap().text(), "from a file");
}

fn folder_file(text: &str) -> std::fs::File {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

#[tokio::test]
async fn background_processes_do_not_delay_the_result() {
    let output = sh("sleep 600 & echo done").deadline(Duration::from_mins(1)).run().await.unwrap();
    assert_eq!(output.text(), "done");
}

#[tokio::test]
async fn input_kept_open_ends_before_the_signals() {
    // `cat` ends by itself only at the end of its input.
    let token = CancellationToken::new();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script = format!("read line; echo \"$line\"; cat; touch {}", mark.display());
    let stop = token.clone();
    let mut seen = Vec::new();
    let result = sh(&format!("trap '' TERM; {script}"))
        .stdin_bytes_kept_open("order\n")
        .grace(Duration::from_secs(20))
        .cancel(token)
        .run_lines(|_, line| {
            seen.push(line.to_owned());
            stop.cancel();
        })
        .await;
    assert!(matches!(result, Err(CommandError::Cancelled { .. })));
    assert_eq!(seen, ["order"]);
    assert!(mark.exists(), "the end of input must come before the signals");
}

#[tokio::test]
async fn programs_that_cannot_start_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tool");
    std::fs::write(&program, "#!/no/such/interpreter\n").unwrap();
    assert!(matches!(Command::new(&program).run().await, Err(CommandError::NotFound { .. })));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(&program).run().await.unwrap_err();
    Command::new("true").cwd("/no/such/folder").run().await.unwrap_err();
}
