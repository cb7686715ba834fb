//! Lanes that update a device: an installed disk, firmware, the boot loader and the agent of the image, and
//! the host as the registry that the device follows. Only the hardware is replaced.
//!
//! ```text
//!  upgrade, switch   released ── update ──▶ candidate, checks
//!  downgrade         candidate, checks ── update ──▶ released
//!  rollback          candidate ── update ──▶ candidate + a failing unit ── by itself ──▶ candidate, checks
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `journey` | what a lane does, pure |
//! | `disk` | installed disks, made once per digest |
//! | `settings` | what a device is given when it is installed |
//! | `successor` | an image that cannot become good |
//! | `registry` | what the device is offered |
//! | `guest` | what is asked and done in the device |
//! | `machine` | the device as the machine of a lane |
//! | `boots` | its boots, and what is waited for in them |
//! | `travel` | from one image to the other |
//! | `publish` | a device that leads itself, for KubeVirt |

mod boots;
mod disk;
mod guest;
pub(crate) mod journey;
mod machine;
pub(crate) mod publish;
mod registry;
mod settings;
mod successor;
mod travel;

use edgewright_checks::RUNNER_SEMANTICS;
use edgewright_model::error::Chain;
use edgewright_model::order::{LaneOrder, ManifestRef};
use edgewright_model::outcome::JobEvent;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneProfile, RecordedOn};
use edgewright_vm::{Hardware, Profile, Source};

use crate::lane::{Events, Findings, LabContext, run_machine};
use crate::machine::{LaneFault, Machine as _};
use crate::profile;
use crate::vm::machine::{VmMachine, fault, vm_context};
use journey::Journey;
use machine::Device;
pub(crate) use machine::blame;

/// What makes an image a device that updates itself: the service of the agent.
const AGENT: &str = "/usr/lib/systemd/system/edgewright-agent.service";

/// Runs a lane that updates a device.
pub(crate) async fn run(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
    events: Events<'_>,
) -> (Findings, LaneProfile, RecordedOn) {
    let spec = order.vm.unwrap_or_default();
    let lane = LaneProfile { name: spec.device_name(), semantics: RUNNER_SEMANTICS };
    let nowhere = profile::recorded_on(None);
    let journey = match Journey::of(order.lane, manifest, order.from.as_ref()) {
        Ok(journey) => journey,
        Err(reason) => return (skipped(order.lane, reason, events), lane, nowhere),
    };
    let hardware = Hardware { memory_mib: spec.memory_mib(), ..Hardware::default() };
    let machine = match VmMachine::new(context, Profile::Uefi, hardware, events).await {
        Ok(machine) => machine,
        Err(fault) => return (Findings::stopped(fault), lane, nowhere),
    };
    let stopped = |fault| (Findings::stopped(fault), lane.clone(), nowhere.clone());
    match obstacle(order, manifest, context).await {
        Ok(None) => {}
        Ok(Some(reason)) => return (skipped(order.lane, reason, events), lane, nowhere),
        Err(fault) => return stopped(fault),
    }
    let mut device = Device::new(machine, journey, order);
    let findings =
        Box::pin(run_machine(&mut device, order, manifest, context.processes.cancel(), events)).await;
    (findings, lane, profile::recorded_on(Some(device.facts())))
}

/// Why a lane is skipped: what is released cannot update itself. An error: the candidate cannot.
async fn obstacle(
    order: &LaneOrder,
    manifest: &ManifestRef,
    context: &LabContext,
) -> Result<Option<String>, LaneFault> {
    if let Some(why) = missing(manifest, context).await? {
        return Err(no_device(order.lane, &why));
    }
    let Some(from) = &order.from else { return Ok(None) };
    let why = missing(from, context).await?;
    Ok(why.map(|why| format!("what is released ({}) cannot update itself: {why}", from.digest.short())))
}

/// A lane that has nothing to do passes, with the reason at every check.
pub(crate) fn skipped(lane: Lane, reason: String, events: Events<'_>) -> Findings {
    events(JobEvent::Log { line: format!("lane `{lane}` skipped: {reason}") });
    Findings::skipped(reason)
}

/// What an image does not have that a device needs: a kernel, an initramfs of its own, the agent.
async fn missing(manifest: &ManifestRef, context: &LabContext) -> Result<Option<String>, LaneFault> {
    let source = Source { client: context.client.clone(), manifest: manifest.clone() };
    let own = vm_context(context);
    let image = match context.vm.cache().open(&source, &own).await {
        Ok(image) => image,
        Err(error) if error.is_of_image() => return Ok(Some(Chain(&error).to_string())),
        Err(error) => return Err(fault(&error)),
    };
    if image.initramfs().is_none() {
        return Ok(Some("the image has no initramfs beside its kernel".to_owned()));
    }
    let has_agent = image.has_file(AGENT, &own).await.map_err(|error| fault(&error))?;
    Ok((!has_agent).then(|| format!("the image has no {AGENT}")))
}

fn no_device(lane: Lane, why: &str) -> LaneFault {
    LaneFault::of_image(format!(
        "the lane `{lane}` needs the agent and the boot set-up: {why} (add the image parts, \
         docs/how-to/update-devices.md, or remove the lane)"
    ))
}
