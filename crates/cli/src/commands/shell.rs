//! `shell`: enters a machine that `run --keep` left running.

use std::ffi::OsString;
use std::io::IsTerminal as _;

use edgewright_api::KeptMachine;
use edgewright_lab::kept::{self, Kept};
use edgewright_lab::vm::kept::{self as kept_vm, KeptVm};
use edgewright_lab::{EngineSettings, LabError};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::VariantName;

use super::shell_vm;
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
    let mut virtual_machines = kept_vm::list(&work).await.map_err(|error| failure(&error))?;
    let listed = kept::list(&work, &settings).await;
    // Virtual machines need no podman.
    let mut machines = match listed {
        Err(_) if !virtual_machines.is_empty() => Vec::new(),
        listed => listed.map_err(|error| failure(&error))?,
    };
    if let Some(variant) = variant {
        let name = format!("/{variant}");
        machines.retain(|kept| kept.repository.ends_with(&name));
        virtual_machines.retain(|kept| kept.repository.ends_with(&name));
    }
    if rm {
        return remove((&work, &settings), &machines, &virtual_machines).await;
    }
    if let (Some(machine), true) =
        (virtual_machines.first(), machines.is_empty() && virtual_machines.len() == 1)
    {
        return shell_vm::enter(machine, command).await;
    }
    let machine = one(&machines, &virtual_machines)?;
    if machine.state != "running" {
        let message = format!("the machine of {} is {}", machine.repository, machine.state);
        return Err(Failure::new(ErrorClass::Conflict, message)
            .hint("start a new one with `edgewright run VARIANT --keep`; remove this one with `edgewright shell --rm`"));
    }
    let entry = kept::enter(&work, &settings, machine, command, std::io::stdin().is_terminal());
    let conf = entry.containers_conf.as_ref().map(|conf| ("CONTAINERS_CONF", conf.as_os_str()));
    // It takes the terminal of this process, and returns only if podman cannot be started.
    let error = edgewright_process::replace(entry.program, &entry.arguments, conf.as_slice());
    Err(Failure::unavailable("cannot start podman", &error))
}

/// Removes kept machines.
async fn remove(
    (work, settings): (&std::path::Path, &EngineSettings),
    machines: &[Kept],
    virtual_machines: &[KeptVm],
) -> Result<End, Failure> {
    if machines.is_empty() && virtual_machines.is_empty() {
        output::note("no machine is kept");
        return Ok(End::Good);
    }
    if !machines.is_empty() {
        kept::remove(work, settings, machines).await.map_err(|error| failure(&error))?;
    }
    kept_vm::remove(virtual_machines).await.map_err(|error| failure(&error))?;
    let names = machines.iter().map(|kept| &kept.repository);
    for name in names.chain(virtual_machines.iter().map(|kept| &kept.repository)) {
        output::note(&format!("removed {name}"));
    }
    Ok(End::Good)
}

fn one<'k>(machines: &'k [Kept], virtual_machines: &[KeptVm]) -> Result<&'k Kept, Failure> {
    match machines {
        [one] if virtual_machines.is_empty() => Ok(one),
        [] if virtual_machines.is_empty() => Err(Failure::new(ErrorClass::NotFound, "no machine is kept")
            .hint("keep one with `edgewright run VARIANT --keep`")),
        several => {
            let mut names: Vec<&str> = several.iter().map(|kept| kept.repository.as_str()).collect();
            names.extend(virtual_machines.iter().map(|kept| kept.repository.as_str()));
            Err(Failure::user("several machines are kept").hint(format!(
                "name one of {}; of a variant with a container and a virtual machine, remove one by --rm",
                names.join(", ")
            )))
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
    let mut listed: Vec<KeptMachine> = machines.into_iter().map(view).collect();
    for KeptVm { repository, runs, .. } in kept_vm::list(&work).await.unwrap_or_default() {
        let state = if runs { "running" } else { "ended" };
        let (container, status) = ("virtual machine".to_owned(), state.to_owned());
        listed.push(KeptMachine { repository, container, state: state.to_owned(), status });
    }
    listed
}

fn failure(error: &LabError) -> Failure {
    Failure::new(ErrorClass::Unavailable, Chain(error).to_string())
}
