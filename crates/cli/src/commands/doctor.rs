//! `doctor`: what this machine offers for builds and tests. Nothing is assumed: a sandbox is started,
//! programs are asked for their versions, mirrors are connected to.

mod cluster;
mod network;
mod programs;

use std::path::Path;

use edgewright_api::documents::{DoctorCheck, DoctorReport, DoctorState};
use edgewright_job::vm_tools;
use edgewright_model::error::Chain;
use edgewright_process::ProcessContext;
use edgewright_sandbox::host::Kernel;
use edgewright_sandbox::launch::{FIRST_ID, IDS};
use edgewright_sandbox::namespace::Entrance;
use edgewright_sandbox::{Sandbox, SandboxError, ToolImage};
use edgewright_server::Settings;
use edgewright_vm::{Acceleration, Accelerator, Context};

use crate::args::{DoctorArgs, Global, ServeArgs};
use crate::exit::{End, Failure};
use crate::settings::Environment;
use crate::{output, render};

/// The free space below which a first build of a system may fail, in bytes.
const SMALL_DISK: u64 = 10 * 1024 * 1024 * 1024;

/// Looks at the machine, and shows what it found.
pub(crate) async fn doctor(args: &DoctorArgs, global: &Global) -> Result<End, Failure> {
    let serve = ServeArgs {
        config: args.config.clone(),
        cluster_image: args.cluster_image.clone(),
        isolation: args.isolation.clone(),
        ..ServeArgs::default()
    };
    let environment = Environment::read();
    let settings = environment.run(&serve, global.data.clone())?;
    let report = match cluster::of_jobs(&environment, &serve, global) {
        Some(table) => cluster::examine(&table, &settings).await,
        None => examine(&settings, &environment).await?,
    };
    if args.format.json {
        output::json(&report)?;
    } else {
        output::print(&render::doctor(&report))?;
    }
    Ok(if report.ready { End::Good } else { End::Fault })
}

async fn examine(settings: &Settings, environment: &Environment) -> Result<DoctorReport, Failure> {
    let kernel = Kernel::read();
    let mut checks = vec![user(environment), of_kernel(&kernel), cgroups(&kernel), ids()];
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("cannot find the file of this program", &error))?;
    let mut sandbox_ms = None;
    let image = ToolImage::load(&settings.tools).await;
    let machines = virtual_machines(image.as_ref().ok()).await;
    match image {
        Ok(tools) => {
            checks.push(programs::of_image(&tools));
            let (check, took) = sandbox(tools, environment, &program).await;
            checks.push(check);
            sandbox_ms = took;
        }
        Err(error) => checks.push(no_tools(&error)),
    }
    checks.push(machines);
    checks.extend(programs::of_host(settings.unsafe_host_tools).await);
    checks.push(disk(&settings.data));
    checks.extend(network::mirrors().await);
    let ready = checks.iter().all(|check| check.state != DoctorState::Missing);
    Ok(DoctorReport { ready, sandbox_ms, checks })
}

/// A check with all it needs.
fn good(id: &str, found: impl Into<String>) -> DoctorCheck {
    DoctorCheck { id: id.to_owned(), state: DoctorState::Ok, found: found.into(), hint: None }
}

/// A check with a gap.
fn gap(id: &str, state: DoctorState, found: impl Into<String>, hint: impl Into<String>) -> DoctorCheck {
    DoctorCheck { id: id.to_owned(), state, found: found.into(), hint: Some(hint.into()) }
}

fn user(environment: &Environment) -> DoctorCheck {
    if environment.is_in_namespace() {
        return good("user", "root of a user namespace with IDs of its own");
    }
    if environment.makes_sandboxes() {
        return good("user", "root");
    }
    let (found, hint) = no_sandboxes();
    gap("user", DoctorState::Missing, format!("{found}: only jobs that start no program run"), hint)
}

fn of_kernel(kernel: &Kernel) -> DoctorCheck {
    let has = |is_there: bool, name: &str| if is_there { name.to_owned() } else { format!("no {name}") };
    let found = format!(
        "{}, {}, {}, {}",
        kernel.release,
        has(kernel.user_namespaces.is_some_and(|most| most > 0), "user namespaces"),
        has(kernel.overlay, "overlay file systems"),
        has(kernel.tun, "/dev/net/tun"),
    );
    match kernel.require() {
        Err(error) => gap("kernel", DoctorState::Missing, found, error.hint().unwrap_or_default()),
        Ok(()) if !kernel.overlay => {
            gap("kernel", DoctorState::Warning, found, "load the module `overlay` if builds fail to mount")
        }
        Ok(()) => good("kernel", found),
    }
}

