//! Approvals of stages: whose count, and what they come to.

use std::collections::BTreeSet;

use edgewright_model::names::StageName;
use edgewright_model::principal::PrincipalId;
use edgewright_model::spec::StageSpec;
use edgewright_rollout::fleet::StageNumber;
use edgewright_rollout::state::Order;

use super::memory::Active;
use crate::ControlError;
use crate::approvals::{Approval, NotCounted, approval, counts};

impl Active {
    /// The stage that an approval is for; none if it has one.
    pub(super) fn stage_to_approve(&self, name: Option<&StageName>) -> Result<Option<StageNumber>, String> {
        let stages = (0..).zip(&self.row.spec.stages).filter(|(_, stage)| stage.approvals() > 0);
        let stages: Vec<(StageNumber, &StageName)> =
            stages.map(|(number, stage)| (number, &stage.name)).collect();
        let chosen = match name {
            Some(name) => stages.iter().find(|(_, other)| *other == name),
            None => stages.iter().find(|(number, _)| *number == self.engine.stage()),
        };
        match (chosen, name) {
            (Some((stage, _)), _) => Ok(self.engine.needs_approval(*stage).then_some(*stage)),
            (None, Some(name)) => Err(format!("stage `{name}` is not there, or needs no approval")),
            (None, None) => {
                let names: Vec<&str> = stages.iter().map(|(_, name)| name.as_str()).collect();
                Err(match names.as_slice() {
                    [] => "no stage of its policy needs an approval".to_owned(),
                    names => format!(
                        "the stage that is open needs none; name one to approve it early: {}",
                        names.join(", ")
                    ),
                })
            }
        }
    }

    /// What an approval comes to: the stage may begin, or more people have to approve it; none if it was
    /// given before.
    ///
    /// # Errors
    /// It does not count.
    pub(super) fn approve(
        &self,
        stage: StageNumber,
        by: &PrincipalId,
        authors: &BTreeSet<PrincipalId>,
    ) -> Result<Option<Order>, ControlError> {
        let needed = self.approvals_needed(stage);
        let mut given = self.approved.get(&stage).cloned().unwrap_or_default();
        match counts(by, authors, &given, needed) {
            Ok(()) => {}
            Err(NotCounted::Repeated) => return Ok(None),
            Err(why) => return Err(ControlError::Approval { rollout: self.row.number, why }),
        }
        given.insert(by.clone());
        Ok(Some(match approval(authors, &given, needed) {
            Approval::Complete => Order::Approve { stage },
            Approval::Missing(_) => Order::ApproveInPart { stage },
        }))
    }

    /// How many people must approve a stage.
    pub(super) fn approvals_needed(&self, stage: StageNumber) -> u32 {
        self.row.spec.stages.get(usize::from(stage)).map_or(0, StageSpec::approvals)
    }
}
