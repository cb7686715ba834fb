//! How a command finds its server, the token that it sends and the authorities that it trusts.
//!
//! | the command is given | server | token |
//! |---|---|---|
//! | nothing, or `--data DIR` | the one that holds the data folder, by its lock file | in the lock file |
//! | nothing, and the client's configuration names a server | that one | that of the configuration |
//! | `--server URL` of the server that holds the data folder | as given | named in the lock file |
//! | `--server URL` of the configured server | as given | that of the configuration |
//! | `--server URL` of another one | as given | none |
//! | `--token-file FILE` | as above | that file |
//! | nothing, after `edgewright login` at that server | as above | of the login, before the lock file's |
//!
//! Authorities follow the same rule: `--ca-file`, else those of the configuration for its own server.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edgewright_api::Client;
use edgewright_model::error::ErrorClass;
use edgewright_server::folder::Holder;
use edgewright_server::settings::Secret;
use edgewright_server::{DataFolder, SettingsError};

use crate::args::Global;
use crate::client_config::ClientConfig;
use crate::exit::Failure;
use crate::login::{Login, Logins};
use crate::settings::Environment;

/// Where a token is.
#[derive(Debug, PartialEq, Eq)]
enum TokenFile {
    /// The user named it.
    Named(PathBuf),
    /// The server on this machine named it.
    Announced(PathBuf),
    /// The user logged in at the server: its token.
    LoggedIn(Login),
}

/// A server, where its token is, and which authorities may vouch for it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    url: String,
    token: Option<TokenFile>,
    ca_file: Option<PathBuf>,
}

/// A client for operations on the server that `--server` or the configuration names, else on the one that
/// holds the data folder.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    server(global)?.ok_or_else(|| {
        let folder = data_folder(global);
        let message = format!("no server runs on {}", folder.root().display());
        Failure::new(ErrorClass::NotFound, message)
            .hint("start one with `edgewright serve`, or name one with --server URL")
    })
}

/// As [`client`]; none if there is no server.
pub(crate) fn server(global: &Global) -> Result<Option<Client>, Failure> {
    let Some(found) = find(global, &configured(global)?, &logins()?, data_folder(global).holder()) else {
        return Ok(None);
    };
    let token = found.token.as_ref().map(read).transpose()?;
    connect(&found, token).map(Some)
}

/// A client for reading from the server that `--server` or the configuration names; none without. A token of
/// this machine that cannot be read is left out: most servers let everyone read.
pub(crate) fn reader(global: &Global) -> Result<Option<Client>, Failure> {
    let configured = configured(global)?;
    if global.server.is_none() && configured.server.is_none() {
        return Ok(None);
    }
    let Some(found) = find(global, &configured, &logins()?, data_folder(global).holder()) else {
        return Ok(None);
    };
    let token = match &found.token {
        Some(file @ (TokenFile::Named(_) | TokenFile::LoggedIn(_))) => Some(read(file)?),
        Some(file @ TokenFile::Announced(_)) => read(file).ok(),
        None => None,
    };
    connect(&found, token).map(Some)
}

fn connect(found: &Found, token: Option<Secret>) -> Result<Client, Failure> {
    let client = match &found.ca_file {
        Some(path) => {
            let authorities = std::fs::read(path)
                .map_err(|error| Failure::file("cannot read the authorities in", path, &error))?;
            Client::with_authorities(&found.url, &authorities).map_err(|error| {
                let class = error.class();
                Failure::new(class, format!("invalid --ca-file {}: {error}", path.display()))
                    .hint("give a file with certificates in PEM format")
            })?
        }
        None => Client::new(&found.url)?,
    };
    Ok(client.with_token(token.map(|token| token.reveal().to_owned())))
}

fn data_folder(global: &Global) -> DataFolder {
    Environment::read().data_folder(global.data.clone())
}

/// The client's configuration. A data folder that is named wins over the configured server.
fn configured(global: &Global) -> Result<ClientConfig, Failure> {
    let config = match Environment::read().client_config() {
        Some(path) => ClientConfig::read(&path)?,
        None => ClientConfig::default(),
    };
    if global.data.is_some() && global.server.is_none() {
        return Ok(ClientConfig::default());
    }
    Ok(config)
}

/// The user's logins.
fn logins() -> Result<Logins, Failure> {
    Logins::file().map_or_else(|| Ok(Logins::default()), |path| Logins::read(&path))
}

