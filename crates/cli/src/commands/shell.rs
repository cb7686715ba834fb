//! `shell`: enters a machine that `run --keep` left running.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;

use edgewright_api::KeptMachine;
use edgewright_lab::kept::{self, Kept};
use edgewright_lab::{EngineSettings, LabError};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::VariantName;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;

/// Enters a kept machine, or removes it.
pub(crate) async fn shell(
    global: &Global,
    variant: Option<&VariantName>,
    rm: bool,
    command: &[OsString],
) -> Result<End, Failure> {
    let environment = Environment::read();
    let work = environment.data_folder(global.data.clone()).work();
    let settings = EngineSettings { containers_conf: environment.containers_conf() };
    let mut machines = kept::list(&work, &settings).await.map_err(|error| failure(&error))?;
    if let Some(variant) = variant {
        let name = format!("/{variant}");
        machines.retain(|kept| kept.repository.ends_with(&name));
    }
    if rm {
        if machines.is_empty() {
            output::note("no machine is kept");
            return Ok(End::Good);
        }
        kept::remove(&work, &settings, &machines).await.map_err(|error| failure(&error))?;
        for kept in &machines {
            output::note(&format!("removed {}", kept.repository));
        }
        return Ok(End::Good);
    }
    let machine = one(&machines)?;
    if machine.state != "running" {
        let message = format!("the machine of {} is {}", machine.repository, machine.state);
        return Err(Failure::new(ErrorClass::Conflict, message)
            .hint("start a new one with `edgewright run VARIANT --keep`; remove this one with `edgewright shell --rm`"));
    }
    let entry = kept::enter(&work, &settings, machine, command, std::io::stdin().is_terminal());
    #[expect(clippy::disallowed_methods, reason = "the shell replaces this process and takes its terminal")]
    let mut podman = std::process::Command::new(entry.program);
    podman.args(&entry.arguments);
    if let Some(conf) = &entry.containers_conf {
        podman.env("CONTAINERS_CONF", conf);
    }
    // Returns only if podman cannot be started.
    Err(Failure::unavailable("cannot start podman", &podman.exec()))
}

fn one(machines: &[Kept]) -> Result<&Kept, Failure> {
    match machines {
        [one] => Ok(one),
        [] => Err(Failure::new(ErrorClass::NotFound, "no machine is kept")
            .hint("keep one with `edgewright run VARIANT --keep`")),
        several => {
            let names: Vec<&str> = several.iter().map(|kept| kept.repository.as_str()).collect();
            Err(Failure::user("several machines are kept").hint(format!("name one of {}", names.join(", "))))
        }
    }
}

/// The kept machines of the local data folder; none if podman is not available.
pub(crate) async fn kept_here(global: &Global) -> Vec<KeptMachine> {
    let environment = Environment::read();
    let work = environment.data_folder(global.data.clone()).work();
    let settings = EngineSettings { containers_conf: environment.containers_conf() };
    let machines = kept::list(&work, &settings).await.unwrap_or_default();
    let view =
        |Kept { repository, container, state, status }| KeptMachine { repository, container, state, status };
    machines.into_iter().map(view).collect()
}

fn failure(error: &LabError) -> Failure {
    Failure::new(ErrorClass::Unavailable, Chain(error).to_string())
}
