//! The local executor conforms, with this program as its child process, and reports children that misbehave.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edgewright_job::conformance::{self, image_order, image_request};
use edgewright_job::{
    AdmissionSettings, Behaviour, ExecutorError, Floor, JobRegistry, LocalExecutor, LocalSettings,
    SimulatedExecutor, serve, simulated_profile,
};
use edgewright_model::order::ORDER_VERSION;
use edgewright_process::CancellationToken;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "child") {
        return child(&serde_json::from_str(&arguments[2]).unwrap());
    }
    if arguments.get(1).is_some_and(|argument| argument == "parent") {
        return parent(&arguments[2]);
    }
    let trials = vec![
        test("conforms", conforms),
        test("misbehaving_children_are_infrastructure", misbehaving_children),
        test("children_end_with_their_input", input_end),
        test("children_die_with_their_parent", parent_dies),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn test<F: Future<Output = ()> + 'static>(name: &str, run: fn() -> F) -> Trial {
    Trial::test(name, move || {
        runtime().block_on(run());
        Ok(())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn child(behaviour: &Behaviour) -> ExitCode {
    if *behaviour == Behaviour::Crash {
        std::process::abort();
    }
    let executor = SimulatedExecutor::new();
    executor.set_default(behaviour.clone());
    runtime().block_on(serve(std::io::stdin(), std::io::stdout(), &executor, false)).unwrap();
    ExitCode::SUCCESS
}

/// A server whose job neither reads its input nor ends.
fn parent(file: &str) -> ExitCode {
    let executor = local(
        "/bin/sh".into(),
        &["-c", &format!("echo $$ > {file}.new; mv {file}.new {file}; exec sleep 600")],
    );
    let request = image_request(1, "a").unwrap();
    runtime().block_on(conformance::run(&executor, request, CancellationToken::new())).0.unwrap();
    ExitCode::SUCCESS
}

fn settings(program: PathBuf, arguments: &[&str]) -> LocalSettings {
    let folder = std::env::temp_dir();
    let admission = AdmissionSettings {
        slots: conformance::SLOTS,
        untrusted_slots: std::num::NonZeroUsize::MIN,
        folder: folder.clone(),
        floor: Floor::Bytes(0),
    };
    let arguments = arguments.iter().map(Into::into).collect();
    // The child is simulated, and so are its machines.
    let lanes = |_| Some(simulated_profile(1));
    LocalSettings { arguments, lanes, ..LocalSettings::new(program, folder, admission) }
}

fn executor(settings: LocalSettings) -> LocalExecutor {
    LocalExecutor::new(settings, JobRegistry::anonymous("http://127.0.0.1:1"))
}

fn local(program: PathBuf, arguments: &[&str]) -> LocalExecutor {
    executor(settings(program, arguments))
}

async fn conforms() {
    let program = std::env::current_exe().unwrap();
    conformance::suite(|behaviour| {
        let behaviour = serde_json::to_string(&behaviour).unwrap();
        Arc::new(local(program.clone(), &["child", &behaviour]))
    })
    .await;
}

async fn misbehaving_children() {
    let run = async |script: &str| {
        let executor = local("/bin/sh".into(), &["-c", script]);
        conformance::run(&executor, image_request(1, "a").unwrap(), CancellationToken::new()).await
    };
    let good = format!(
        r#"{{"event":"outcome","version":{ORDER_VERSION},"builds":[],"verdicts":[],"lock":null,"failure":null}}"#
    );
    // Unexpected output is reported if there is no outcome.
    let (result, _) = run("echo segfault here; echo last words >&2; exit 3").await;
    let failure = result.unwrap_err().failure();
    assert_eq!(failure.message, "the job process ended without an outcome: exit code 3");
    assert_eq!(failure.output, ["on standard output: segfault here", "last words"]);
    let (result, events) =
        run(&format!("echo noise; echo '{{\"event\":\"log\",\"line\":\"x\"}}'; echo '{good}'; exit 1")).await;
    assert!(result.is_ok());
    assert_eq!(events.len(), 1);
    let (result, _) =
        run(&format!("echo '{}'", good.replace(&format!("\"version\":{ORDER_VERSION}"), "\"version\":1")))
            .await;
    assert!(matches!(result, Err(ExecutorError::Version { found: 1 })), "{result:?}");
    let (result, _) = run("kill -9 $$").await;
    assert!(result.unwrap_err().failure().hint.unwrap().contains("memory"));

    let missing = local("/no/such/edgewright".into(), &[]);
    let (result, _) =
        conformance::run(&missing, image_request(1, "a").unwrap(), CancellationToken::new()).await;
    assert!(matches!(result, Err(ExecutorError::Start(_))));

    // The log is passed on line by line, the ids are in the environment.
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut settings =
        settings("/bin/sh".into(), &["-c", "echo $EDGEWRIGHT_JOB >&2; echo $EDGEWRIGHT_WORK >&2; exit 1"]);
    let sink = Arc::clone(&lines);
    settings.log = Arc::new(move |job, line| sink.lock().unwrap().push((job, line.to_owned())));
    let request = image_request(7, "a").unwrap();
    let job = request.job;
    conformance::run(&executor(settings), request, CancellationToken::new()).await.0.unwrap_err();
    let work = std::env::temp_dir().canonicalize().unwrap().display().to_string();
    assert_eq!(*lines.lock().unwrap(), [(job, job.to_string()), (job, work)]);
}

async fn input_end() {
    // As after a crash of the server: the order arrives, then the input ends while the job hangs.
    let behaviour = serde_json::to_string(&Behaviour::Hang).unwrap();
    let order = serde_json::to_string(&image_order(1, "a").unwrap()).unwrap() + "\n";
    let output = edgewright_process::Command::new(std::env::current_exe().unwrap())
        .args(["child", &behaviour])
        .stdin_bytes(order)
        .run()
        .await
        .unwrap();
    assert!(output.text().contains("the job was cancelled"), "{}", output.text());
}

async fn parent_dies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let until = Instant::now() + Duration::from_secs(20);
    let poll = async |done: fn(&Path) -> bool, path: &Path| {
        while !done(path) {
            assert!(Instant::now() < until, "nothing happened");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Dropping the command kills the parent by SIGKILL, as a crash would: the job has a process group of its
    // own.
    let parent =
        edgewright_process::Command::new(std::env::current_exe().unwrap()).arg("parent").arg(&file).run();
    tokio::select! {
        ended = parent => panic!("it cannot end: {ended:?}"),
        () = poll(Path::exists, &file) => {}
    }
    let job = std::fs::read_to_string(&file).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", job.trim()));
    let gone = |stat: &Path| std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z "));
    poll(gone, &stat).await;
}
