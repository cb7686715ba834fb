//! Promotion, the way back, quarantine and rollouts, for the server and the command.

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::run::ReleaseNumber;
use edgewright_store::channels::ChannelRow;

use super::Control;
use crate::ControlError;
use crate::context::OperationContext;
use crate::rollouts::Rollouts;

impl Control {
    /// The rollouts.
    pub fn rollouts(&self) -> &Rollouts {
        &self.0.rollouts
    }

    /// Brings rollouts to what follows from channels, inventory, devices and time, as their reconciler does.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn advance_rollouts(&self) -> Result<(), ControlError> {
        self.0.rollouts.advance().await.map(drop)
    }

    /// Moves a channel to a release before its turn.
    ///
    /// # Errors
    /// The channel is held or pinned; the release is not there, not newer, quarantined, or not tested as an
    /// update of what the channel has.
    pub async fn promote(
        &self,
        context: &OperationContext,
        (source, channel): (Option<&SourceName>, &ChannelName),
        (release, reason): (ReleaseNumber, &str),
    ) -> Result<(SourceName, ChannelRow), ControlError> {
        let row = self.channel_source(source, channel).await?;
        let moved = self.0.channels.promote(context, &row, channel, (release, reason)).await?;
        Ok((row.name, moved))
    }

    /// Moves a channel back, quarantines what it had, and holds it.
    ///
    /// # Errors
    /// There is nothing to go back to.
    pub async fn roll_back(
        &self,
        context: &OperationContext,
        (source, channel): (Option<&SourceName>, &ChannelName),
        (to, reason): (Option<ReleaseNumber>, &str),
    ) -> Result<(SourceName, ChannelRow), ControlError> {
        let row = self.channel_source(source, channel).await?;
        let moved = self.0.channels.roll_back(context, &row, channel, (to, reason)).await?;
        // Devices are answered by it from now on.
        self.0.rollouts.advance().await?;
        Ok((row.name, moved))
    }

    /// Ends the quarantine of a digest, in all sources that have it in quarantine.
    ///
    /// # Errors
    /// No source has it in quarantine.
    pub async fn clear_quarantine(
        &self,
        context: &OperationContext,
        digest: &Digest,
    ) -> Result<(), ControlError> {
        let mut is_cleared = false;
        for source in self.0.store.sources().await? {
            is_cleared |= self.0.channels.clear_quarantine(context, &source, digest).await?;
        }
        self.0.rollouts.read_quarantine().await?;
        if is_cleared { Ok(()) } else { Err(ControlError::NotQuarantined { digest: digest.clone() }) }
    }
}
