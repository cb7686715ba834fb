//! `disk`: makes the disk of a device, in a virtual machine of the image itself.

mod wanted;

use std::collections::BTreeMap;
use std::path::Path;

use edgewright_job::vm_tools;
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_process::{CancellationToken, ProcessContext};
use edgewright_provision::{DiskOrder, ProvisionError, Workshop, make_disk};
use edgewright_sandbox::ToolImage;
use edgewright_vm::{Acceleration, Cache, Context, Tools};
use serde_json::{Value, json};

use super::job::vm_programs;
use super::serve::Stop;
use crate::args::{DiskArgs, Global};
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;
use wanted::Wanted;

/// Bytes of a file that a device gets.
const MAX_FILE_BYTES: u64 = 16 << 20;
const AGENT_CONFIG: &str = "/etc/edgewright/agent.toml";

/// Makes a disk.
pub(super) async fn disk(args: &DiskArgs, global: &Global) -> Result<End, Failure> {
    let mut stop = Stop::listen()?;
    let wanted = wanted::read(args, global).await?;
    let source = wanted::find(&wanted.image).await?;
    let digest = source.manifest.digest.clone();
    let order = DiskOrder {
        reference: wanted.follow.clone(),
        source,
        size: args.size.bytes(),
        format: args.disk_format,
        target_disk: args.target_disk.clone(),
        output: args.output.clone(),
        device: device(args, &wanted).await?.to_string().into_bytes(),
    };
    let work = Environment::read().data_folder(global.data.clone()).root().join("work/disks");
    let made = tokio::fs::create_dir_all(&work).await;
    made.map_err(|error| Failure::file("cannot create", &work, &error))?;
    let cancel = CancellationToken::new();
    let processes = ProcessContext::new(cancel.clone());
    let scratch = tempfile::Builder::new().prefix("disk-").tempdir_in(&work);
    let scratch = scratch.map_err(|error| Failure::file("cannot create a folder in", &work, &error))?;
    let context = Context { tools: tools(&args.tools).await?, scratch: scratch.path().to_owned(), processes };
    let mut acceleration = Acceleration::detect(Some(&work), &context).await.map_err(ProvisionError::from)?;
    let cache = Cache::new(work.join("images"));
    let workshop = Workshop { context: &context, cache: &cache, programs: vm_programs() };
    let progress = |step: &str| report(step, args.format.json);
    let made = {
        let work = make_disk(&order, &workshop, &mut acceleration, &progress);
        tokio::pin!(work);
        tokio::select! {
            made = &mut work => made,
            () = stop.next() => {
                cancel.cancel();
                work.await
            }
        }
    };
    match made {
        Ok(()) => finished(args, &order, &digest, &acceleration),
        Err(ProvisionError::Cancelled) => Err(Failure::stopped("stopped before the disk was complete")),
        Err(error) => Err(error.into()),
    }
}

fn finished(
    args: &DiskArgs,
    order: &DiskOrder,
    digest: &Digest,
    acceleration: &Acceleration,
) -> Result<End, Failure> {
    if args.format.json {
        // An installer fits every disk.
        let size = (!order.format.is_installer()).then_some(order.size);
        let document = json!({
            "schema": "edgewright.disk/v1",
            "output": order.output,
            "format": order.format.name(),
            "size": size,
            "digest": digest,
            "reference": order.reference,
            "accelerator": acceleration.accelerator.name(),
        });
        output::print(&format!("{document}\n"))?;
    } else {
        output::note(&format!("{}: {} of {digest}", order.output.display(), order.format));
    }
    Ok(End::Good)
}

fn report(step: &str, json: bool) {
    if json {
        output::note(&json!({"step": step}).to_string());
    } else {
        output::note(step);
    }
}

/// The settings of the device, as the installer reads them.
async fn device(args: &DiskArgs, wanted: &Wanted) -> Result<Value, Failure> {
    let mut keys: Vec<String> = Vec::new();
    for path in &args.ssh_key {
        let text = read(path).await?;
        let lines = text.lines().map(str::trim);
        keys.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }
    // Without a configuration the agent would not start, and the device would never be updated.
    let mut files = BTreeMap::from([(
        AGENT_CONFIG.to_owned(),
        json!({"text": format!("image = {}\n", json!(wanted.follow)), "mode": 0o644}),
    )]);
    for (path, file, mode) in
        [(AGENT_CONFIG, &args.agent_config, 0o644), ("/etc/edgewright/auth.json", &args.auth_file, 0o600)]
    {
        if let Some(file) = file {
            files.insert(path.to_owned(), json!({"text": read(file).await?, "mode": mode}));
        }
    }
    for (path, file) in &args.files {
        files.insert(path.clone(), json!({"text": read(file).await?, "mode": 0o600}));
    }
    let mut device = json!({
        "hostname": wanted.hostname,
        "ssh_keys": keys,
        "files": files,
        "kernel_arguments": args.karg,
        "verity": !args.no_verity,
    });
    if let Some(tries) = args.boot_tries {
        device["boot_tries"] = tries.into();
    }
    Ok(device)
}

async fn read(path: &Path) -> Result<String, Failure> {
    let found = tokio::fs::metadata(path).await;
    let read = match found {
        Ok(found) if found.len() > MAX_FILE_BYTES => Err(std::io::Error::other("the file is too large")),
        Ok(_) => tokio::fs::read_to_string(path).await,
        Err(error) => Err(error),
    };
    read.map_err(|error| Failure::file("cannot read", path, &error))
}

/// QEMU and disk tools: those of the tool image, or of this host.
async fn tools(folder: &Path) -> Result<Tools, Failure> {
    let image = ToolImage::load(folder).await;
    let tools = vm_tools(image.as_ref().ok());
    match image {
        Err(error) if !tools.has_qemu() => Err(error.into()),
        _ => Ok(tools),
    }
}

impl From<ProvisionError> for Failure {
    fn from(error: ProvisionError) -> Self {
        let failure = Self::new(error.class(), Chain(&error).to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
