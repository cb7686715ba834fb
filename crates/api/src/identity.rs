//! A device's identity in the files that programs on the device read. Pure: the caller writes them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::DeviceIdentity;

/// Mode of a file that contains the credential.
const PRIVATE: u32 = 0o600;
/// Mode of other files.
const PUBLIC: u32 = 0o644;

impl DeviceIdentity {
    /// Address of the API: that of the registry.
    pub fn server_url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.registry)
    }
}

/// A form of a device's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityFormat {
    /// `containers-auth.json(5)`: the credential, for bootc, podman, skopeo and the agent.
    Auth,
    /// `containers-registries.conf.d(5)`: whether the registry is reached over TLS.
    Registries,
    /// `containers-policy.json(5)`: images come from the device's repository alone.
    Policy,
    /// The credential alone: the token file of the agent's reports.
    Token,
    /// The agent's configuration.
    Agent,
}

/// A file of an identity.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityFile {
    /// Path below the folder that the operator names.
    pub path: &'static str,
    /// Mode.
    pub mode: u32,
    /// Content.
    pub content: String,
}

impl std::fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl IdentityFormat {
    /// Every form.
    pub const ALL: [Self; 5] = [Self::Auth, Self::Registries, Self::Policy, Self::Token, Self::Agent];

    /// Path of the file below the folder that the operator names.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Auth => "auth.json",
            Self::Registries => "registries.conf.d/50-edgewright.conf",
            Self::Policy => "policy.json",
            Self::Token => "device-token",
            Self::Agent => "agent.toml",
        }
    }

    /// The file. `server` is the address of the API, for the agent's reports.
    pub fn file(self, identity: &DeviceIdentity, server: &str) -> IdentityFile {
        let (mode, content) = match self {
            Self::Auth => (PRIVATE, auth(identity)),
            Self::Registries => (PUBLIC, registries(identity)),
            Self::Policy => (PUBLIC, policy(identity)),
            Self::Token => (PRIVATE, format!("{}\n", identity.credential)),
            Self::Agent => (PUBLIC, agent(identity, server)),
        };
        IdentityFile { path: self.path(), mode, content }
    }
}

fn auth(identity: &DeviceIdentity) -> String {
    let pair = BASE64_STANDARD.encode(format!("{}:{}", identity.device, identity.credential));
    // Only this part of the registry: other images are pulled without it.
    let scope = format!("{}/device", identity.registry);
    pretty(&json!({ "auths": { scope: { "auth": pair } } }))
}

fn registries(identity: &DeviceIdentity) -> String {
    let DeviceIdentity { registry, tls, .. } = identity;
    let insecure = if *tls { "" } else { "insecure = true\n" };
    format!("# Written by Edgewright.\n[[registry]]\nlocation = \"{registry}\"\n{insecure}")
}

fn policy(identity: &DeviceIdentity) -> String {
    let accept = json!([{ "type": "insecureAcceptAnything" }]);
    let scope = format!("{}/device", identity.registry);
    pretty(&json!({
        "default": [{ "type": "reject" }],
        "transports": {
            "docker": { scope: accept.clone() },
            // What was pulled already.
            "containers-storage": { "": accept.clone() },
            "oci": { "": accept },
        },
    }))
}

fn agent(identity: &DeviceIdentity, server: &str) -> String {
    let DeviceIdentity { image, registry, tls, device, .. } = identity;
    let registry = if *tls { String::new() } else { format!("registry = \"http://{registry}\"\n") };
    format!(
        "# Written by `edgewright-agent enrol`. Other keys: docs/reference/agent.md.\n\
         image = \"{image}\"\n{registry}auth_file = \"{}\"\n\n[report]\nurl = \"{server}\"\n\
         token_file = \"{}\"\ndevice = \"{device}\"\n",
        IdentityFormat::Auth.path(),
        IdentityFormat::Token.path(),
    )
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(tls: bool) -> DeviceIdentity {
        serde_json::from_value(json!({
            "device": "dev-1", "credential": "ewdev_secret", "registry": "r.example:5080", "tls": tls,
            "image": "r.example:5080/device/self:current", "site": "plant-a", "slot": "one", "state": "active",
            "old_until": null,
        }))
        .unwrap()
    }

    fn content(format: IdentityFormat, tls: bool) -> String {
        format.file(&identity(tls), "https://r.example:5080").content
    }

    #[test]
    fn only_files_with_the_credential_are_private_and_debug_hides_them() {
        for format in IdentityFormat::ALL {
            let file = format.file(&identity(true), "https://r.example:5080");
            let pair = BASE64_STANDARD.encode("dev-1:ewdev_secret");
            let is_secret = file.content.contains("ewdev_secret") || file.content.contains(&pair);
            assert_eq!(is_secret, file.mode == PRIVATE, "{}", file.path);
            assert!(!format!("{file:?}").contains("secret"));
        }
    }

    #[test]
    fn files_name_the_devices_part_of_the_registry() {
        let auth: serde_json::Value = serde_json::from_str(&content(IdentityFormat::Auth, true)).unwrap();
        let pair = &auth["auths"]["r.example:5080/device"]["auth"];
        assert_eq!(BASE64_STANDARD.decode(pair.as_str().unwrap()).unwrap(), b"dev-1:ewdev_secret");
        let policy: serde_json::Value = serde_json::from_str(&content(IdentityFormat::Policy, true)).unwrap();
        assert_eq!(policy["default"][0]["type"], "reject");
        assert!(policy["transports"]["docker"]["r.example:5080/device"].is_array());
        assert!(!content(IdentityFormat::Registries, true).contains("insecure"));
        assert!(content(IdentityFormat::Registries, false).contains("insecure = true"));
        assert!(content(IdentityFormat::Agent, false).contains("registry = \"http://r.example:5080\"\n"));
        assert!(!content(IdentityFormat::Agent, true).contains("registry ="));
    }
}
