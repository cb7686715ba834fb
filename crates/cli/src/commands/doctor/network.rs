//! Whether the mirrors of this host's package sources can be connected to, by the proxy if there is one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use edgewright_api::documents::{DoctorCheck, DoctorState};
use edgewright_job::Host;
use tokio::net::TcpStream;

use super::{gap, good};
use crate::settings::Environment;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many mirrors are tried: one that does not respond takes the whole time.
const MAX_MIRRORS: usize = 8;

/// One check for each mirror.
pub(super) async fn mirrors() -> Vec<DoctorCheck> {
    let host = tokio::task::spawn_blocking(|| Host::read(Path::new("/etc"))).await.unwrap_or_default();
    let mirrors: BTreeSet<String> = host.entries.into_iter().map(|entry| entry.uri).collect();
    if mirrors.is_empty() {
        let hint = "name `mirror:` in `bootstrap` steps";
        return vec![gap("mirror", DoctorState::Warning, "no apt sources on this host", hint)];
    }
    let proxy = Environment::read().proxy();
    let mut checks = Vec::new();
    for mirror in mirrors.into_iter().take(MAX_MIRRORS) {
        checks.push(check(&mirror, proxy.as_deref()).await);
    }
    checks
}

async fn check(mirror: &str, proxy: Option<&str>) -> DoctorCheck {
    let shown = without_user(mirror);
    let Some(target) = target(proxy.unwrap_or(mirror)) else {
        return good("mirror", format!("{shown} (not a network address)"));
    };
    let by = proxy.map_or(String::new(), |_| format!(" by the proxy {target}"));
    let hint = "check name resolution, proxy and firewall of this host";
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&target)).await {
        Ok(Ok(_)) => good("mirror", format!("{shown}{by}")),
        Ok(Err(error)) => gap("mirror", DoctorState::Warning, format!("{shown}{by}: {error}"), hint),
        Err(_) => {
            let found = format!("{shown}{by}: no connection within {} s", CONNECT_TIMEOUT.as_secs());
            gap("mirror", DoctorState::Warning, found, hint)
        }
    }
}

/// A URL without user name and password.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

/// `HOST:PORT` of a URL; none if it names no host.
fn target(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?.rsplit('@').next()?;
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let after_address = authority.rsplit(']').next().unwrap_or(authority);
    if authority.is_empty() {
        None
    } else if after_address.contains(':') {
        Some(authority.to_owned())
    } else {
        Some(format!("{authority}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_neither_shown_nor_connected_to() {
        let url = "https://user:secret@mirror.example/debian";
        assert_eq!(without_user(url), "https://mirror.example/debian");
        assert_eq!(target(url).as_deref(), Some("mirror.example:443"));
        assert_eq!(target("http://[2001:db8::1]/debian").as_deref(), Some("[2001:db8::1]:80"));
        assert_eq!(target("http://mirror.example:3142/x").as_deref(), Some("mirror.example:3142"));
        assert_eq!(target("file:///srv/debian"), None);
    }
}
