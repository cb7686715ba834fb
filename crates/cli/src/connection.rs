//! How a command finds its server, and the token that it sends.
//!
//! | the command is given | server | token |
//! |---|---|---|
//! | nothing | the one that holds the data folder, by its lock file | the file that the lock file names |
//! | `--server URL` of that same server | as given | the same |
//! | `--server URL` of another one | as given | none |
//! | `--token-file FILE` | as above | that file |

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edgewright_api::Client;
use edgewright_model::error::ErrorClass;
use edgewright_server::folder::Holder;
use edgewright_server::settings::Secret;
use edgewright_server::{DataFolder, SettingsError};

use crate::args::Global;
use crate::exit::Failure;
use crate::settings::Surroundings;

/// Where a token is.
#[derive(Debug, PartialEq, Eq)]
enum TokenFile {
    /// The user named it.
    Named(PathBuf),
    /// The server on this machine named it.
    Announced(PathBuf),
}

/// A server, and where its token is.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    url: String,
    token: Option<TokenFile>,
}

/// A client for operations on the server that `--server` names, else on the one that holds the data folder.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    server(global)?.ok_or_else(|| {
        let folder = data_folder(global);
        let message = format!("no server runs on {}", folder.root().display());
        Failure::new(ErrorClass::NotFound, message)
            .hint("start one with `edgewright serve`, or name one with --server URL")
    })
}

/// As [`client`]; none where there is no server.
pub(crate) fn server(global: &Global) -> Result<Option<Client>, Failure> {
    let Some(found) = find(global, data_folder(global).holder()) else { return Ok(None) };
    let token = found.token.as_ref().map(read).transpose()?;
    connect(&found.url, token).map(Some)
}

/// A client for reading from the server that `--server` names; none without. A token of this machine that cannot be
/// read is left out: most servers let everyone read.
pub(crate) fn reader(global: &Global) -> Result<Option<Client>, Failure> {
    if global.server.is_none() {
        return Ok(None);
    }
    let Some(found) = find(global, data_folder(global).holder()) else { return Ok(None) };
    let token = match &found.token {
        Some(file @ TokenFile::Named(_)) => Some(read(file)?),
        Some(file @ TokenFile::Announced(_)) => read(file).ok(),
        None => None,
    };
    connect(&found.url, token).map(Some)
}

fn connect(url: &str, token: Option<Secret>) -> Result<Client, Failure> {
    Ok(Client::new(url)?.with_token(token.map(|token| token.reveal().to_owned())))
}

fn data_folder(global: &Global) -> DataFolder {
    Surroundings::read().data_folder(global.data.clone())
}

/// The server and its token file, by what the user and the lock file of the data folder say.
fn find(global: &Global, holder: Option<Holder>) -> Option<Found> {
    let local = holder.as_ref().and_then(|holder| holder.address.as_ref()).map(|at| format!("http://{at}"));
    let url = global.server.clone().or_else(|| local.clone())?;
    let is_local = local.as_deref() == Some(url.trim_end_matches('/'));
    let announced = holder.and_then(|holder| holder.token_file).filter(|_| is_local);
    let token = match &global.token_file {
        Some(file) => Some(TokenFile::Named(file.clone())),
        None => announced.map(TokenFile::Announced),
    };
    Some(Found { url, token })
}

fn read(file: &TokenFile) -> Result<Secret, Failure> {
    match file {
        TokenFile::Named(path) => Ok(Secret::read(path)?),
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
    fn the_token_of_this_machine_goes_to_its_own_server_alone() {
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
            let expected = expected.map(|(url, token)| Found { url: url.to_owned(), token });
            assert_eq!(find(&global, holds.then(holder)), expected, "{server:?} {token_file:?} {holds}");
        }
    }

    #[test]
    fn a_token_of_another_user_is_an_error_with_the_way_out() {
        let source = std::io::Error::from(ErrorKind::PermissionDenied);
        let failure = unreadable(
            Path::new("/data/operator-token"),
            SettingsError::Secret { path: "/x".into(), source },
        );
        assert!(failure.to_string().contains("/data/operator-token: permission denied"), "{failure}");
    }
}
