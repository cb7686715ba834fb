//! A container as the machine of a lane.

use std::time::Duration;

use edgewright_process::{CommandError, ProcessContext};

use super::evidence::gather;
use super::life::{self, Container};
use crate::evidence::Piece;
use crate::lane::LabContext;
use crate::machine::{BoxFuture, LaneFault, Machine, MachineFacts, MachineState, OnLine, RunnerEnd, Start};

/// The name of this kind of machine in verdicts.
pub(crate) const PROFILE: &str = "podman";

/// A container of a job: not started yet, started, or gone.
#[derive(Debug)]
pub(crate) struct ContainerMachine<'c> {
    context: &'c LabContext,
    container: Option<Container<'c>>,
}

impl<'c> ContainerMachine<'c> {
    pub(crate) const fn new(context: &'c LabContext) -> Self {
        Self { context, container: None }
    }

    const fn processes(&self) -> &ProcessContext {
        &self.context.processes
    }

    fn container(&self) -> Result<&Container<'c>, LaneFault> {
        self.container.as_ref().ok_or_else(|| LaneFault::of_host("the machine is not running".to_owned()))
    }
}

impl Machine for ContainerMachine<'_> {
    fn facts(&self) -> MachineFacts {
        let runner = self.context.podman.runner().clone();
        MachineFacts { profile: PROFILE, scale: 1.0, accelerator: None, runner }
    }

    fn start<'a>(&'a mut self, start: Start<'a>) -> BoxFuture<'a, Result<(), LaneFault>> {
        Box::pin(async move {
            let podman = self.context.podman.podman(self.processes()).await?;
            self.container = Some(life::start(self.context, podman, start).await?);
            Ok(())
        })
    }

    fn run_checks<'a>(
        &'a self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'a>,
    ) -> BoxFuture<'a, RunnerEnd> {
        Box::pin(async move {
            let container = match self.container() {
                Ok(container) => container,
                Err(fault) => return RunnerEnd::Failed(fault),
            };
            match container.run_checks(order, self.processes(), within, on_line).await {
                Ok(finished) => RunnerEnd::Ended(finished.ended),
                Err(CommandError::Cancelled { .. }) => RunnerEnd::Cancelled,
                Err(CommandError::Deadline { .. }) => RunnerEnd::Hung,
                Err(error) => {
                    RunnerEnd::Failed(LaneFault::infrastructure("cannot start the check runner", &error))
                }
            }
        })
    }

    fn starts(&self) -> Option<String> {
        self.container.as_ref().map(|container| container.starts().to_string())
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>> {
        Box::pin(async move { self.container()?.state(self.processes()).await })
    }

    fn evidence<'a>(&'a self, state: &'a MachineState) -> BoxFuture<'a, Vec<Piece>> {
        Box::pin(async move {
            match &self.container {
                Some(container) => gather(container, self.processes(), state).await,
                None => Vec::new(),
            }
        })
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(container) = self.container.take() {
                container.remove(self.context).await;
            }
        })
    }
}
