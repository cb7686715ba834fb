//! Files that only their owner should read, by their path: programs ignore or distrust them otherwise.

/// Folders whose files hold credentials.
const FOLDERS: [&str; 5] = [
    "etc/NetworkManager/system-connections/",
    "etc/ssl/private/",
    "etc/sudoers.d/",
    "etc/wireguard/",
    "usr/lib/NetworkManager/system-connections/",
];
/// Files that hold credentials or say who may become root.
const FILES: [&str; 5] = ["etc/gshadow", "etc/shadow", "etc/sudoers", "etc/krb5.keytab", "root/.netrc"];
/// Bits of the mode with which others may read.
const OTHERS_READ: u32 = 0o004;

/// Whether a file at this path in an image (without leading `/`) is a secret by its place or name: keyfiles
/// of NetworkManager, private keys of hosts, pre-shared keys, passwords, sudoers.
pub fn is_sensitive(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let ends = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
    FILES.contains(&path)
        || FOLDERS.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| !rest.is_empty()))
        || folder == "etc/ssh" && ends("_key")
        || name.starts_with("wpa_supplicant") && ends(".conf")
        || ends(".psk")
}

/// Whether every user can read a file of this mode.
pub const fn is_readable_by_all(mode: u32) -> bool {
    mode & OTHERS_READ != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_place() {
        for path in [
            "etc/NetworkManager/system-connections/uplink.nmconnection",
            "etc/ssh/ssh_host_ed25519_key",
            "var/lib/iwd/plant.psk",
            "etc/wpa_supplicant.conf",
            "etc/wpa_supplicant/wpa_supplicant-wlan0.conf",
            "etc/shadow",
            "etc/sudoers.d/operator",
        ] {
            assert!(is_sensitive(path), "{path}");
        }
        for path in [
            "etc/ssh/ssh_host_ed25519_key.pub",
            "etc/ssh/sshd_config",
            "etc/NetworkManager/system-connections",
            "etc/NetworkManager/NetworkManager.conf",
            "usr/share/doc/shadow",
            ".psk",
        ] {
            assert!(!is_sensitive(path), "{path}");
        }
    }
}
