//! Orders by people.

use std::collections::BTreeSet;

use edgewright_model::names::{ChannelName, SourceName, StageName};
use edgewright_model::principal::PrincipalId;
use edgewright_model::role::Scope;
use edgewright_model::run::RolloutNumber;
use edgewright_rollout::state::{Event, Order, Status};
use edgewright_store::rollouts::RolloutRow;
use edgewright_store::sources::SourceRow;
use serde_json::json;

use super::memory::{Active, state_name};
use super::{RolloutState, Rollouts};
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;

/// What a person wants of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutOrder {
    /// No further device is offered the release.
    Pause,
    /// Further devices are, also after the gate stopped it.
    Resume,
    /// It ends where it is.
    Abort,
    /// A stage may begin; none: the one that is open and waits.
    Approve(Option<StageName>),
    /// Windows, rate and soaks are no reason to wait any more.
    Urgent,
}

/// Which rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutChoice {
    /// By its number.
    Number(RolloutNumber),
    /// The newest one of a channel.
    Channel(Option<SourceName>, ChannelName),
}

impl RolloutOrder {
    const fn operation(&self) -> Operation {
        match self {
            Self::Pause => Operation::PauseRollout,
            Self::Resume => Operation::ResumeRollout,
            Self::Abort => Operation::AbortRollout,
            Self::Approve(_) => Operation::ApproveRollout,
            Self::Urgent => Operation::HurryRollout,
        }
    }

    const fn verb(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Approve(_) => "approve",
            Self::Urgent => "hurry",
        }
    }
}

/// What an order comes to.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    /// It is given.
    Given(Order),
    /// It was given before, or what it wants is so already.
    Nothing,
}

impl Active {
    /// `authors`: who ordered that its channel takes its release.
    fn effect(
        &self,
        order: &RolloutOrder,
        by: &PrincipalId,
        authors: &BTreeSet<PrincipalId>,
    ) -> Result<Effect, ControlError> {
        let refused =
            |why: String| ControlError::RolloutOrder { rollout: self.row.number, verb: order.verb(), why };
        let status = self.engine.status();
        let is_repeat = matches!(
            (order, status),
            (RolloutOrder::Pause, Status::Paused)
                | (RolloutOrder::Resume, Status::Active)
                | (RolloutOrder::Abort, Status::Aborted)
        );
        if is_repeat {
            return Ok(Effect::Nothing);
        }
        if status.is_final() {
            return Err(refused(format!("it has ended: {}", state_name(status))));
        }
        match order {
            RolloutOrder::Pause if matches!(status, Status::Stopped(_)) => {
                Err(refused("the gate stopped it already".to_owned()))
            }
            RolloutOrder::Pause => Ok(Effect::Given(Order::Pause)),
            RolloutOrder::Resume => Ok(Effect::Given(Order::Resume)),
            RolloutOrder::Abort => Ok(Effect::Given(Order::Abort)),
            RolloutOrder::Urgent if self.engine.is_urgent() => Ok(Effect::Nothing),
            RolloutOrder::Urgent => Ok(Effect::Given(Order::Urgent)),
            RolloutOrder::Approve(name) => {
                let stage = self.stage_to_approve(name.as_ref()).map_err(refused)?;
                let Some(stage) = stage else { return Ok(Effect::Nothing) };
                Ok(self.approve(stage, by, authors)?.map_or(Effect::Nothing, Effect::Given))
            }
        }
    }
}

impl Rollouts {
    /// Gives an order. One that was given before changes nothing.
    ///
    /// # Errors
    /// The caller may not, there is no such rollout, it has ended, or nothing waits for an approval.
    pub async fn order(
        &self,
        context: &OperationContext,
        choice: &RolloutChoice,
        order: &RolloutOrder,
    ) -> Result<RolloutState, ControlError> {
        self.load().await?;
        let (row, source) = self.source_of(choice).await?;
        let (number, channel) = (row.number, &row.channel);
        let scope = Scope { source: Some(&source.name), channel: Some(channel), ..Scope::default() };
        context.permit(order.operation(), scope)?;
        let authors = match order {
            RolloutOrder::Approve(_) => {
                self.0.store.release_orderers(&source.name, channel, row.release).await?
            }
            _ => BTreeSet::new(),
        };
        let by = context.actor().id();
        let now = self.0.clock.now();
        let gate = self.0.gate.read().await;
        let batch = {
            let mut memory = self.memory();
            let Some(active) = memory.rollouts.get_mut(&number) else {
                return Err(ControlError::RolloutOrder {
                    rollout: number,
                    verb: order.verb(),
                    why: "a newer rollout took its place".to_owned(),
                });
            };
            match active.effect(order, &by, &authors)? {
                Effect::Nothing => None,
                Effect::Given(given) => {
                    let before = json!({ "state": active.row.state });
                    let actor = Some(by.to_string());
                    let mut batch = active.step(vec![(Event::Ordered { order: given, at: now }, actor)], now);
                    let object = format!("{}/rollouts/{number}", active.source);
                    let after = json!({ "state": active.row.state, "order": given });
                    batch
                        .entries
                        .insert(0, context.entry(order.operation(), object, Some(before), Some(after)));
                    Some(batch)
                }
            }
        };
        if let Some(batch) = batch {
            self.write(batch).await?;
        }
        drop(gate);
        self.wake().wake("an order was given");
        self.state(choice).await
    }

    /// A rollout and its source.
    pub(super) async fn source_of(
        &self,
        choice: &RolloutChoice,
    ) -> Result<(RolloutRow, SourceRow), ControlError> {
        match choice {
            RolloutChoice::Number(number) => {
                let Some(row) = self.0.store.rollout(*number).await? else {
                    return Err(ControlError::NoRollout { rollout: number.to_string() });
                };
                let source = self.0.store.source(row.source).await?;
                Ok((row, source))
            }
            RolloutChoice::Channel(source, channel) => {
                let mut found = Vec::new();
                for row in self.0.store.sources().await? {
                    if source.as_ref().is_some_and(|name| *name != row.name) {
                        continue;
                    }
                    let newest = self.0.store.newest_rollouts(row.id).await?;
                    let of_channel = newest.into_iter().find(|rollout| rollout.channel == *channel);
                    found.extend(of_channel.map(|rollout| (rollout, row)));
                }
                if found.len() > 1 {
                    return Err(ControlError::ManyChannels { channel: channel.clone() });
                }
                found.pop().ok_or_else(|| ControlError::NoRollout { rollout: channel.to_string() })
            }
        }
    }
}
