//! What the buildah of this job is known to do wrong.

use std::fmt;
use std::time::Duration;

use edgewright_model::outcome::{JobFailure, Phase};

use super::mounts::Mount;
use crate::context::BuildContext;
use crate::failure;
use edgewright_process::Command;

/// The time limit of asking buildah for its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// The first buildah whose mounts are safe: it keeps the targets that the base has, and neither links nor
/// ids lead out of the build (CVE-2024-1753, CVE-2024-9407, CVE-2024-9675, CVE-2024-11218).
const SAFE_MOUNTS: (u32, u32) = (1, 39);
/// The first buildah that keeps what `RUN` writes below a `VOLUME`.
const KEEPS_VOLUMES: (u32, u32) = (1, 37);
/// What buildah prints, and then ends with 0, if it could not remove what it mounted.
const LEFT_MOUNTS: &str = "unable to cleanup run mounts";

/// The version of the installed buildah.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    text: String,
    /// Major and minor number; none if the text has another form.
    number: Option<(u32, u32)>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buildah {}", self.text)
    }
}

impl Version {
    /// Asks buildah.
    pub(super) async fn of(ctx: &BuildContext) -> Result<Self, JobFailure> {
        let asked = Command::new("buildah").arg("--version").context(&ctx.process).deadline(VERSION_TIMEOUT);
        let output = asked.run().await.map_err(|error| failure::command(Phase::Build, &error))?;
        Ok(Self::parse(&output.text()))
    }

    /// From `buildah version 1.39.3 (image-spec 1.1.0, runtime-spec 1.2.0)`.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.strip_prefix("buildah version ").unwrap_or(text);
        let text = text.split_whitespace().next().unwrap_or("of unknown version").to_owned();
        let mut parts = text.split('.');
        let mut number = || parts.next()?.parse().ok();
        let number = number().and_then(|major| Some((major, number()?)));
        Self { text, number }
    }

    /// Whether it is certainly older than a version.
    pub(super) fn is_before(&self, version: (u32, u32)) -> bool {
        self.number.is_some_and(|number| number < version)
    }

    /// Whether it is known to handle cache, bind and tmpfs mounts safely.
    pub(super) fn is_safe_for_mounts(&self) -> bool {
        self.number.is_some_and(|number| number >= SAFE_MOUNTS)
    }

    /// Whether what `RUN` writes below a `VOLUME` stays in the image.
    pub(super) fn keeps_volumes(&self) -> bool {
        self.number.is_some_and(|number| number >= KEEPS_VOLUMES)
    }

    /// Denies a mount to a buildah that is not known to be safe for it.
    pub(super) fn check(&self, mounts: &[Mount]) -> Result<(), JobFailure> {
        let Some(mount) = mounts.iter().find(|mount| !mount.is_harmless()) else { return Ok(()) };
        if self.is_safe_for_mounts() {
            return Ok(());
        }
        let (major, minor) = SAFE_MOUNTS;
        let message = format!(
            "{self} cannot run `{mount}` (line {}) safely: before {major}.{minor}, it deletes such targets from the image, and links or \
             ids can lead to files of the host (CVE-2024-1753, CVE-2024-9675)",
            mount.line
        );
        let hint = format!(
            "run jobs in sandboxes (`sandbox = true` in `[jobs]`), whose tool image has its own buildah, or install buildah \
             {major}.{minor} or later"
        );
        Err(failure::infrastructure(Phase::Build, message, Some(&hint)))
    }

    /// The failure of a build that buildah reports as passed, although a line of its output shows that the
    /// image is damaged.
    pub(super) fn fault_in(&self, line: &str) -> Option<JobFailure> {
        let start = line.find(LEFT_MOUNTS)?;
        let message =
            format!("{self} damaged the image, although it reports success: {}", line[start..].trim());
        let hint = format!("install buildah {}.{} or later", SAFE_MOUNTS.0, SAFE_MOUNTS.1);
        Some(failure::infrastructure(Phase::Build, message, Some(&hint)))
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::outcome::FailureKind;

    use super::super::mounts;
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(&format!("buildah version {text} (image-spec 1.1.0, runtime-spec 1.2.0)"))
    }

    #[test]
    fn only_a_buildah_with_the_known_fixes_mounts_caches() {
        let mounts =
            mounts::find("FROM x\nRUN --mount=type=secret,id=a true\nRUN --mount=type=cache,dst=/x true");
        for (text, is_safe, keeps) in [
            ("1.28.2", false, false),
            ("1.33.12", false, false),
            ("1.38.1", false, true),
            ("1.39.0", true, true),
            ("1.40.0-dev", true, true),
            ("2.0.0", true, true),
            ("rolling", false, false),
        ] {
            let version = version(text);
            assert_eq!(version.check(&mounts).is_ok(), is_safe, "{text}");
            assert_eq!(version.keeps_volumes(), keeps, "{text}");
            assert_eq!(version.check(&mounts[..1]), Ok(()), "secrets are safe with every buildah");
        }
        let failure = version("1.28.2").check(&mounts).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Infrastructure);
        assert!(
            failure.message.starts_with("buildah 1.28.2 cannot run `--mount=type=cache,dst=/x` (line 3)")
        );
    }

    #[test]
    fn mounts_that_buildah_could_not_remove_fail_the_build() {
        let line = r#"time="2026-11-27T22:14:19Z" level=error msg="unable to cleanup run mounts readdir /tmp/x: no such file""#;
        let failure = version("1.28.2").fault_in(line).unwrap();
        assert_eq!(failure.kind, FailureKind::Infrastructure);
        assert!(failure.message.starts_with("buildah 1.28.2 damaged the image"), "{}", failure.message);
        assert_eq!(version("1.28.2").fault_in("STEP 2/2: RUN true"), None);
    }
}
