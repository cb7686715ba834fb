//! The finished file. It has a temporary name beside its own until it is complete.

use std::path::Path;
use std::time::Duration;

use edgewright_vm::Context;

use crate::ProvisionError;
use crate::order::{DiskOrder, Format};

/// How long the conversion to another format of disks may take.
const CONVERSION_TIMEOUT: Duration = Duration::from_mins(30);

/// An output that is made. What is not finished is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Output {
    raw: tempfile::TempPath,
}

impl Output {
    /// Makes an empty disk beside the output.
    pub(crate) async fn create(order: &DiskOrder) -> Result<Self, ProvisionError> {
        let (folder, size) = (folder(&order.output).to_owned(), order.size);
        let made = tokio::task::spawn_blocking(move || {
            let file =
                tempfile::Builder::new().prefix(".edgewright-disk-").suffix(".raw").tempfile_in(folder)?;
            file.as_file().set_len(size)?;
            Ok(file.into_temp_path())
        });
        let made = made.await.map_err(|_| ProvisionError::Cancelled)?;
        Ok(Self { raw: made.map_err(ProvisionError::io("create the disk for", &order.output))? })
    }

    /// The disk.
    pub(crate) fn raw(&self) -> &Path {
        &self.raw
    }

    /// Converts, flushes, renames.
    pub(crate) async fn finish(self, order: &DiskOrder, context: &Context) -> Result<(), ProvisionError> {
        let finished = match order.format {
            Format::Raw | Format::Iso | Format::Netboot => self.raw,
            format => convert(&self.raw, format, order, context).await?,
        };
        let target = order.output.clone();
        let renamed = tokio::task::spawn_blocking(move || {
            std::fs::File::open(&finished)?.sync_all()?;
            let mut mode = std::fs::metadata(&finished)?.permissions();
            // It has the credentials of a device.
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
            std::fs::set_permissions(&finished, mode)?;
            finished.persist(&target).map_err(|error| error.error)?;
            std::fs::File::open(folder(&target))?.sync_all()
        });
        let renamed = renamed.await.map_err(|_| ProvisionError::Cancelled)?;
        renamed.map_err(ProvisionError::io("write", &order.output))
    }
}

async fn convert(
    raw: &Path,
    format: Format,
    order: &DiskOrder,
    context: &Context,
) -> Result<tempfile::TempPath, ProvisionError> {
    let place = tempfile::Builder::new()
        .prefix(".edgewright-disk-")
        .suffix(".out")
        .tempfile_in(folder(&order.output))
        .map_err(ProvisionError::io("create a file beside", &order.output))?
        .into_temp_path();
    let command = context.tools.command("qemu-img").args(["convert", "-f", "raw", "-O", format.name()]);
    let command = command.arg(raw).arg(&place).deadline(CONVERSION_TIMEOUT).context(&context.processes);
    let action = "convert the disk";
    command.run().await.map_err(|source| ProvisionError::Command { action, source })?;
    Ok(place)
}

/// The folder that an output is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
