//! The device's own settings: names, keys, credentials. They become changes of its `/etc`, which updates keep
//! and no image has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::InstallError;
use crate::composefs::entry::BOOT_TRIES;
use crate::composefs::etc_files::set_meta;
use crate::composefs::etc_merge::Tree;
use crate::durable;

/// Bytes of all files of a device.
const MAX_DEVICE_FILES_BYTES: usize = 16 << 20;
/// Length of a host name, from `hostname(7)`.
const MAX_HOST_NAME: usize = 64;
/// The most boots that a new image may take.
const MAX_BOOT_TRIES: u32 = 10;
/// Kernel arguments of a device.
const MAX_DEVICE_KERNEL_ARGUMENTS: usize = 100;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceSettings {
    /// The host name.
    pub hostname: Option<String>,
    /// Keys that may log in as root by SSH: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// Files below `/etc`, by absolute path: the agent's configuration, its credentials, an authority.
    pub files: BTreeMap<String, DeviceFile>,
    /// Kernel arguments of this device.
    pub kernel_arguments: Vec<String>,
    /// Boots that a new image may take until it is good.
    pub boot_tries: u32,
    /// Whether fs-verity protects every file of an image.
    pub verity: bool,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFile {
    /// Its text.
    pub text: String,
    /// Its mode.
    #[serde(default = "default_mode")]
    pub mode: u32,
}

impl std::fmt::Debug for DeviceFile {
    /// The text may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceFile").field("mode", &self.mode).finish_non_exhaustive()
    }
}

const fn default_mode() -> u32 {
    0o600
}

impl Default for DeviceSettings {
    fn default() -> Self {
        Self {
            hostname: None,
            ssh_keys: Vec::new(),
            files: BTreeMap::new(),
            kernel_arguments: Vec::new(),
            boot_tries: BOOT_TRIES,
            verity: true,
        }
    }
}

/// Why settings are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDevice {
    /// Not a host name.
    #[error("invalid host name `{0}`: use letters, digits, `-` and `.`, at most {MAX_HOST_NAME}")]
    HostName(String),
    /// Not one line, or not a key.
    #[error("invalid SSH key: expected one line such as `ssh-ed25519 AAAA… name`")]
    SshKey,
    /// Not below `/etc`.
    #[error("invalid path `{0}` of a file: it must be below /etc, without `..`")]
    Path(String),
    /// Too large.
    #[error("the files of the device have more than {MAX_DEVICE_FILES_BYTES} bytes")]
    TooLarge,
    /// An argument with white space, or too many.
    #[error("invalid kernel argument `{0}`: no white space, at most {MAX_DEVICE_KERNEL_ARGUMENTS} arguments")]
    KernelArgument(String),
    /// Out of range.
    #[error("invalid number of boot tries {0}: from 1 to {MAX_BOOT_TRIES}")]
    BootTries(u32),
}

impl DeviceSettings {
    /// Checks everything that is not a matter of types.
    ///
    /// # Errors
    /// The first invalid value.
    pub fn check(&self) -> Result<(), InvalidDevice> {
        if let Some(name) = &self.hostname {
            let is_label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            if name.len() > MAX_HOST_NAME || !name.split('.').all(is_label) {
                return Err(InvalidDevice::HostName(name.clone()));
            }
        }
        if !self.ssh_keys.iter().all(|key| is_key(key)) {
            return Err(InvalidDevice::SshKey);
        }
        for path in self.files.keys() {
            relative(path)?;
        }
        if self.files.values().map(|file| file.text.len()).sum::<usize>() > MAX_DEVICE_FILES_BYTES {
            return Err(InvalidDevice::TooLarge);
        }
        let is_word =
            |word: &String| !word.is_empty() && !word.chars().any(|c| c.is_whitespace() || c.is_control());
        if let Some(wrong) = self.kernel_arguments.iter().find(|word| !is_word(word)) {
            return Err(InvalidDevice::KernelArgument(wrong.clone()));
        }
        if self.kernel_arguments.len() > MAX_DEVICE_KERNEL_ARGUMENTS {
            return Err(InvalidDevice::KernelArgument(String::new()));
        }
        if !(1..=MAX_BOOT_TRIES).contains(&self.boot_tries) {
            return Err(InvalidDevice::BootTries(self.boot_tries));
        }
        Ok(())
    }

    /// Every file, by its path below `/etc`.
    fn all_files(&self) -> Result<BTreeMap<PathBuf, DeviceFile>, InvalidDevice> {
        let mut all = BTreeMap::new();
        if let Some(name) = &self.hostname {
            all.insert("hostname".into(), DeviceFile { text: format!("{name}\n"), mode: 0o644 });
        }
        if !self.ssh_keys.is_empty() {
            let keys = self.ssh_keys.iter().flat_map(|key| [key.trim(), "\n"]).collect();
            // A folder of ours, because the home of root may be a part of the read-only image.
            let settings = "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n";
            all.insert("ssh/authorized_keys.d/root".into(), DeviceFile { text: keys, mode: 0o600 });
            all.insert(
                "ssh/sshd_config.d/10-edgewright.conf".into(),
                DeviceFile { text: settings.to_owned(), mode: 0o644 },
            );
        }
        for (path, file) in &self.files {
            all.insert(relative(path)?, file.clone());
        }
        Ok(all)
    }

