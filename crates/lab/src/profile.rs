//! The profile of lanes in this build: the facts that verdicts depend on, and those that they only record.

use edgewright_checks::RUNNER_SEMANTICS;
use edgewright_model::spec::{Lane, VmSpec};
use edgewright_model::verdict::{LaneProfile, RecordedOn};

use crate::container::machine::PROFILE as CONTAINER;
use crate::machine::MachineFacts;

/// The semantic version of the static lane's own rules. Raise it when the same rule on the same image may
/// have another result than before.
const STATIC_SEMANTICS: u32 = 2;

/// The profile of a lane on this host; none if it cannot run here.
pub fn lane_profile(lane: Lane) -> Option<LaneProfile> {
    match lane {
        Lane::Static => Some(without_machine()),
        Lane::Container => Some(LaneProfile { name: CONTAINER.to_owned(), semantics: RUNNER_SEMANTICS }),
        Lane::Vm => Some(LaneProfile { name: VmSpec::default().profile_name(), semantics: RUNNER_SEMANTICS }),
        Lane::Upgrade | Lane::Rollback | Lane::Downgrade | Lane::Switch => {
            Some(LaneProfile { name: VmSpec::default().device_name(), semantics: RUNNER_SEMANTICS })
        }
        Lane::Device | Lane::External => None,
    }
}

/// The profile of a lane that starts no machine.
pub(crate) fn without_machine() -> LaneProfile {
    LaneProfile { name: "none".to_owned(), semantics: STATIC_SEMANTICS }
}

/// The facts about this host that verdicts record.
pub(crate) fn recorded_on(machine: Option<MachineFacts>) -> RecordedOn {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let (runner, accelerator) = machine.map_or((None, None), |facts| (Some(facts.runner), facts.accelerator));
    RecordedOn { runner, host, accelerator: accelerator.map(str::to_owned) }
}
