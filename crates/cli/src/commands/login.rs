//! `login`, `logout`, `whoami`.

use edgewright_api::{Client, Identity};
use edgewright_model::error::ErrorClass;

use super::{blocking, now};
use crate::args::{Format, Global, LoginArgs};
use crate::connection;
use crate::exit::{End, Failure};
use crate::login::{Login, Logins, Provider, with_browser, with_device};
use crate::output;

/// Logs in at the server's provider, and keeps the tokens if the server accepts them.
pub(super) async fn login(global: &Global, args: LoginArgs) -> Result<End, Failure> {
    let path = Logins::file().ok_or_else(no_folder)?;
    let client = connection::client(global)?.with_token(None);
    let view = client.login().await?;
    let provider = Provider::open(view, args.provider_ca_file).await?;
    let login = if args.device { with_device(&provider).await? } else { with_browser(&provider).await? };
    let accepted = client.clone().with_token(Some(login.token.clone())).whoami().await;
    let identity = accepted.map_err(|error| {
        Failure::from(error).hint("the server rejects the provider's token: compare `[access.oidc]` of its settings with the provider")
    })?;
    keep(path, &client, Some(login)).await?;
    output::print(&describe(&identity))?;
    Ok(End::Good)
}

/// Forgets the tokens of the server.
pub(super) async fn logout(global: &Global) -> Result<End, Failure> {
    let path = Logins::file().ok_or_else(no_folder)?;
    let client = connection::client(global)?;
    let is_removed = keep(path, &client, None).await?;
    output::note(if is_removed { "logged out" } else { "not logged in" });
    Ok(End::Good)
}

/// Adds or removes the login of a server; whether there was one.
async fn keep(path: std::path::PathBuf, client: &Client, login: Option<Login>) -> Result<bool, Failure> {
    let server = client.base().to_string();
    blocking(move || {
        let mut logins = Logins::read(&path)?;
        let was = logins.of(&server).is_some();
        match login {
            Some(login) => logins.set(&server, login),
            None if logins.remove(&server) => {}
            None => return Ok(was),
        }
        logins.write(&path)?;
        Ok(was)
    })
    .await?
}

/// Who this client is to the server.
pub(super) async fn whoami(global: &Global, format: Format) -> Result<End, Failure> {
    let identity = connection::client(global)?.whoami().await?;
    super::print(format.json, &identity, describe)
}

fn describe(identity: &Identity) -> String {
    let grants: Vec<String> = identity.grants.iter().map(ToString::to_string).collect();
    let roles = match (identity.principal.kind(), grants.as_slice()) {
        (edgewright_model::principal::PrincipalKind::User, []) => " without roles".to_owned(),
        (_, []) => String::new(),
        (_, grants) => format!(": {}", grants.join(" ")),
    };
    format!("{}{roles}\n", identity.principal)
}

fn no_folder() -> Failure {
    Failure::new(ErrorClass::NotFound, "no folder for logins: HOME is not set")
        .hint("set HOME or XDG_CONFIG_HOME")
}

/// Refreshes logins that expire soon, before a command uses one.
pub(super) async fn refresh() -> Result<(), Failure> {
    Logins::refresh_due(now()).await
}