    /// Writes the files as changes of an image's `/etc`.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn write(&self, etc: &Tree, upper: &Path) -> Result<(), InstallError> {
        for (path, file) in self.all_files()? {
            let target = upper.join(&path);
            let fault = |e| InstallError::io(format!("write /etc/{}", path.display()))(e);
            for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                make_folder(etc, parent, &upper.join(parent)).map_err(fault)?;
            }
            durable::write(&target, file.text.as_bytes(), file.mode & 0o777).map_err(fault)?;
            // The mode of `open` is reduced by the process's umask.
            fs::set_permissions(&target, fs::Permissions::from_mode(file.mode & 0o777)).map_err(fault)?;
        }
        Ok(())
    }
}

/// A folder of an upper covers the image's one: it has the same owner and mode.
fn make_folder(etc: &Tree, path: &Path, target: &Path) -> std::io::Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    fs::create_dir(target)?;
    match etc.get(path).filter(|node| node.is_directory()) {
        Some(node) => set_meta(target, &node.meta, false),
        None => fs::set_permissions(target, fs::Permissions::from_mode(0o755)),
    }
}

fn is_key(key: &str) -> bool {
    let key = key.trim();
    let mut words = key.split(' ');
    !key.is_empty()
        && !key.contains(['\n', '\r'])
        && key.is_ascii()
        && words.any(|word| word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-"))
        && words.next().is_some_and(|word| word.starts_with("AAAA"))
}

fn relative(path: &str) -> Result<PathBuf, InvalidDevice> {
    let below = Path::new(path).strip_prefix("/etc").ok();
    let is_normal = |path: &&Path| {
        path.components().count() > 0 && path.components().all(|part| matches!(part, Component::Normal(_)))
    };
    let below = below.filter(is_normal).filter(|_| !path.ends_with('/') && !path.contains('\0'));
    below.map(Path::to_path_buf).ok_or_else(|| InvalidDevice::Path(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> DeviceSettings {
        DeviceSettings {
            hostname: Some("press-1.plant-a".to_owned()),
            ssh_keys: vec!["ssh-ed25519 AAAAC3Nz someone".to_owned()],
            files: [("/etc/edgewright/auth.json", "{}")]
                .into_iter()
                .map(|(path, text)| (path.to_owned(), DeviceFile { text: text.to_owned(), mode: 0o600 }))
                .collect(),
            ..DeviceSettings::default()
        }
    }

    #[test]
    fn files_are_changes_of_etc() {
        let folder = tempfile::tempdir().unwrap();
        let upper = folder.path().join("upper");
        settings().check().unwrap();
        settings().write(&Tree::new(), &upper).unwrap();
        settings().write(&Tree::new(), &upper).unwrap();
        let mode = |path: &str| fs::metadata(upper.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(fs::read_to_string(upper.join("hostname")).unwrap(), "press-1.plant-a\n");
        assert_eq!(mode("edgewright/auth.json"), 0o600);
        assert_eq!(mode("ssh"), 0o755);
        assert!(fs::read_to_string(upper.join("ssh/authorized_keys.d/root")).unwrap().contains("AAAA"));
    }

    #[test]
    fn invalid_settings_are_errors() {
        for path in ["/var/x", "/etc", "/etc/", "/etc/../x", "etc/x", "/etc/a/../../b", "/etcx/a"] {
            assert_eq!(relative(path), Err(InvalidDevice::Path(path.to_owned())), "{path}");
        }
        for name in ["", "-a", "a b", "a..b", "a\n"] {
            let settings = DeviceSettings { hostname: Some(name.to_owned()), ..DeviceSettings::default() };
            assert!(settings.check().is_err(), "{name}");
        }
        for key in ["", "x", "ssh-rsa", "ssh-rsa AAAA\nssh-rsa BBBB", "AAAA ssh-rsa"] {
            let settings = DeviceSettings { ssh_keys: vec![key.to_owned()], ..DeviceSettings::default() };
            assert!(settings.check().is_err(), "{key}");
        }
        let settings =
            DeviceSettings { kernel_arguments: vec!["a b".to_owned()], ..DeviceSettings::default() };
        assert!(settings.check().is_err());
        let settings = DeviceSettings { boot_tries: 0, ..DeviceSettings::default() };
        assert!(settings.check().is_err());
    }

    #[test]
    fn the_text_of_a_file_is_not_printed() {
        let file = DeviceFile { text: "secret".to_owned(), mode: 0o600 };
        assert!(!format!("{file:?}").contains("secret"));
    }
}
