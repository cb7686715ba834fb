//! How this build runs lanes: what verdicts depend on, and what is only recorded.

use edgewright_checks::RUNNER_SEMANTICS;
use edgewright_model::Digest;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneInputs, LaneProfile, RecordedOn};

/// How machines of the container lane are made.
const CONTAINER_PROFILE: &str = "podman";
/// A lane that makes no machine.
const NO_MACHINE: &str = "none";
/// The semantic version of the static lane's own rules. Raise it when the same rule on the same image may have another
/// result than before.
const STATIC_SEMANTICS: u32 = 1;

/// How a lane is run on this host; none where it cannot be.
pub fn lane_profile(lane: Lane) -> Option<LaneProfile> {
    let (name, semantics) = match lane {
        Lane::Static => (NO_MACHINE, STATIC_SEMANTICS),
        Lane::Container => (CONTAINER_PROFILE, RUNNER_SEMANTICS),
        Lane::Vm
        | Lane::Upgrade
        | Lane::Rollback
        | Lane::Downgrade
        | Lane::Switch
        | Lane::Device
        | Lane::External => return None,
    };
    Some(LaneProfile { name: name.to_owned(), semantics })
}

/// The inputs of a verdict that is found here.
pub fn verdict_inputs(lane: Lane) -> LaneInputs {
    let nothing_ran = || LaneProfile { name: NO_MACHINE.to_owned(), semantics: 0 };
    lane_profile(lane).unwrap_or_else(nothing_ran).inputs(None)
}

/// What a verdict that is found here records; `runner` is the digest of the check runner.
pub fn recorded_on(lane: Lane, runner: Digest) -> RecordedOn {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    RecordedOn { runner: (lane != Lane::Static).then_some(runner), host, accelerator: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_depend_on_profile_and_semantics_and_not_on_the_runner() {
        let inputs = verdict_inputs(Lane::Container);
        assert_eq!((inputs.profile.as_str(), inputs.semantics), ("podman", RUNNER_SEMANTICS));
        assert_eq!(verdict_inputs(Lane::Static).profile, "none");
        let (one, other) = (Digest::of("one"), Digest::of("other"));
        assert_ne!(recorded_on(Lane::Container, one.clone()), recorded_on(Lane::Container, other));
        assert_eq!(recorded_on(Lane::Static, one).runner, None);
    }
}
