//! Logins: the tokens of a provider, by server, in `~/.config/edgewright/login.json`.
//!
//! ```text
//!  login ─▶ server: which provider? ─▶ provider: code with PKCE on a loopback redirect, or device code
//!                                        └─▶ tokens ─▶ server: who is it? ─▶ login.json, mode 0600
//!  any command ─▶ token that expires soon? refreshed ─▶ sent to that server, and to no other one
//! ```

mod browser;
mod device;
mod provider;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgewright_api::{LoginToken, LoginView};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::settings::Environment;

pub(crate) use browser::log_in as with_browser;
pub(crate) use device::log_in as with_device;
pub(crate) use provider::Provider;

/// How long before its end a token is refreshed, in seconds: a command that runs longer sends an older one.
const REFRESH_BEFORE: i64 = 60;

/// The tokens of a login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) kind: LoginToken,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    /// What is sent to the server.
    pub(crate) token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    pub(crate) expires: Timestamp,
    /// Authorities of the provider, as they were given to `login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Login {
    /// What is asked of the provider.
    pub(crate) fn view(&self) -> LoginView {
        LoginView {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            scopes: Vec::new(),
            token: self.kind,
            resource: self.resource.clone(),
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.expires.duration_since(now).as_secs() < REFRESH_BEFORE
    }
}

/// All logins, by the address of the server without a slash at its end.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logins {
    servers: BTreeMap<String, Login>,
}

/// The key of a server.
fn key(server: &str) -> &str {
    server.trim_end_matches('/')
}

impl Logins {
    /// The file, beside the client's configuration.
    pub(crate) fn file() -> Option<PathBuf> {
        Some(Environment::read().client_config()?.with_file_name("login.json"))
    }

    /// Reads the file; one that does not exist has no logins.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::file("cannot read", path, &error)),
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::user(format!("malformed logins in {}: {error}", path.display()))
                .hint("remove the file and run `edgewright login`")
        })
    }

    /// Writes the file, readable by its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        use std::os::unix::fs::OpenOptionsExt as _;

        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::user(format!("cannot write {}: {error}", path.display())))?;
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot create", folder, &error))?;
        let failed = |error| Failure::file("cannot write", path, &error);
        // A new file each time: the mode of one that is there would stay.
        let partial = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(&partial)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &text))
            .and_then(|()| std::fs::rename(&partial, path))
            .map_err(failed)
    }

    /// The login of a server.
    pub(crate) fn of(&self, server: &str) -> Option<&Login> {
        self.servers.get(key(server))
    }

    /// Adds or replaces the login of a server.
    pub(crate) fn set(&mut self, server: &str, login: Login) {
        self.servers.insert(key(server).to_owned(), login);
    }

    /// Removes the login of a server; false without one.
    pub(crate) fn remove(&mut self, server: &str) -> bool {
        self.servers.remove(key(server)).is_some()
    }

    /// Refreshes the tokens that expire soon. A provider that cannot be reached changes nothing: the server
    /// decides about the token.
    pub(crate) async fn refresh_due(now: Timestamp) -> Result<(), Failure> {
        let Some(path) = Self::file() else { return Ok(()) };
        let mut logins = Self::read(&path)?;
        let due: Vec<String> = logins
            .servers
            .iter()
            .filter(|(_, login)| login.refresh_token.is_some() && login.is_due(now))
            .map(|(server, _)| server.clone())
            .collect();
        let mut is_changed = false;
        for server in due {
            let Some(login) = logins.of(&server).cloned() else { continue };
            match Provider::open(login.view(), login.ca_file.clone()).await {
                Ok(provider) => match provider.refresh(&login).await {
                    Ok(login) => {
                        logins.set(&server, login);
                        is_changed = true;
                    }
                    Err(error) => tracing::warn!(%error, server, "cannot refresh the login"),
                },
                Err(error) => tracing::warn!(%error, server, "cannot refresh the login"),
            }
        }
        if is_changed { logins.write(&path) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn login(expires: i64) -> Login {
        Login {
            issuer: "https://id.example.org".to_owned(),
            client_id: "edgewright".to_owned(),
            kind: LoginToken::IdToken,
            resource: None,
            token: "secret-token".to_owned(),
            refresh_token: None,
            expires: Timestamp::from_second(expires).unwrap(),
            ca_file: None,
        }
    }

    #[test]
    fn logins_are_private_belong_to_one_server_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgewright/login.json");
        let mut logins = Logins::read(&path).unwrap();
        logins.set("https://edge.example.org/", login(100));
        logins.write(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        logins.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut read = Logins::read(&path).unwrap();
        assert_eq!(read, logins);
        assert!(
            read.of("https://edge.example.org").is_some() && read.of("http://edge.example.org").is_none()
        );
        assert!(!format!("{read:?}").contains("secret-token"));
        assert!(read.remove("https://edge.example.org") && !read.remove("https://edge.example.org"));
        std::fs::write(&path, "{").unwrap();
        assert!(Logins::read(&path).is_err());
    }

    #[test]
    fn tokens_are_refreshed_shortly_before_they_expire() {
        let now = Timestamp::from_second(1000).unwrap();
        for (expires, expected) in [(900, true), (1000, true), (1059, true), (1060, false), (5000, false)] {
            assert_eq!(login(expires).is_due(now), expected, "{expires}");
        }
    }
}