/// The server with its token file and authorities, by what the user, the configuration and the lock file of
/// the data folder name.
fn find(
    global: &Global,
    configured: &ClientConfig,
    logins: &Logins,
    holder: Option<Holder>,
) -> Option<Found> {
    let local = holder.as_ref().and_then(|holder| holder.address.as_ref()).map(|at| format!("http://{at}"));
    let url = global.server.clone().or_else(|| configured.server.clone()).or_else(|| local.clone())?;
    let is = |other: Option<&String>| {
        other.is_some_and(|other| other.trim_end_matches('/') == url.trim_end_matches('/'))
    };
    let (is_configured, is_local) = (is(configured.server.as_ref()), is(local.as_ref()));
    let named = global.token_file.clone();
    let named = named.or_else(|| configured.token_file.clone().filter(|_| is_configured));
    let announced = holder.and_then(|holder| holder.token_file).filter(|_| is_local);
    let logged_in = logins.of(&url).cloned().map(TokenFile::LoggedIn);
    let token = named.map(TokenFile::Named).or(logged_in);
    let token = token.or_else(|| announced.map(TokenFile::Announced));
    let ca_file = global.ca_file.clone();
    let ca_file = ca_file.or_else(|| configured.ca_file.clone().filter(|_| is_configured));
    Some(Found { url, token, ca_file })
}

fn read(file: &TokenFile) -> Result<Secret, Failure> {
    match file {
        TokenFile::Named(path) => Ok(Secret::read(path)?),
        TokenFile::LoggedIn(login) => Ok(Secret::new(login.token.clone())),
        TokenFile::Announced(path) => Secret::read(path).map_err(|error| unreadable(path, error)),
    }
}

fn unreadable(path: &Path, error: SettingsError) -> Failure {
    match &error {
        SettingsError::Secret { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            let message =
                format!("cannot read the operator's token in {}: permission denied", path.display());
            Failure::new(ErrorClass::Denied, message)
                .hint("use `sudo`, or name a copy of it with --token-file FILE or EDGEWRIGHT_TOKEN_FILE")
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_token_is_sent_to_the_local_server_only() {
        let holder = || Holder {
            pid: 1,
            address: Some("127.0.0.1:5080".to_owned()),
            token_file: Some("/data/operator-token".into()),
            ..Holder::default()
        };
        let announced = || Some(TokenFile::Announced("/data/operator-token".into()));
        let named = || Some(TokenFile::Named("/mine".into()));
        let local = "http://127.0.0.1:5080";
        // (--server, --token-file, whether a server holds the folder, the server and its token)
        let cases = [
            (None, None, true, Some((local, announced()))),
            (None, Some("/mine"), true, Some((local, named()))),
            (Some("http://127.0.0.1:5080/"), None, true, Some(("http://127.0.0.1:5080/", announced()))),
            (Some("http://192.0.2.1:5080"), None, true, Some(("http://192.0.2.1:5080", None))),
            (Some("http://192.0.2.1:5080"), Some("/mine"), true, Some(("http://192.0.2.1:5080", named()))),
            (Some("https://127.0.0.1:5080"), None, true, Some(("https://127.0.0.1:5080", None))),
            (Some(local), None, false, Some((local, None))),
            (None, None, false, None),
        ];
        for (server, token_file, holds, expected) in cases {
            let global = Global {
                server: server.map(str::to_owned),
                token_file: token_file.map(Into::into),
                ..Global::default()
            };
            let expected = expected.map(|(url, token)| Found { url: url.to_owned(), token, ca_file: None });
            let found = find(&global, &ClientConfig::default(), &Logins::default(), holds.then(holder));
            assert_eq!(found, expected, "{server:?} {token_file:?} {holds}");
        }
    }

    #[test]
    fn the_configured_token_and_authorities_belong_to_the_configured_server() {
        let configured = ClientConfig {
            server: Some("https://edge.example.org".to_owned()),
            token_file: Some("/token".into()),
            ca_file: Some("/ca".into()),
        };
        let found = |server: Option<&str>, ca_file: Option<&str>| {
            let global = Global {
                server: server.map(str::to_owned),
                ca_file: ca_file.map(Into::into),
                ..Global::default()
            };
            find(&global, &configured, &Logins::default(), None).unwrap()
        };
        let own = Found {
            url: "https://edge.example.org".to_owned(),
            token: Some(TokenFile::Named("/token".into())),
            ca_file: Some("/ca".into()),
        };
        assert_eq!(found(None, None), own);
        let same = found(Some("https://edge.example.org/"), Some("/mine"));
        assert_eq!((same.token, same.ca_file), (own.token, Some("/mine".into())));
        let other = found(Some("https://other.example.org"), None);
        assert_eq!((other.token, other.ca_file), (None, None));
    }

    #[test]
    fn the_token_of_another_user_is_an_error_with_a_hint() {
        let source = std::io::Error::from(ErrorKind::PermissionDenied);
        let failure = unreadable(
            Path::new("/data/operator-token"),
            SettingsError::Secret { path: "/x".into(), source },
        );
        assert!(failure.to_string().contains("/data/operator-token: permission denied"), "{failure}");
    }
}
