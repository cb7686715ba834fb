//! Explains failures of apt and mmdebstrap. Pure: recorded output in, cause out.

use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::spec::BootstrapStep;
use edgewright_process::CommandError;

use super::repository::Repository;
use crate::failure;

/// Why packages could not be found or installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The mirror has no such package.
    UnknownPackage(String),
    /// The mirror no longer has a locked version.
    VersionGone {
        package: String,
        /// The locked version.
        version: String,
    },
    /// The mirror has no such suite (or component, or architecture).
    UnknownSuite(String),
    /// The mirror cannot be reached.
    Unreachable(String),
    /// Signatures cannot be checked.
    Unsigned(String),
    /// Packages that exclude each other.
    Conflict,
    /// The disk is full.
    DiskFull,
    /// A package's own script failed.
    Script(String),
    /// Something else: the last error line.
    Other(String),
}

/// What tools print where a mirror cannot be reached, or does not work for now.
const UNREACHABLE: [&str; 20] = [
    "Could not resolve",
    "Temporary failure resolving",
    "Could not connect",
    "Connection failed",
    "Connection timed out",
    "Connection refused",
    "Unable to connect",
    "Network is unreachable",
    "Could not handshake",
    "Connection reset by peer",
    "connection timed out",
    "Data socket timed out",
    "Something wicked happened resolving",
    "Undetermined Error",
    "Mirror sync in progress?",
    "  429  ",
    "  500  ",
    "502  ",
    "503  ",
    "504  ",
];

/// The cause in a tool's output; the most specific line wins.
pub fn explain(output: &[String]) -> Cause {
    let has = |texts: &[&str]| {
        output.iter().find(|line| texts.iter().any(|text| line.contains(text))).map(|line| clean(line))
    };
    if has(&["No space left on device", "You don't have enough free space"]).is_some() {
        return Cause::DiskFull;
    }
    for line in output {
        if let Some((_, name)) = line.split_once("Unable to locate package ") {
            return Cause::UnknownPackage(name.trim().to_owned());
        }
        if line.contains("has no installation candidate") {
            return Cause::UnknownPackage(quoted(line, 0).unwrap_or_else(|| clean(line)));
        }
        if line.contains("was not found") && line.contains("Version '") {
            let version = quoted(line, 0).unwrap_or_default();
            return Cause::VersionGone { package: quoted(line, 1).unwrap_or_default(), version };
        }
    }
    if let Some(line) = has(&UNREACHABLE) {
        return Cause::Unreachable(line);
    }
    if let Some(line) = has(&["NO_PUBKEY", "not signed", "Missing key", "verification failed", "GPG error"]) {
        return Cause::Unsigned(line);
    }
    if let Some(line) =
        has(&["does not have a Release file", "404  Not Found", "doesn't support architecture"])
    {
        return Cause::UnknownSuite(line);
    }
    if has(&["unmet dependencies", "held broken packages", "Unable to correct problems", "Conflicts:"])
        .is_some()
    {
        return Cause::Conflict;
    }
    if let Some(line) = has(&["error processing package", "subprocess returned error exit status"]) {
        return Cause::Script(line);
    }
    let last = output.iter().rev().find(|line| line.starts_with("E:")).or(output.last());
    Cause::Other(last.map_or_else(|| "it gave no reason".to_owned(), |line| clean(line)))
}

/// The text between the `number`-th pair of single quotes.
fn quoted(line: &str, number: usize) -> Option<String> {
    line.split('\'').nth(2 * number + 1).map(str::to_owned)
}

fn clean(line: &str) -> String {
    line.trim_start_matches(['E', 'W', ':', ' ']).trim().to_owned()
}

/// The failure of a step whose command failed.
pub(crate) fn of_command(
    error: &CommandError,
    step: &BootstrapStep,
    repository: &Repository,
    phase: Phase,
) -> JobFailure {
    if error.ended().is_none() {
        return failure::command(phase, error);
    }
    let mut failure = of_cause(explain(error.stderr_tail()), step, repository.name(), phase);
    failure.output = error.stderr_tail().to_vec();
    failure
}

