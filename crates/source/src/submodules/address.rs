//! The addresses of submodules. They are written by anyone who can commit, so they decide nothing but where
//! to fetch: no local paths of a remote repository, no command lines, no credentials of other hosts.

use crate::remote::Remote;

/// A submodule's address: relative ones are resolved against `base`, the repository that has the submodule.
/// The credentials of `source` apply at its own host only.
pub(super) fn resolve(url: &str, base: &Remote, source: Option<&Remote>) -> Result<Remote, String> {
    let whole = if url.starts_with("./") || url.starts_with("../") {
        relative(base.address(), url)
            .ok_or_else(|| format!("the relative address `{}` leads above its host", url.escape_debug()))?
    } else {
        url.to_owned()
    };
    let remote: Remote = whole.parse().map_err(|error| format!("{error}"))?;
    let source = source.unwrap_or(base);
    match (Kind::of(&remote), Kind::of(source)) {
        (Kind::Local, _) if Kind::of(base) == Kind::Local => Ok(remote),
        (Kind::Local, _) => {
            Err(format!("the address {remote} is a local path, but the repository is remote"))
        }
        (Kind::Http, _) => Ok(remote.with_credentials_of(source)),
        (Kind::Ssh, Kind::Http) if host(&remote) == host(source) => {
            over_http(&remote, source).ok_or_else(|| format!("the address {remote} has no form for https"))
        }
        (Kind::Ssh, Kind::Ssh) if user_and_host(&remote) == user_and_host(source) => Ok(remote),
        (Kind::Ssh, _) => {
            Err(format!("the address {remote} is another host for ssh, for which there is no key"))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Http,
    Ssh,
}

impl Kind {
    fn of(remote: &Remote) -> Self {
        match remote.address().split_once("://").map(|(scheme, _)| scheme) {
            Some("file") => Self::Local,
            Some("http" | "https") => Self::Http,
            _ => Self::Ssh,
        }
    }
}

/// `../x` takes one component off the base's path; further ones, too.
fn relative(base: &str, url: &str) -> Option<String> {
    let (host, path) = match base.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            (format!("{scheme}://{authority}/"), path)
        }
        None => base.split_once(':').map(|(host, path)| (format!("{host}:"), path))?,
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    while parts.last() == Some(&"") {
        parts.pop();
    }
    let is_absolute = path.starts_with('/');
    let mut rest = url;
    loop {
        if let Some(behind) = rest.strip_prefix("./") {
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("../") {
            parts.pop().filter(|part| !part.is_empty())?;
            rest = behind;
        } else {
            break;
        }
    }
    if rest.split('/').any(|part| matches!(part, ".." | ".")) || rest.is_empty() {
        return None;
    }
    parts.push(rest);
    let joined = parts.join("/");
    Some(format!("{host}{}{joined}", if is_absolute && !joined.starts_with('/') { "/" } else { "" }))
}

/// `[user@]host[:port]`, and the path.
fn parts(remote: &Remote) -> (&str, &str) {
    match remote.address().split_once("://") {
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        None => remote.address().split_once(':').unwrap_or((remote.address(), "")),
    }
}

fn user_and_host(remote: &Remote) -> String {
    parts(remote).0.to_lowercase()
}

/// The host without user and port.
fn host(remote: &Remote) -> String {
    let authority = parts(remote).0;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end = if host.starts_with('[') { host.find(']').map(|end| end + 1) } else { host.find(':') };
    host[..end.unwrap_or(host.len())].to_lowercase()
}

/// The address of the same repository at the same host over the source's scheme, with its credentials.
fn over_http(remote: &Remote, source: &Remote) -> Option<Remote> {
    let (scheme, _) = source.address().split_once("://")?;
    let path = parts(remote).1.trim_start_matches('/');
    let plain: Remote = format!("{scheme}://{}/{path}", parts(source).0).parse().ok()?;
    Some(plain.with_credentials_of(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source, `url`, what is fetched with its credentials, or a part of the error.
    #[test]
    fn addresses_are_resolved_and_credentials_stay_at_their_host() {
        let cases: &[(&str, &str, Result<&str, &str>)] = &[
            ("https://u:p@h/o/a.git", "../b.git", Ok("https://u:p@h/o/b.git")),
            ("https://u:p@h/o/a.git/", "../../x/b", Ok("https://u:p@h/x/b")),
            ("https://h/o/a", "./b", Ok("https://h/o/a/b")),
            ("https://h/a", "../../b", Err("above its host")),
            ("https://h/o/a", "../../../b", Err("above its host")),
            ("https://h/o/a", "../b/../../c", Err("above its host")),
            ("https://u:p@h/a", "https://h/b", Ok("https://u:p@h/b")),
            ("https://u:p@h:443/a", "https://H/b", Ok("https://u:p@H/b")),
            ("https://u:p@h/a", "https://other/b", Ok("https://other/b")),
            ("https://u:p@h/a", "http://h/b", Ok("http://h/b")),
            ("https://u:p@h/a", "https://h:8443/b", Ok("https://h:8443/b")),
            ("https://u:p@h/a", "https://h.evil/b", Ok("https://h.evil/b")),
            ("https://u:p@h/a", "https://h@evil/b", Ok("https://h@evil/b")),
            ("https://u:p@h/a", "git@h:o/b.git", Ok("https://u:p@h/o/b.git")),
            ("https://u:p@h:8443/a", "ssh://git@h:2222/o/b", Ok("https://u:p@h:8443/o/b")),
            ("https://u:p@h/a", "git@other:o/b.git", Err("another host")),
            ("git@h:o/a.git", "../b.git", Ok("git@h:o/b.git")),
            ("git@h:a.git", "../b.git", Ok("git@h:b.git")),
            ("git@h:a.git", "../../b.git", Err("above its host")),
            ("git@h:/srv/a.git", "../b.git", Ok("git@h:/srv/b.git")),
            ("ssh://git@h:22/o/a", "../b", Ok("ssh://git@h:22/o/b")),
            ("git@h:a", "root@h:b", Err("another host")),
            ("git@h:a", "https://h/b", Ok("https://h/b")),
            ("https://h/a", "file:///etc", Err("local path")),
            ("https://h/a", "/srv/git/b", Err("local path")),
            ("git@h:a", "/srv/git/b", Err("local path")),
            ("https://h/a", "ext::sh -c x", Err("invalid repository address")),
            ("https://h/a", "--upload-pack=x", Err("invalid repository address")),
            ("https://h/a", "ssh://-oProxyCommand=x/y", Err("invalid repository address")),
            ("https://h/a", "", Err("invalid repository address")),
            ("/srv/git/a", "../b", Ok("file:///srv/git/b")),
            ("/srv/git/a", "/srv/c", Ok("file:///srv/c")),
            ("/srv/git/a", "https://h/c", Ok("https://h/c")),
            ("/srv/git/a", "git@h:c", Err("another host")),
        ];
        for (source, url, want) in cases {
            let source: Remote = source.parse().unwrap();
            let found = resolve(url, &source, Some(&source)).map(|remote| remote.reveal());
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(found, *want, "{source} {url}"),
                (Err(found), Err(want)) => assert!(found.contains(want), "{source} {url}: {found}"),
                (found, _) => panic!("{source} {url}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_submodule_of_a_submodule_gets_nothing_of_the_sources_machine() {
        let source: Remote = "/srv/git/a".parse().unwrap();
        let base: Remote = "https://h/sub".parse().unwrap();
        assert!(resolve("file:///etc", &base, Some(&source)).unwrap_err().contains("local path"));
        assert_eq!(resolve("../b", &base, Some(&source)).unwrap().to_string(), "https://h/b");
        let source: Remote = "https://u:p@h/a".parse().unwrap();
        let base: Remote = "https://other/sub".parse().unwrap();
        assert_eq!(resolve("../b", &base, Some(&source)).unwrap().reveal(), "https://other/b");
    }
}
