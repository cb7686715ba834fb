//! `[access.oidc]`: the OpenID Connect provider whose tokens identify users.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edgewright_model::role::Grant;
use serde::Deserialize;

use super::SettingsError;
use super::described::{Kind, described};

/// The claim with the user's name by default: unique at the provider, and never given to another user.
const DEFAULT_NAME: &str = "sub";
/// The claim with the user's groups by default.
const DEFAULT_GROUPS: &str = "groups";
/// The scopes that a login asks for by default.
const DEFAULT_SCOPES: &str = "[\"openid\", \"profile\", \"email\", \"offline_access\"]";

described! {
    /// `[access.oidc]`.
    #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
    pub struct OidcOptions: "access.oidc" {
        /// Address of the provider, exactly as its tokens name it in `iss`.
        pub issuer: String {
            Reload,
            range: "https://, or http:// on loopback",
            example: "\"https://id.example.org/realms/plants\""
        }
        /// Id of `edgewright login` at the provider: a public client, with the redirect address
        /// `http://127.0.0.1/callback` on any port.
        pub client_id: String { Reload, example: "\"edgewright\"" }
        /// The audience of accepted tokens. By default that is the client: ID tokens are sent. Another
        /// audience means access tokens, as JWTs.
        pub audience: Option<String> { Reload, default: "the value of `client_id`", example: "\"https://images.example.org\"" }
        /// The claim that names the user. It must be unique, and users must not be able to change it.
        pub name_claim: Option<String> { Reload, default: DEFAULT_NAME, example: "\"email\"" }
        /// The claim that lists the user's groups; `a.b` is claim `b` in claim `a`.
        pub groups_claim: Option<String> { Reload, default: DEFAULT_GROUPS, example: "\"realm_access.roles\"" }
        /// The roles of each group. A user gets those of all of the user's groups; without any, nothing.
        pub groups: BTreeMap<String, Vec<Grant>> {
            Reload,
            example: "{\"edge-admins\" = [\"admin\"], \"line-4\" = [\"operator:source=plants,site=plant-a\"]}"
        }
        /// The scopes that `edgewright login` asks for.
        pub scopes: Option<Vec<String>> { Reload, default: DEFAULT_SCOPES, example: "[\"openid\", \"groups\", \"offline_access\"]" }
        /// File with certificates (PEM) of the provider's authority, in addition to the system's.
        pub ca_file: Option<PathBuf> {
            Reload,
            default: "the system's authorities",
            example: "\"/etc/edgewright/ca.pem\""
        }
    }
}

impl Kind for OidcOptions {
    const NAME: &'static str = "table";
    const EXAMPLE: &'static str =
        "{issuer = \"https://id.example.org\", client_id = \"edgewright\", groups = {ops = [\"admin\"]}}";
}

impl Kind for BTreeMap<String, Vec<Grant>> {
    const NAME: &'static str = "table of lists of roles";
    const EXAMPLE: &'static str = "{\"edge-admins\" = [\"admin\"]}";
}

impl OidcOptions {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if is_trustworthy(&self.issuer) {
            return Ok(());
        }
        Err(SettingsError::Issuer { issuer: self.issuer.clone() })
    }

    /// The accepted audience.
    pub(crate) fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(&self.client_id)
    }

    /// The claim that names the user.
    pub(crate) fn name_claim(&self) -> &str {
        self.name_claim.as_deref().unwrap_or(DEFAULT_NAME)
    }

    /// The claim that lists the user's groups.
    pub(crate) fn groups_claim(&self) -> &str {
        self.groups_claim.as_deref().unwrap_or(DEFAULT_GROUPS)
    }

    /// The scopes of a login.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let default = || ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec();
        self.scopes.clone().unwrap_or_else(default)
    }
}

/// Whether keys from this address can be trusted: https, or a provider on this machine.
pub(crate) fn is_trustworthy(url: &str) -> bool {
    let Ok(url) = url.parse::<reqwest::Url>() else { return false };
    let is_loopback = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_use_https_unless_they_are_on_this_machine() {
        for (url, expected) in [
            ("https://id.example.org", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000/realms/x", true),
            ("http://localhost:9000", true),
            ("http://id.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("http://localhost.example.org", false),
            ("ftp://127.0.0.1", false),
            ("id.example.org", false),
        ] {
            assert_eq!(is_trustworthy(url), expected, "{url}");
        }
    }
}
