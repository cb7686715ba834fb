//! The blocking operations of the updater. Callers hold the lock, except for reading the status.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::error::Chain;

use super::entry::{DeploymentNumber, EntryName, EntryText, Places};
use super::esp::{Access, BootFiles, Esp};
use super::layout::{Origin, kernel_arguments};
use super::store::Store;
use super::tree::{BootTree, Kernel, MAX_IMAGE_KERNEL_ARGUMENTS, MAX_IMAGE_TEXT_BYTES};
use super::{Composefs, NAME, etc_files, etc_merge, tree};
use crate::durable;
use crate::updater::{Deployment, Deployments, Image, UpdateError};

const ORIGIN_VERSION: u32 = 1;
/// Bytes that stay free on the ESP: entries are written when kernels are there.
const MIN_FREE_ESP_BYTES: u64 = 1 << 20;

fn tag(number: DeploymentNumber) -> String {
    format!("deployment-{number}")
}

impl Composefs {
    fn open_esp(&self, access: Access) -> Result<Esp, UpdateError> {
        Esp::open(&self.esp, access).map_err(UpdateError::io("mount the EFI system partition"))
    }

    fn places(&self, entries: &[EntryName]) -> Result<Places, UpdateError> {
        Ok(Places::find(&self.folders.numbers()?, entries, self.booted))
    }

    pub(super) fn read_status(&self) -> Result<Deployments, UpdateError> {
        let entries = entries(&self.open_esp(Access::Read)?)?;
        let places = self.places(&entries)?;
        let verity = Store::open(&self.folders.repository())?.is_verity();
        let deployment = |number: Option<DeploymentNumber>| -> Result<Option<Deployment>, UpdateError> {
            let Some(number) = number else { return Ok(None) };
            let origin = self.folders.origin(number)?;
            let entry = entries.iter().find(|entry| entry.number == number);
            Ok(Some(Deployment {
                digest: origin.digest,
                reference: origin.reference,
                verity,
                entry: entry.map(ToString::to_string),
                tries_left: entry.and_then(|entry| entry.counter).map(|counter| counter.left),
                is_next: places.next == Some(number),
            }))
        };
        Ok(Deployments {
            booted: deployment(self.booted)?,
            fallback: deployment(places.fallback)?,
            staged: deployment(places.staged)?,
        })
    }

