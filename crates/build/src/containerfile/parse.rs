//! The text of a Containerfile: read once, and written again for buildah.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::containerfile::{
    Containerfile, ForeignImage, Inputs, Origin, Resolved, read, resolve, rewrite,
};
use edgewright_model::outcome::{JobFailure, Phase};

use super::Order;
use super::buildah::Version;
use crate::failure;

/// The first version of buildah that knows here-documents.
const HERE_DOCUMENTS_SINCE: (u32, u32) = (1, 33);

pub(super) struct Text {
    file: Containerfile,
    resolved: Resolved,
}

impl Text {
    /// Reads the text of an order. Planning reports the same faults, with the file.
    pub(super) fn read(order: &Order<'_>) -> Result<Self, JobFailure> {
        let file = read(order.text);
        let inputs = Inputs { platform: &order.task.platform, args: order.args, target: order.target };
        match resolve(&file, &inputs) {
            Ok(resolved) => Ok(Self { file, resolved }),
            Err(faults) => Err(match faults.first() {
                Some(fault) => failure::image(
                    Phase::Build,
                    format!("line {} of the Containerfile: {}", fault.line, fault.message),
                    &fault.hint,
                ),
                None => failure::infrastructure(Phase::Build, "cannot read the Containerfile", None),
            }),
        }
    }

    /// Whether the tools can run it.
    pub(super) fn check_tools(&self, version: &Version) -> Result<(), JobFailure> {
        let mut instructions = self.resolved.instructions(&self.file);
        let Some(first) = instructions.find(|instruction| !instruction.here_documents.is_empty()) else {
            return Ok(());
        };
        missing_here_documents(version, first.line).map_or(Ok(()), Err)
    }

    /// The images of registries that it uses.
    pub(super) fn images(&self) -> BTreeSet<&ForeignImage> {
        self.resolved.images()
    }

    /// Whether the base's layers are not below the result.
    pub(super) const fn is_from_scratch(&self) -> bool {
        self.resolved.is_from_scratch
    }

    /// The format for buildah. Only images in Docker's format have a `SHELL`: with the other format buildah
    /// warns and ignores it. The result is converted when it is taken over.
    pub(super) fn format(&self) -> &'static str {
        let has_shell = self.resolved.instructions(&self.file).any(|it| it.keyword == "SHELL");
        if has_shell { "docker" } else { "oci" }
    }

    /// The text for buildah.
    pub(super) fn for_buildah(&self, base: &str, images: &BTreeMap<ForeignImage, String>) -> String {
        rewrite(&self.file, &self.resolved, |origin| match origin {
            Origin::Image(image) => images.get(image).cloned().unwrap_or_default(),
            Origin::Base | Origin::Scratch | Origin::Stage(_) => base.to_owned(),
        })
    }
}

/// The failure where a buildah of this version does not know here-documents.
fn missing_here_documents(version: &Version, line: usize) -> Option<JobFailure> {
    let (major, minor) = HERE_DOCUMENTS_SINCE;
    version.is_before(HERE_DOCUMENTS_SINCE).then(|| {
        let message = format!(
            "cannot run line {line} of the Containerfile: {version} has no here-documents, which came with {major}.{minor}"
        );
        let hint = "run jobs with the tool image (`sandbox = true` in `[jobs]`), or install a newer buildah";
        failure::infrastructure(Phase::Build, message, Some(hint))
    })
}

#[cfg(test)]
mod tests {
    use edgewright_model::outcome::FailureKind;

    use super::*;

    #[test]
    fn here_documents_need_a_buildah_that_knows_them() {
        let old = "buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)\n";
        let failure = missing_here_documents(&Version::parse(old), 3).unwrap();
        assert_eq!(failure.kind, FailureKind::Infrastructure);
        assert!(
            failure.message.contains("line 3") && failure.message.contains("buildah 1.28.2"),
            "{failure:?}"
        );
        for new in [
            "buildah version 1.33.0",
            "buildah version 1.39.3 (image-spec 1.1.0)",
            "buildah version 2.0",
            "?",
        ] {
            assert_eq!(missing_here_documents(&Version::parse(new), 3), None, "{new}");
        }
    }
}
