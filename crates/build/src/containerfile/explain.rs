//! The kind and the hint of a failed `buildah bud`.

use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_process::CommandError;

use crate::failure;

/// A Containerfile that fails or never ends is the image's fault; other failures are not.
pub(super) fn explain(error: &CommandError, output: Vec<String>) -> JobFailure {
    let mut failure = match error {
        CommandError::Deadline { after, .. } => failure::image(
            Phase::Build,
            format!("the Containerfile did not end within {} s", after.as_secs()),
            "find the command that hangs in the output, or give the job more time",
        ),
        CommandError::Exit { .. } => {
            let (kind, hint) = classify(&output);
            let line = output.iter().rev().find(|line| !line.trim().is_empty());
            let line = line.map_or("it gave no reason", String::as_str);
            failure::new(
                kind,
                Phase::Build,
                format!("the Containerfile failed: {line}"),
                Some(hint.to_owned()),
            )
        }
        other => failure::command(Phase::Build, other),
    };
    failure.output = output;
    failure
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
}
