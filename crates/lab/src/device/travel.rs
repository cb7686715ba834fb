//! The way of a device from one image to the other.

use std::time::Instant;

use edgewright_checks::device::{Status, arrived};
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_vm::ChannelError;
use edgewright_vm::forward::forward;

use super::journey::Offer;
use super::machine::Device;
use super::settings::ADDRESS;
use super::{guest, successor};
use crate::machine::LaneFault;

impl Device<'_> {
    /// Offers the other image, and follows the device until it is where it must be.
    pub(super) async fn travel(&mut self, candidate: &Digest) -> Result<(), LaneFault> {
        let world = self.world()?;
        let before = world.registry.sent();
        let target = match &self.journey.offer {
            Offer::Nothing => {
                self.log("the device runs what it would be offered: no update".to_owned());
                return Ok(());
            }
            Offer::Image(image) => {
                world.registry.offer(image, self.checks_of(&image.digest, candidate)).await?;
                image.digest.clone()
            }
            Offer::Bad => {
                let made =
                    successor::make(&self.context().client, &self.journey.installed, world.folder.path());
                let made = made.await?;
                world.registry.offer_successor(&made, &successor::checks());
                self.successor = Some(made.manifest.digest.clone());
                made.manifest.digest
            }
        };
        self.travels = true;
        self.update().await?;
        let (ends_on, successor) = (self.journey.ends_on().clone(), self.successor.clone());
        let what =
            if successor.is_some() { "come back by itself" } else { "run the image that it was offered" };
        self.until(what, |status| arrived(status, &ends_on, &target, successor.is_some())).await?;
        let received = self.world()?.registry.sent() - before;
        self.log(format!(
            "the device is on {} after {} boots; it received {received} bytes",
            ends_on.short(),
            self.boots
        ));
        if let Some(successor) = &successor {
            self.log(format!("{} was rolled back by the device", successor.short()));
        }
        let lost = guest::lost_marks(self.channel()?, &self.mark, self.ask_timeout()).await;
        match lost {
            Some(lost) if lost.is_empty() => Ok(()),
            Some(lost) => Err(LaneFault::of_image(format!("the update did not keep {}", lost.join(", ")))),
            None => Err(LaneFault::of_image("the device does not answer after the update".to_owned())),
        }
    }

    /// Asks the agent to update. It ends when the update is staged, or with the restart.
    pub(super) async fn update(&self) -> Result<(), LaneFault> {
        let within = self.deadline.saturating_duration_since(Instant::now());
        let cancel = self.context().processes.cancel();
        let words = ["edgewright-agent", "--json", "update"];
        let (channel, registry) = (self.channel()?, &self.world()?.registry);
        let answer = tokio::select! {
            answer = guest::ask(channel, &words, within) => answer,
            error = forward(channel, ADDRESS, || registry.connect()) => match error {
                ChannelError::Lost => None,
                error => return Err(LaneFault::of_host(Chain(&error).to_string())),
            },
            () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
        };
        let Some(answer) = answer.filter(|answer| answer.code != 0) else { return Ok(()) };
        let status = Status::parse(&answer.output);
        if status.as_ref().is_some_and(|status| !status.rests_on(&self.journey.installed.digest)) {
            // It continues, whatever did not work meanwhile.
            return Ok(());
        }
        let reason = status.as_ref().and_then(Status::problem).unwrap_or_else(|| answer.last_error());
        Err(LaneFault::of_image(format!("the agent does not take the update: {reason}")))
    }
}
