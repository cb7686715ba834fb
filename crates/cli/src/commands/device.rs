//! `device`: devices of the server, their enrolment, and what operators decide about them.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use edgewright_api::documents::DeviceList;
use edgewright_api::identity::{IdentityFile, IdentityFormat};
use edgewright_api::{Client, DeviceIdentity, DevicePost, DeviceSummary, EnrolPost, EnrolmentPost};
use edgewright_model::error::ErrorClass;

use super::{blocking, list, now, print};
use crate::args::{DeviceArgs, DeviceCommand, EnrolArgs, FileFormat, FilesArgs, Global, ListArgs};
use crate::exit::{End, Failure};
use crate::{connection, output, render};

/// `device …`.
pub(super) async fn device(command: DeviceCommand, global: &Global) -> Result<End, Failure> {
    let client = connection::client(global)?;
    let (device, post) = match command {
        DeviceCommand::List(args) => return devices(&client, &args).await,
        DeviceCommand::Show { device } => {
            let view = client.device(&device.id).await?;
            return print(device.format.json, &view, |view| render::device(view, now()));
        }
        DeviceCommand::Enrol(args) => return enrol(&client, args, false).await,
        DeviceCommand::Replace(args) => return enrol(&client, args, true).await,
        DeviceCommand::Rotate { device, files, format } => {
            let identity = client.rotate_device(&device).await?;
            if let Some(folder) = &files.out {
                write(&files, folder, &identity).await?;
            }
            return print(format.json, &identity, |identity| render::identity(identity, files.out.is_none()));
        }
        DeviceCommand::Approve { device } => (device, DevicePost::Approve),
        DeviceCommand::Hold { device, reason } => (device, DevicePost::Hold { reason }),
        DeviceCommand::Release { device } => (device, DevicePost::Release),
        DeviceCommand::Pin { device, release, reason } => (device, DevicePost::Pin { release, reason }),
        DeviceCommand::Unpin { device } => (device, DevicePost::Unpin),
        DeviceCommand::Revoke { device, reason } => (device, DevicePost::Revoke { reason }),
        DeviceCommand::Retire { device, reason } => (device, DevicePost::Retire { reason }),
    };
    change(&client, &device, &post).await
}

/// `device list`.
pub(super) async fn devices(client: &Client, args: &ListArgs) -> Result<End, Failure> {
    let devices = client.devices(args.selection.source.as_ref()).await?;
    let names: Vec<String> = devices.iter().map(|device: &DeviceSummary| device.id.to_string()).collect();
    list::print(args.rows, args.format, &names, &DeviceList { devices }, |list| {
        render::devices(&list.devices, now())
    })
}

async fn change(client: &Client, device: &DeviceArgs, post: &DevicePost) -> Result<End, Failure> {
    let view = client.change_device(&device.id, post).await?;
    print(device.format.json, &view, |view| render::devices(std::slice::from_ref(&view.device), now()))
}

/// Makes a token and prints it; with a folder it is used here, and the device's files are written.
async fn enrol(client: &Client, args: EnrolArgs, replace: bool) -> Result<End, Failure> {
    let (site, slot) = args.place().map_err(|message| Failure::new(ErrorClass::UserFault, message))?;
    let seconds = u32::try_from(args.expires.get().as_secs()).unwrap_or(u32::MAX);
    let mut serials = args.serials.into_iter();
    let serial = serials.next();
    let post = EnrolmentPost {
        source: args.source,
        site,
        slot,
        labels: args.labels.into_iter().collect(),
        serials: serial.clone().into_iter().chain(serials).collect(),
        uses: args.any_slot.then_some(args.uses),
        approval: args.approval,
        replace,
        expires_seconds: Some(seconds),
    };
    let token = client.make_enrolment(&post).await?;
    let Some(folder) = &args.files.out else {
        return print(args.format.json, &token, |token| render::enrolment(token, now()));
    };
    let exchange = EnrolPost { token: token.token, attempt: None, slot: None, serial };
    let identity = client.enrol(&exchange).await?;
    write(&args.files, folder, &identity).await?;
    print(args.format.json, &identity, |identity| render::identity(identity, false))
}

/// Writes the files of an identity below a folder.
async fn write(args: &FilesArgs, folder: &Path, identity: &DeviceIdentity) -> Result<(), Failure> {
    let formats: &[IdentityFormat] = match args.files {
        FileFormat::Auth => &[IdentityFormat::Auth],
        FileFormat::Registries => &[IdentityFormat::Registries],
        FileFormat::Policy => &[IdentityFormat::Policy],
        FileFormat::Agent => &[IdentityFormat::Auth, IdentityFormat::Token, IdentityFormat::Agent],
        FileFormat::All => &IdentityFormat::ALL,
    };
    let files: Vec<IdentityFile> =
        formats.iter().map(|format| format.file(identity, &identity.server_url())).collect();
    let folder = folder.to_owned();
    blocking(move || {
        for file in files {
            let path = folder.join(file.path);
            let failed = |error: std::io::Error| {
                Failure::new(ErrorClass::Unavailable, format!("cannot write {}: {error}", path.display()))
                    .hint("the device is enrolled: `edgewright device rotate DEVICE --out DIR` writes its files")
            };
            write_file(&path, &file).map_err(failed)?;
            output::note(&format!("wrote {}", path.display()));
        }
        Ok(())
    })
    .await?
}

fn write_file(path: &Path, file: &IdentityFile) -> std::io::Result<()> {
    use std::io::Write as _;
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    // A file that others may read is replaced, not filled.
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = std::fs::OpenOptions::new();
    let mut written = open.write(true).create_new(true).mode(file.mode).open(&unfinished)?;
    written.write_all(file.content.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(&unfinished, path)
}