fn of_cause(cause: Cause, step: &BootstrapStep, mirror: &str, phase: Phase) -> JobFailure {
    use FailureKind::{Image, Infrastructure};
    let suite = &step.suite;
    let (kind, message, hint) = match cause {
        Cause::UnknownPackage(name) => (
            Image,
            format!("{suite} has no package `{name}` at {mirror}"),
            "check its spelling, or add the component or source that has it",
        ),
        Cause::VersionGone { package, version } if is_asked(step, &package) => (
            Image,
            format!("{mirror} does not have {package} {version}, which `packages:` asks for"),
            "change the version in image.yaml, or add a source that has it",
        ),
        Cause::VersionGone { package, version } => (
            Infrastructure,
            format!("{mirror} no longer has {package} {version}, which is locked"),
            "resolve a new lock: `edgewright update IMAGE`",
        ),
        Cause::UnknownSuite(line) => (
            Image,
            format!("{mirror} does not have the suite `{suite}` as declared: {line}"),
            "check `suite:`, `components:`, `mirror:` and the platforms",
        ),
        Cause::Unreachable(line) => (
            Infrastructure,
            format!("cannot reach the mirror {mirror}: {line}"),
            "check the network and proxy of this host, then retry the run",
        ),
        Cause::Unsigned(line) => (
            Image,
            format!("cannot verify the signature of {suite} at {mirror}: {line}"),
            "add the archive's key file to the repository and name it in `keys:`",
        ),
        Cause::Conflict => (
            Image,
            format!("the packages cannot be installed together in {suite}: they conflict"),
            "see the output for the packages that exclude each other",
        ),
        Cause::Script(line) => (
            Image,
            format!("cannot configure a package: {line}"),
            "see the output of the package's own script",
        ),
        Cause::DiskFull => (
            Infrastructure,
            "the disk is full".to_owned(),
            "free disk space in the data folder, then retry the job",
        ),
        Cause::Other(line) => (
            Infrastructure,
            format!("cannot install the packages: {line}"),
            "see the output for the first error",
        ),
    };
    failure::new(kind, phase, message, Some(hint.to_owned()))
}

/// Whether image.yaml itself names a version of a package, as `NAME=VERSION`.
fn is_asked(step: &BootstrapStep, package: &str) -> bool {
    step.packages.iter().any(|asked| asked.split_once('=').is_some_and(|(name, _)| name == package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_output_is_explained() {
        let table: [(&str, Cause); 12] = [
            (
                "Reading package lists...\nE: Unable to locate package nosuchpkg\nE: apt-get failed",
                Cause::UnknownPackage("nosuchpkg".into()),
            ),
            ("E: Package 'libfoo' has no installation candidate", Cause::UnknownPackage("libfoo".into())),
            (
                "E: Version '257.1-1' for 'systemd' was not found",
                Cause::VersionGone { package: "systemd".into(), version: "257.1-1".into() },
            ),
            (
                "Err:1 http://m/debian nosuite Release\n  404  Not Found [IP: 1.2.3.4 80]\nE: The repository 'http://m/debian nosuite Release' does not have a Release file.",
                Cause::UnknownSuite("404  Not Found [IP: 1.2.3.4 80]".into()),
            ),
            (
                "E: Failed to fetch http://m/InRelease  Could not resolve 'm'\nE: Some index files failed to download.",
                Cause::Unreachable("Failed to fetch http://m/InRelease  Could not resolve 'm'".into()),
            ),
            (
                "W: GPG error: http://m trixie InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 0E98404D386FA1D9",
                Cause::Unsigned("GPG error: http://m trixie InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 0E98404D386FA1D9".into()),
            ),
            (
                "E: Failed to fetch http://m/InRelease  500  Internal Server Error [IP: 1.2.3.4 80]",
                Cause::Unreachable(
                    "Failed to fetch http://m/InRelease  500  Internal Server Error [IP: 1.2.3.4 80]".into(),
                ),
            ),
            (
                "E: Failed to fetch http://m/p.deb  Error reading from server - read (104: Connection reset by peer)",
                Cause::Unreachable(
                    "Failed to fetch http://m/p.deb  Error reading from server - read (104: Connection reset by peer)"
                        .into(),
                ),
            ),
            ("The following packages have unmet dependencies:\n a : Conflicts: b", Cause::Conflict),
            ("tar: write error: No space left on device", Cause::DiskFull),
            (
                "dpkg: error processing package foo (--configure):\n installed foo package post-installation script subprocess returned error exit status 1",
                Cause::Script("dpkg: error processing package foo (--configure):".into()),
            ),
            ("E: something new\nI: done", Cause::Other("something new".into())),
        ];
        for (output, expected) in table {
            let lines: Vec<String> = output.lines().map(str::to_owned).collect();
            assert_eq!(explain(&lines), expected, "{output}");
        }
        assert_eq!(explain(&[]), Cause::Other("it gave no reason".into()));
    }
}
