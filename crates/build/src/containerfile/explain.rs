//! The kind and the hint of a failed `buildah bud`.

use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_process::CommandError;

use crate::{failure, run_output};

/// A Containerfile that fails or never ends is the image's fault; other failures are not.
pub(super) fn explain(error: &CommandError, output: Vec<String>) -> JobFailure {
    let mut failure = match error {
        CommandError::Deadline { after, .. } => failure::image(
            Phase::Build,
            format!("the Containerfile did not end within {} s", after.as_secs()),
            "find the command that hangs in the output, or give the job more time",
        ),
        CommandError::Exit { .. } => of_exit(&output),
        other => failure::command(Phase::Build, other),
    };
    failure.output = output;
    failure
}

/// The failure of a `buildah bud` that ended: its headline is the line that names the cause.
fn of_exit(output: &[String]) -> JobFailure {
    let report = run_output::read(output);
    let step = report.step.as_ref().map(|step| format!(" in `{step}`")).unwrap_or_default();
    if let (Some(tool), Some(line)) = (report.network, &report.cause) {
        let hint = format!(
            "{tool} could not fetch something{step}: check the network, proxy and DNS of this host, and the server; the job is tried again a few times"
        );
        let message = format!("the Containerfile failed, because the network did: {line}");
        return failure::new(FailureKind::Infrastructure, Phase::Build, message, Some(hint));
    }
    let (kind, hint) = classify(output);
    let line = match (report.cause, report.exit) {
        (Some(cause), _) => cause,
        (None, Some(code)) => format!("the command{step} ended with exit status {code} and printed nothing"),
        (None, None) => of_buildah(output).unwrap_or_else(|| "it gave no reason".to_owned()),
    };
    let ended = report.exit.filter(|_| kind == FailureKind::Image);
    let ended = ended.map(|code| format!("; it ended with exit status {code}{step}{}", killed(code)));
    let ended = ended.unwrap_or_default();
    let message = format!("the Containerfile failed: {line}");
    failure::new(kind, Phase::Build, message, Some(format!("{hint}{ended}")))
}

/// What an exit status means that no command chooses itself.
const fn killed(code: i32) -> &'static str {
    /// A shell and a runtime add the number of the signal; 9 is SIGKILL.
    const SIGKILL: i32 = 128 + 9;
    if code == SIGKILL {
        ", as a process that is killed because the job reaches its memory limit, `[jobs] max_memory_mib`"
    } else {
        ""
    }
}

/// What buildah itself reports at the end, without paths of the work folder.
fn of_buildah(output: &[String]) -> Option<String> {
    let line = output.iter().rev().find_map(|line| line.strip_prefix("Error: "))?;
    Some(match line.split_once("checking on sources under ") {
        // `building at STEP "COPY a b": checking on sources under "/…/context": copier: stat: "/a": no such file …`
        Some((step, rest)) => {
            let step =
                step.trim_start_matches("building at STEP ").trim_end_matches([':', ' ']).trim_matches('"');
            let reason = rest.split_once("copier: ").map_or(rest, |(_, reason)| reason);
            format!("`{step}`: {} in the build context", reason.trim_start_matches("stat: "))
        }
        None => line.to_owned(),
    })
}

/// The kind of a failure of `buildah bud`, from its last lines.
fn classify(output: &[String]) -> (FailureKind, &'static str) {
    let has = |texts: &[&str]| output.iter().any(|line| texts.iter().any(|text| line.contains(text)));
    if has(&["no space left on device", "No space left on device"]) {
        return (FailureKind::Infrastructure, "free disk space in the data folder, then retry the job");
    }
    let runtime = [
        "error creating container: ",
        "OCI runtime error",
        "error running container: did not get container start message",
        "cannot set rlimit",
        "error configuring network",
        "unable to start container process",
        "netavark: ",
    ];
    // A missing command is reported by the runtime, but is the image's fault.
    if has(&runtime) && !has(&["executable file not found", "no such file or directory"]) {
        let hint = "check `podman run` and CONTAINERS_CONF: containers do not start on this host";
        return (FailureKind::Infrastructure, hint);
    }
    (FailureKind::Image, "see the output of the command that failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_classified() {
        let table = [
            (
                "make: *** [all] Error 1\nerror building at STEP \"RUN make\": exit status 2",
                FailureKind::Image,
            ),
            ("write /x: no space left on device", FailureKind::Infrastructure),
            ("crun: cannot set rlimit: OCI runtime error", FailureKind::Infrastructure),
            (
                "runc: unable to start container process: exec: \"nope\": executable file not found in $PATH",
                FailureKind::Image,
            ),
        ];
        for (text, kind) in table {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            assert_eq!(classify(&lines).0, kind, "{text}");
        }
    }

    #[test]
    fn what_buildah_reports_is_the_cause_if_no_command_printed_one() {
        let of = |text: &str| of_exit(&text.lines().map(str::to_owned).collect::<Vec<_>>()).message;
        let missing = "STEP 2/2: COPY conf/a /etc/a\nError: building at STEP \"COPY conf/a /etc/a\": checking on \
                       sources under \"/work/jobs/1/context\": copier: stat: \"/conf/a\": no such file or directory";
        let expected = "the Containerfile failed: `COPY conf/a /etc/a`: \"/conf/a\": no such file or directory in \
                        the build context";
        assert_eq!(of(missing), expected);
        let unknown = "Error: building at STEP \"FOO\": unknown instruction";
        let expected = "the Containerfile failed: building at STEP \"FOO\": unknown instruction";
        assert_eq!(of(unknown), expected);
        assert_eq!(of("STEP 1/1: FROM x"), "the Containerfile failed: it gave no reason");
    }

    #[test]
    fn the_cause_is_the_headline_and_a_mirror_is_not_the_images_fault() {
        let of = |text: &str| of_exit(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        let tail =
            "Error: building at STEP \"RUN apt-get install -y x\": while running runtime: exit status 100";
        let step = "STEP 2/2: RUN apt-get install -y x";
        let failure = of(&format!("{step}\nReading package lists...\nE: Unable to locate package x\n{tail}"));
        assert_eq!(failure.kind, FailureKind::Image);
        assert_eq!(failure.message, "the Containerfile failed: E: Unable to locate package x");
        assert!(failure.hint.unwrap().contains("exit status 100 in `RUN apt-get install -y x`"));
        let killed = of(&format!("{step}\nKilled\n{}", tail.replace("100", "137")));
        assert!(killed.hint.unwrap().ends_with("reaches its memory limit, `[jobs] max_memory_mib`"));
        let failure = of(&format!("{step}\nE: Failed to fetch http://m/x  503  Service Unavailable\n{tail}"));
        assert_eq!(failure.kind, FailureKind::Infrastructure);
        assert!(
            failure.message.contains("because the network did: E: Failed to fetch"),
            "{}",
            failure.message
        );
    }
}
