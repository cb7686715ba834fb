//! `shell`: enters a machine that `run --keep` left running.

use std::ffi::OsString;
use std::io::IsTerminal as _;

use edgewright_api::KeptMachine;
use edgewright_lab::kept::{self, Kept};
use edgewright_lab::vm::kept::{self as kept_vm, KeptVm};
use edgewright_lab::{EngineSettings, LabError};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::VariantName;
use edgewright_sandbox::kept::KeptSandbox;

use super::{shell_sandbox, shell_vm};
use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;

/// What to do about a machine that cannot be entered.
pub(super) const START_AGAIN: &str =
    "start a new one with `edgewright run VARIANT --keep`; remove this one with `edgewright shell --rm`";

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
    let sandboxes = shell_sandbox::list(&work, variant).await?;
    let listed = kept::list(&work, &settings).await;
    // Virtual machines and sandboxes need no podman.
    let mut machines = match listed {
        Err(_) if !virtual_machines.is_empty() || !sandboxes.is_empty() => Vec::new(),
        listed => listed.map_err(|error| failure(&error))?,
    };
    if let Some(variant) = variant {
        let name = format!("/{variant}");
        machines.retain(|kept| kept.repository.ends_with(&name));
        virtual_machines.retain(|kept| kept.repository.ends_with(&name));
    }
    if rm {
        shell_sandbox::remove(&sandboxes).await?;
        return remove((&work, &settings), &machines, &virtual_machines, &sandboxes).await;
    }
    let machine = match (machines.as_slice(), virtual_machines.as_slice(), sandboxes.as_slice()) {
        ([], [], [sandbox]) => return Err(shell_sandbox::enter(sandbox, command)),
        ([], [machine], []) => return shell_vm::enter(machine, command).await,
        ([machine], [], []) => machine,
        _ => return Err(not_one(&machines, &virtual_machines, &sandboxes)),
    };
    if machine.state != "running" {
        let message = format!("the machine of {} is {}", machine.repository, machine.state);
        return Err(Failure::new(ErrorClass::Conflict, message).hint(START_AGAIN));
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
    sandboxes: &[KeptSandbox],
) -> Result<End, Failure> {
    if machines.is_empty() && virtual_machines.is_empty() && sandboxes.is_empty() {
        output::note("no machine is kept");
        return Ok(End::Good);
    }
    if !machines.is_empty() {
        kept::remove(work, settings, machines).await.map_err(|error| failure(&error))?;
    }
    kept_vm::remove(virtual_machines).await.map_err(|error| failure(&error))?;
    let names = machines.iter().map(|kept| &kept.repository);
    let names = names.chain(virtual_machines.iter().map(|kept| &kept.repository)).map(String::as_str);
    for name in names.chain(sandboxes.iter().map(KeptSandbox::label)) {
        output::note(&format!("removed {name}"));
    }
    Ok(End::Good)
}

/// Why none of the kept machines is entered.
fn not_one(machines: &[Kept], virtual_machines: &[KeptVm], sandboxes: &[KeptSandbox]) -> Failure {
    let mut names: Vec<&str> = machines.iter().map(|kept| kept.repository.as_str()).collect();
    names.extend(virtual_machines.iter().map(|kept| kept.repository.as_str()));
    names.extend(sandboxes.iter().map(KeptSandbox::label));
    if names.is_empty() {
        return Failure::new(ErrorClass::NotFound, "no machine is kept")
            .hint("keep one with `edgewright run VARIANT --keep`");
    }
    Failure::user("several machines are kept").hint(format!(
        "name one of {}; of a variant with a container and a virtual machine, remove one by --rm",
        names.join(", ")
    ))
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
    for sandbox in shell_sandbox::list(&work, None).await.unwrap_or_default() {
        let state = if sandbox.runs() { "running" } else { "ended" };
        let (container, status) = ("sandbox".to_owned(), state.to_owned());
        listed.push(KeptMachine {
            repository: sandbox.label().to_owned(),
            container,
            state: state.to_owned(),
            status,
        });
    }
    listed
}

fn failure(error: &LabError) -> Failure {
    Failure::new(ErrorClass::Unavailable, Chain(error).to_string())
}
