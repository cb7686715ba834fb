//! `disk`: makes the disk of a device, in a virtual machine of the image itself.

use std::collections::BTreeMap;
use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::VariantName;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::{ImageReference, Reference};
use edgewright_oci::client::Credentials;
use edgewright_oci::{Client, image};
use edgewright_process::{CancellationToken, ProcessContext};
use edgewright_provision::{DiskOrder, ProvisionError, Workshop, make_disk};
use edgewright_sandbox::ToolImage;
use edgewright_vm::{Acceleration, Cache, Context, Source, Tools};
use serde_json::{Value, json};

use super::job::vm_programs;
use super::serve::Stop;
use crate::args::{DiskArgs, Global};
use crate::exit::{End, Failure};
use crate::output;
use crate::reader::Reader;
use crate::settings::Environment;

/// Bytes of a file that a device gets.
const MAX_FILE_BYTES: u64 = 16 << 20;
const AGENT_CONFIG: &str = "/etc/edgewright/agent.toml";
const DEFAULT_TAG: &str = "stable";

/// Makes a disk.
pub(super) async fn disk(args: &DiskArgs, global: &Global) -> Result<End, Failure> {
    let mut stop = Stop::listen()?;
    let wanted = reference(args, global).await?;
    let source = find(&wanted).await?;
    let digest = source.manifest.digest.clone();
    let follow = args.follow.clone().unwrap_or_else(|| followed(&wanted));
    let order = DiskOrder {
        reference: follow.clone(),
        source,
        size: args.size.bytes(),
        format: args.disk_format,
        output: args.output.clone(),
        device: device(args, &follow).await?.to_string().into_bytes(),
    };
    let work = Environment::read().data_folder(global.data.clone()).root().join("work/disks");
    let made = tokio::fs::create_dir_all(&work).await;
    made.map_err(|error| Failure::file("cannot create", &work, &error))?;
    let cancel = CancellationToken::new();
    let processes = ProcessContext::new(cancel.clone());
    let scratch = tempfile::Builder::new().prefix("disk-").tempdir_in(&work);
    let scratch = scratch.map_err(|error| Failure::file("cannot create a folder in", &work, &error))?;
    let context = Context { tools: tools(&args.tools)?, scratch: scratch.path().to_owned(), processes };
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
        let document = json!({
            "schema": "edgewright.disk/v1",
            "output": order.output,
            "format": order.format.name(),
            "size": order.size,
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

/// The reference that was given, or that of a variant's newest release.
async fn reference(args: &DiskArgs, global: &Global) -> Result<ImageReference, Failure> {
    let text = match args.image.parse::<VariantName>() {
        Ok(variant)
            if !args.image.contains(['@', ':'])
                && !args.image.split('/').next().is_some_and(|host| host.contains('.')) =>
        {
            let view = Reader::open(global).await?.image(&variant, None).await?;
            view.pull.map(|pull| pull.reference).ok_or_else(|| {
                Failure::new(ErrorClass::NotFound, format!("{variant} has no image that can be pulled"))
                    .hint("start the server with `edgewright serve`, and wait for its first release")
            })?
        }
        _ => args.image.clone(),
    };
    text.parse().map_err(|error| Failure::user(format!("invalid image `{text}`: {error}")))
}

/// The platform manifest of a reference, for this machine.
async fn find(wanted: &ImageReference) -> Result<Source, Failure> {
    let pull = |error| Failure::from(ProvisionError::Pull(Box::new(error)));
    let client = Client::for_host(&wanted.registry, Credentials::Anonymous).map_err(pull)?;
    let reference = match (&wanted.digest, &wanted.tag) {
        (Some(digest), _) => Reference::Digest(digest.clone()),
        (None, Some(tag)) => Reference::Tag(tag.clone()),
        (None, None) => {
            let message = format!("{wanted} has neither a tag nor a digest");
            return Err(Failure::user(message).hint("add a tag, such as `:stable`"));
        }
    };
    let manifest = client.pull_manifest(&wanted.repository, &reference).await.map_err(pull)?;
    let digest = if image::is_index(&manifest) {
        let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
        let platform = platform.parse().map_err(|_| Failure::user("unknown platform"))?;
        let found = image::select(&manifest.bytes, &platform);
        found.map_err(|error| Failure::user(format!("cannot use {wanted}: {error}")))?.digest
    } else {
        manifest.digest
    };
    Ok(Source { client, manifest: ManifestRef { repository: wanted.repository.clone(), digest } })
}

/// What a device follows that was installed from a digest: the default channel of its repository.
fn followed(wanted: &ImageReference) -> String {
    let tag = wanted.tag.as_ref().map_or(DEFAULT_TAG, |tag| tag.as_str());
    format!("{}/{}:{tag}", wanted.registry, wanted.repository)
}

/// The settings of the device, as the installer reads them.
async fn device(args: &DiskArgs, follow: &str) -> Result<Value, Failure> {
    let mut keys: Vec<String> = Vec::new();
    for path in &args.ssh_key {
        let text = read(path).await?;
        let lines = text.lines().map(str::trim);
        keys.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }
    // Without a configuration the agent would not start, and the device would never be updated.
    let mut files = BTreeMap::from([(
        AGENT_CONFIG.to_owned(),
        json!({"text": format!("image = {}\n", json!(follow)), "mode": 0o644}),
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
        "hostname": args.hostname,
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
fn tools(folder: &Path) -> Result<Tools, Failure> {
    let here = Tools::here();
    match ToolImage::open(folder) {
        Ok(image) => Ok(Tools::of_image(image.root().to_owned(), image.loader())),
        Err(_) if here.has_qemu() => Ok(here),
        Err(error) => Err(error.into()),
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
