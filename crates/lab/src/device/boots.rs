//! The boots of a device: each is a QEMU of its own, with the same disk and the same firmware variables.

use std::time::{Duration, Instant};

use edgewright_checks::device::{Seen, Status};
use edgewright_model::error::Chain;
use edgewright_vm::device::{self, Device as Setup};
use edgewright_vm::machine::{NoAnswer, Stopped};
use edgewright_vm::{Machine as Vm, Network};

use super::guest;
use super::machine::Device;
use crate::evidence::keep_end;
use crate::machine::{LaneFault, Machine as _};
use crate::vm::machine::{UEFI_ANSWER_TIMEOUT, fault, vm_context};

/// The most boots of a device: installed, updated, tried again, and back.
const MAX_BOOTS: u32 = 12;
/// The pause between two looks at the agent's state: each is a program on an emulated processor.
const PAUSE: Duration = Duration::from_secs(3);

impl Device<'_> {
    /// Switches the device on until it answers. While it updates it may restart before that.
    pub(super) async fn boot(&mut self) -> Result<(), LaneFault> {
        let cancel = self.context().processes.cancel().clone();
        loop {
            self.boots += 1;
            if self.boots > MAX_BOOTS {
                return Err(LaneFault::of_image(format!("the device restarted {MAX_BOOTS} times")));
            }
            self.switch_on()?;
            let limit = UEFI_ANSWER_TIMEOUT.mul_f64(self.machine.acceleration.factor);
            let limit = limit.min(self.deadline.saturating_duration_since(Instant::now()));
            let Some(vm) = self.machine.vm_mut() else { return Err(off()) };
            let answered = tokio::select! {
                answered = vm.answer(limit) => answered,
                () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
            };
            match answered {
                Ok(took) => {
                    let (boots, took) = (self.boots, took.as_secs_f64());
                    self.log(format!("the device answers after {took:.1} s (boot {boots})"));
                    return Ok(());
                }
                Err(NoAnswer::Stopped(stopped)) if self.travels && restarts(&stopped) => {
                    self.log(format!("boot {}: {stopped}", self.boots));
                    self.retire().await;
                }
                Err(NoAnswer::Stopped(stopped)) => {
                    return Err(self.machine.stopped(&stopped, "before its system started").await);
                }
                Err(NoAnswer::TimedOut) => {
                    let tail = self.machine.tail().await;
                    let seconds = limit.as_secs();
                    let message = format!("the device did not start its system within {seconds}s{tail}");
                    return Err(LaneFault::of_image(message));
                }
                Err(NoAnswer::Channel(error)) => return Err(LaneFault::of_host(Chain(&error).to_string())),
            }
        }
    }

    pub(super) fn switch_on(&mut self) -> Result<(), LaneFault> {
        let context = self.context();
        let world = self.world()?;
        let mut hardware = self.machine.hardware.clone();
        // Services that wait for a network find one, which leads nowhere.
        hardware.network = Network::Restricted;
        hardware.disks = vec![device::programs_of(world.programs.clone())];
        let setup = Setup {
            disk: &world.disk,
            variables: &world.variables,
            hardware,
            accelerator: self.machine.acceleration.accelerator,
        };
        let vm = Vm::launch_device(setup, &vm_context(context)).map_err(|error| fault(&error))?;
        self.machine.adopt(vm, self.deadline);
        Ok(())
    }

    /// Notes the console of a boot that is over.
    pub(super) async fn retire(&mut self) {
        if let Some(vm) = self.machine.vm_mut() {
            let console = vm.console().await;
            self.console.extend_from_slice(format!("── boot {} ──\n", self.boots).as_bytes());
            self.console.extend_from_slice(console.text());
            keep_end(&mut self.console);
        }
        self.machine.stop().await;
    }

    /// Waits until the agent's status is the wanted one, through restarts.
    pub(super) async fn until(
        &mut self,
        what: &str,
        seen: impl Fn(&Status) -> Seen,
    ) -> Result<(), LaneFault> {
        let begun = Instant::now();
        let mut last = "its agent does not answer".to_owned();
        loop {
            let look = self.ask_timeout();
            let cancel = self.context().processes.cancel();
            let Some(vm) = self.machine.vm() else { return Err(off()) };
            let looked = async {
                match vm.channel() {
                    Some(channel) => guest::status(channel, look).await,
                    None => None,
                }
            };
            let stopped = tokio::select! {
                biased;
                stopped = vm.stopped() => Some(stopped),
                status = looked => match status.as_ref().map(|status| (seen(status), status)) {
                    Some((Seen::Reached, _)) => return Ok(()),
                    Some((Seen::Failed(reason), _)) => return Err(LaneFault::of_image(reason)),
                    Some((Seen::NotYet, status)) => {
                        last = status.describe();
                        None
                    }
                    None => None,
                },
                () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
            };
            if Instant::now() >= self.deadline {
                let seconds = begun.elapsed().as_secs();
                return Err(LaneFault::of_image(format!(
                    "the device did not {what} within {seconds}s: {last}"
                )));
            }
            match stopped {
                Some(stopped) if self.travels && restarts(&stopped) => {
                    self.log(format!("boot {}: {stopped}", self.boots));
                    self.retire().await;
                    self.boot().await?;
                }
                Some(stopped) => return Err(self.machine.stopped(&stopped, "while it was in use").await),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn off() -> LaneFault {
    LaneFault::of_host("the device is switched off".to_owned())
}

/// Whether a device starts again after this end.
const fn restarts(stopped: &Stopped) -> bool {
    matches!(stopped, Stopped::Restarted | Stopped::Panicked(_) | Stopped::NotStarted(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_restart_and_a_power_off_is_not() {
        assert!(restarts(&Stopped::Restarted) && restarts(&Stopped::Panicked("x".to_owned())));
        assert!(!restarts(&Stopped::PoweredOff) && !restarts(&Stopped::Qemu("x".to_owned())));
    }
}