    /// Whether the digest is booted, or is staged and was not tried without success.
    pub(super) fn is_staged(&self, digest: &Digest) -> Result<bool, UpdateError> {
        let found = entries(&self.open_esp(Access::Read)?)?;
        let places = self.places(&found)?;
        for number in [self.booted, places.staged].into_iter().flatten() {
            let failed = found.iter().any(|entry| entry.number == number && !entry.is_bootable());
            if self.folders.origin(number)?.digest == *digest && !failed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deploys an image whose layers are in the repository, in the place of another staged one.
    pub(super) fn deploy(&self, store: &Store, image: &Image) -> Result<(), UpdateError> {
        self.folders.remove_unfinished()?;
        let esp = self.open_esp(Access::Write)?;
        let found = entries(&esp)?;
        let highest = self.folders.numbers()?.into_iter().chain(found.iter().map(|entry| entry.number)).max();
        let number = DeploymentNumber(highest.map_or(1, |number| number.0 + 1));
        if let Some(staged) = self.places(&found)?.staged {
            self.remove_deployment(&esp, &found, staged)?;
        }
        let root = store.commit(image, &tag(number))?;
        let tree = store.tree(&root)?;
        let invalid = |problem| UpdateError::Image { digest: image.digest().clone(), problem };
        let kernel = tree.kernel().map_err(invalid)?;
        let kernel_arguments = image_arguments(store, &tree).map_err(invalid)?;
        let title = title(store, &tree, &kernel);
        self.remove_unused_files(&esp)?;
        let files = add_files(store, &esp, &kernel)?;
        let origin = Origin {
            version: ORIGIN_VERSION,
            digest: image.digest().clone(),
            reference: Some(image.reference.to_string()),
            root,
            title,
            files,
            kernel_arguments,
        };
        self.folders.write_deployment(number, &origin)?;
        tracing::info!(deployment = number.0, image.digest = %image.digest(), "image staged");
        Ok(())
    }

    /// Removes a deployment that is not booted: entry, then folder. Its objects wait for a collection.
    fn remove_deployment(
        &self,
        esp: &Esp,
        found: &[EntryName],
        number: DeploymentNumber,
    ) -> Result<(), UpdateError> {
        for entry in found.iter().filter(|entry| entry.number == number) {
            esp.remove_entry(*entry).map_err(UpdateError::io(format!("remove the boot entry {entry}")))?;
        }
        let (folder, temporary) =
            (self.folders.deployment(number), self.folders.deployments().join(format!(".{number}.old")));
        let fault = |e| UpdateError::io(format!("remove {}", folder.display()))(e);
        if folder.try_exists().map_err(fault)? {
            // Renamed first, so that a power cut leaves no half of a deployment.
            durable::remove(&temporary).map_err(fault)?;
            durable::rename(&folder, &temporary).map_err(fault)?;
        }
        durable::remove(&temporary).map_err(fault)
    }

    pub(super) fn arm_staged(&self, digest: &Digest) -> Result<(), UpdateError> {
        if let Some(booted) = self.booted
            && self.folders.origin(booted)?.digest == *digest
        {
            return Ok(());
        }
        let esp = self.open_esp(Access::Write)?;
        remove_incomplete_entries(&esp)?;
        let found = entries(&esp)?;
        let not_staged = || UpdateError::NotStaged { digest: digest.clone() };
        let number = self.places(&found)?.staged.ok_or_else(not_staged)?;
        let origin = self.folders.origin(number)?;
        if origin.digest != *digest {
            return Err(not_staged());
        }
        let store = Store::open(&self.folders.repository())?;
        self.carry_etc(&store, number, &origin)?;
        let of_it: Vec<EntryName> = found.into_iter().filter(|entry| entry.number == number).collect();
        if of_it.iter().any(|entry| entry.is_bootable()) {
            return Ok(());
        }
        self.write_entry(&esp, &store, number, &origin)?;
        for entry in of_it {
            esp.remove_entry(entry).map_err(UpdateError::io(format!("remove the boot entry {entry}")))?;
        }
        Ok(())
    }

    fn write_entry(
        &self,
        esp: &Esp,
        store: &Store,
        number: DeploymentNumber,
        origin: &Origin,
    ) -> Result<(), UpdateError> {
        let record = self.folders.record()?;
        // Without a booted deployment there is nothing to fall back to: the installer's is good by definition.
        let name = match self.booted {
            Some(_) => EntryName::to_try(number, record.boot_tries),
            None => EntryName::good(number),
        };
        let text = EntryText {
            title: &origin.title,
            number,
            linux: &BootFiles::path(&origin.files.linux),
            initrd: &BootFiles::path(&origin.files.initrd),
            options: &kernel_arguments(&record, origin, number, store.is_verity()),
        };
        esp.write_entry(name, &text).map_err(UpdateError::io(format!("write the boot entry {name}")))?;
        tracing::info!(deployment = number.0, entry = %name, "image armed");
        Ok(())
    }

    /// Computes the changes of `/etc` of a deployment from those of the booted one. Repeated until it boots.
    fn carry_etc(&self, store: &Store, number: DeploymentNumber, origin: &Origin) -> Result<(), UpdateError> {
        let Some(booted) = self.booted else { return Ok(()) };
        let what = "merge /etc";
        let fault = |e| UpdateError::io(what)(e);
        let broken = |problem| UpdateError::Backend { what: what.to_owned(), problem };
        let before = store.tree(&self.folders.origin(booted)?.root)?.etc().map_err(broken)?;
        let after = store.tree(&origin.root)?.etc().map_err(broken)?;
        let from = self.folders.etc(booted).join("upper");
        let upper = etc_files::read_upper(&from).map_err(fault)?;
        let merged = etc_merge::merge(&before, &after, &upper);
        let (etc, temporary) = (self.folders.etc(number), self.folders.deployment(number).join("etc.tmp"));
        durable::remove(&temporary).map_err(fault)?;
        etc_files::write_upper(&merged.upper, &from, &temporary.join("upper")).map_err(fault)?;
        std::fs::create_dir(temporary.join("work")).map_err(fault)?;
        durable::sync_all(&temporary).map_err(fault)?;
        durable::exchange(&temporary, &etc).map_err(fault)?;
        durable::remove(&temporary).map_err(fault)?;
        if !merged.conflicts.is_empty() {
            let paths = etc_files::list(&merged.conflicts);
            tracing::warn!(
                paths,
                "the device and the new image changed the same files of /etc; kept the device's"
            );
        }
        let conflicts: Vec<PathBuf> = merged.conflicts;
        let text = serde_json::to_vec(&conflicts).map_err(|e| UpdateError::io(what)(e.into()))?;
        durable::write(&self.folders.deployment(number).join("etc-conflicts.json"), &text, 0o600)
            .map_err(fault)
    }

    pub(super) fn bless_booted(&self) -> Result<(), UpdateError> {
        let booted = self
            .booted
            .ok_or_else(|| UpdateError::Unsupported { updater: NAME, why: "nothing is booted".to_owned() })?;
        let esp = self.open_esp(Access::Write)?;
        let good = EntryName::good(booted);
        let mut found = entries(&esp)?;
        found.retain(|entry| entry.number == booted);
        let fault = |entry| UpdateError::io(format!("bless the boot entry {entry}"));
        // A good one comes first. A second name is left if a power cut came before it could be removed.
        if let Some((first, others)) = found.split_first() {
            esp.rename_entry(*first, good).map_err(fault(first))?;
            for other in others {
                esp.remove_entry(*other).map_err(fault(other))?;
            }
        }
        if let Some(path) = &self.blessed {
            let made = std::fs::create_dir_all("/run/edgewright").and_then(|()| std::fs::write(path, ""));
            made.map_err(UpdateError::io(format!("write {}", path.display())))?;
        }
        Ok(())
    }

    pub(super) fn choose_fallback(&self) -> Result<(), UpdateError> {
        let esp = self.open_esp(Access::Write)?;
        let found = entries(&esp)?;
        let fallback = self.places(&found)?.fallback.ok_or(UpdateError::NoFallback)?;
        for entry in found.iter().filter(|entry| entry.number > fallback && entry.is_bootable()) {
            esp.rename_entry(*entry, entry.bad())
                .map_err(UpdateError::io(format!("rename the boot entry {entry}")))?;
        }
        tracing::info!(deployment = fallback.0, "the next boot takes the fallback");
        Ok(())
    }

    pub(super) fn remove_unused(&self) -> Result<u64, UpdateError> {
        self.folders.remove_unfinished()?;
        let esp = self.open_esp(Access::Write)?;
        remove_incomplete_entries(&esp)?;
        let found = entries(&esp)?;
        let places = self.places(&found)?;
        let mut numbers: BTreeSet<DeploymentNumber> = self.folders.numbers()?.into_iter().collect();
        numbers.extend(found.iter().map(|entry| entry.number));
        for number in numbers.iter().filter(|number| !places.keeps(**number, self.booted)) {
            self.remove_deployment(&esp, &found, *number)?;
        }
        let freed = self.remove_unused_files(&esp)?;
        drop(esp);
        let kept: Vec<String> = self.folders.numbers()?.into_iter().map(tag).collect();
        let store = Store::open(&self.folders.repository())?;
        Ok(freed + store.collect(|name| kept.iter().any(|kept| kept == name))?)
    }

    fn remove_unused_files(&self, esp: &Esp) -> Result<u64, UpdateError> {
        let mut used = BTreeSet::new();
        for number in self.folders.numbers()? {
            let files = self.folders.origin(number)?.files;
            used.extend([files.linux, files.initrd]);
        }
        esp.remove_files_except(&used).map_err(UpdateError::io("remove old kernels"))
    }
}

fn remove_incomplete_entries(esp: &Esp) -> Result<(), UpdateError> {
    esp.remove_incomplete_entries().map_err(UpdateError::io("remove incomplete boot entries"))
}

fn entries(esp: &Esp) -> Result<Vec<EntryName>, UpdateError> {
    esp.entries().map_err(UpdateError::io("read the boot entries"))
}

fn add_files(store: &Store, esp: &Esp, kernel: &Kernel) -> Result<BootFiles, UpdateError> {
    let free = esp.free().map_err(UpdateError::io("read the free space of the EFI system partition"))?;
    let add = |file, extension| {
        let mut opened = store.open_file(file)?;
        let added = esp.add_file(&mut *opened, extension);
        added.map_err(|e| match e.kind() {
            std::io::ErrorKind::StorageFull => UpdateError::Space {
                path: esp.root().to_path_buf(),
                needed: kernel.linux.file_size() + kernel.initrd.file_size() + MIN_FREE_ESP_BYTES,
                free,
            },
            _ => UpdateError::io("write a kernel to the EFI system partition")(e),
        })
    };
    Ok(BootFiles { linux: add(&kernel.linux, "linux")?, initrd: add(&kernel.initrd, "initrd")? })
}

/// A text file of an image. The error is the reason why it cannot be read.
fn read_text(store: &Store, tree: &BootTree, path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = tree.file(path).ok_or_else(|| format!("it has no file {path}"))?;
    let file = store.open_file(file).map_err(|e| format!("{path}: {}", Chain(&e)))?;
    file.take(MAX_IMAGE_TEXT_BYTES).read_to_string(&mut text).map_err(|e| format!("{path}: {e}"))?;
    Ok(text)
}

fn title(store: &Store, tree: &BootTree, kernel: &Kernel) -> String {
    let release =
        ["/usr/lib/os-release", "/etc/os-release"].iter().find_map(|path| read_text(store, tree, path).ok());
    let name = release.and_then(|text| tree::pretty_name(&text));
    name.unwrap_or_else(|| format!("Linux {}", kernel.version))
}

/// The arguments of `/usr/lib/bootc/kargs.d`, as bootc reads them.
fn image_arguments(store: &Store, tree: &BootTree) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let files = tree.files_in("/usr/lib/bootc/kargs.d");
    for path in files.iter().filter(|path| Path::new(path).extension().is_some_and(|kind| kind == "toml")) {
        let text = read_text(store, tree, path)?;
        all.extend(
            tree::kernel_arguments(&text, std::env::consts::ARCH).map_err(|e| format!("{path}: {e}"))?,
        );
    }
    if all.len() > MAX_IMAGE_KERNEL_ARGUMENTS {
        return Err(format!("it has more than {MAX_IMAGE_KERNEL_ARGUMENTS} kernel arguments"));
    }
    Ok(all)
}
