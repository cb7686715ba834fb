//! Failures of jobs: their kind, phase and hint.

use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_oci::ClientError;
use edgewright_oci::layer::LayerError;
use edgewright_process::CommandError;

pub(crate) fn image(phase: Phase, message: impl Into<String>, hint: &str) -> JobFailure {
    new(FailureKind::Image, phase, message, Some(hint.to_owned()))
}

pub(crate) fn infrastructure(phase: Phase, message: impl Into<String>, hint: Option<&str>) -> JobFailure {
    new(FailureKind::Infrastructure, phase, message, hint.map(str::to_owned))
}

pub(crate) fn new(
    kind: FailureKind,
    phase: Phase,
    message: impl Into<String>,
    hint: Option<String>,
) -> JobFailure {
    JobFailure { kind, phase, message: message.into(), hint, output: Vec::new() }
}

/// An error of the host: disk, pipes, malformed documents.
pub(crate) fn local(phase: Phase, error: &(dyn std::error::Error + 'static)) -> JobFailure {
    let message = Chain(error).to_string();
    let hint = message
        .contains("No space left on device")
        .then(|| "free disk space in the data folder, then retry the job".to_owned());
    new(FailureKind::Infrastructure, phase, message, hint)
}

/// A layer that cannot be written or read: an invalid archive is the image's fault, other errors are the
/// host's.
pub(crate) fn layer(phase: Phase, error: &LayerError) -> JobFailure {
    if error.is_content() {
        let hint = "remove the entry from the archive, or pack it in another way";
        return image(phase, Chain(error).to_string(), hint);
    }
    local(phase, error)
}

/// A layer of a base that cannot be read.
pub(crate) fn base_layer(error: &LayerError) -> JobFailure {
    if error.is_content() {
        let message = format!("cannot read a layer of the base: {}", Chain(error));
        return image(Phase::Fetch, message, "use another base image: this one cannot be unpacked");
    }
    local(Phase::Fetch, error)
}

/// An error of the order's own registry.
pub(crate) fn registry(phase: Phase, error: &ClientError) -> JobFailure {
    new(FailureKind::Infrastructure, phase, Chain(error).to_string(), error.hint())
}

/// An error of an external registry: a missing or denied image is the definition's fault.
pub(crate) fn external(phase: Phase, error: &ClientError) -> JobFailure {
    let kind = match error.class() {
        ErrorClass::NotFound | ErrorClass::Denied | ErrorClass::UserFault => FailureKind::Image,
        _ => FailureKind::Infrastructure,
    };
    new(kind, phase, Chain(error).to_string(), error.hint())
}

/// A command that failed for reasons outside of the image.
pub(crate) fn command(phase: Phase, error: &CommandError) -> JobFailure {
    let mut failure =
        new(FailureKind::Infrastructure, phase, Chain(error).to_string(), error.hint().map(str::to_owned));
    failure.output = error.stderr_tail().to_vec();
    failure
}