fn cgroups(kernel: &Kernel) -> DoctorCheck {
    match kernel.cgroups {
        "" => gap("cgroups", DoctorState::Missing, "no cgroups", "mount cgroup2 at /sys/fs/cgroup"),
        "v1" => {
            gap("cgroups", DoctorState::Missing, "v1 only", "boot with `systemd.unified_cgroup_hierarchy=1`")
        }
        other => good("cgroups", other),
    }
}

/// Users of this host whose IDs sandboxes use, too: their processes could be reached from a sandbox.
fn ids() -> DoctorCheck {
    let range = FIRST_ID..FIRST_ID + IDS;
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let users: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            range.contains(&fields.nth(1)?.parse::<u32>().ok()?).then_some(name)
        })
        .collect();
    let found = format!("{} to {}", range.start, range.end - 1);
    if users.is_empty() {
        return good("ids", found);
    }
    let found = format!("{found}, of which users have some: {}", users.join(", "));
    gap("ids", DoctorState::Warning, found, "give these users other IDs: sandboxes run with this range")
}

/// Why this user can make no sandboxes, and what to do.
fn no_sandboxes() -> (String, String) {
    match Entrance::find() {
        // The command would have started again in it.
        Ok(_) => ("this user is not root".to_owned(), "run as root".to_owned()),
        Err(error) => (error.to_string(), error.hint().unwrap_or_default()),
    }
}

/// What virtual machines would use: tried with a tiny guest.
async fn virtual_machines(image: Option<&ToolImage>) -> DoctorCheck {
    let tools = vm_tools(image);
    if !tools.has_qemu() {
        let hint = "the tool image has QEMU: make it by `edgewright tools update`";
        return gap("kvm", DoctorState::Warning, "not tried: no QEMU", hint);
    }
    let scratch = std::env::temp_dir();
    let context = Context { tools, scratch, processes: ProcessContext::default() };
    match Acceleration::detect(None, &context).await {
        Ok(Acceleration { accelerator: Accelerator::Kvm, .. }) => {
            good("kvm", "virtual machines run on the processor")
        }
        Ok(found) => {
            let why = found.why.map(|why| format!(": {why}")).unwrap_or_default();
            let hint = "virtual machines are emulated, which is slow: enable virtualization in the firmware or in \
                        the hypervisor";
            gap("kvm", DoctorState::Warning, format!("virtual machines are emulated{why}"), hint)
        }
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "the lane vm cannot run".to_owned());
            gap("kvm", DoctorState::Warning, Chain(&error).to_string(), hint)
        }
    }
}

fn no_tools(error: &SandboxError) -> DoctorCheck {
    let hint = error.hint().unwrap_or_default();
    let is_first = matches!(error, SandboxError::NoTools { .. } | SandboxError::OldTools { .. });
    if is_first && edgewright_process::which("mmdebstrap").is_some() {
        let hint = format!("the first job makes it; {hint}");
        return gap("tools", DoctorState::Warning, error.to_string(), hint);
    }
    let hint = if is_first { format!("install the package mmdebstrap, then {hint}") } else { hint };
    gap("tools", DoctorState::Missing, error.to_string(), hint)
}

async fn sandbox(tools: ToolImage, environment: &Environment, program: &Path) -> (DoctorCheck, Option<u64>) {
    if !environment.makes_sandboxes() {
        let (found, hint) = no_sandboxes();
        return (gap("sandbox", DoctorState::Missing, format!("not tried: {found}"), hint), None);
    }
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            let found = format!("not tried: {error}");
            return (
                gap("sandbox", DoctorState::Missing, found, "free space in the folder for temporary files"),
                None,
            );
        }
    };
    let sandbox = Sandbox::new(tools, folder.path().to_owned());
    match sandbox.try_out(program, &ProcessContext::default()).await {
        Ok(took) => {
            let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            (good("sandbox", format!("a trial with a network took {took} ms")), Some(took))
        }
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            (gap("sandbox", DoctorState::Missing, error.to_string(), hint), None)
        }
    }
}

fn disk(data: &Path) -> DoctorCheck {
    let Some((folder, found)) =
        data.ancestors().find_map(|folder| Some((folder, rustix::fs::statvfs(folder).ok()?)))
    else {
        return gap("disk", DoctorState::Warning, "unknown", "check that the data folder can be read");
    };
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let (free, total) = (bytes(found.f_bavail), bytes(found.f_blocks));
    let text = format!(
        "{}: {} free of {}",
        folder.display(),
        render::units::bytes(free),
        render::units::bytes(total)
    );
    if found.f_files > 0 && found.f_favail < found.f_files / 50 {
        return gap("disk", DoctorState::Warning, format!("{text}, few inodes left"), "delete small files");
    }
    if free < SMALL_DISK {
        return gap(
            "disk",
            DoctorState::Warning,
            text,
            "name another data folder with `--data`, or free space",
        );
    }
    good("disk", text)
}
