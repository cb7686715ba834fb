//! Credentials, and the bearer token flow (distribution token specification): `401` with
//! `WWW-Authenticate: Bearer realm=…,service=…,scope=…` → a token from the realm → the request again.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;

/// Credentials for a registry. `Debug` redacts secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// No credentials.
    #[default]
    Anonymous,
    /// A bearer token, sent with every request.
    Bearer(String),
    /// A user, for basic authentication and for the token realm.
    Basic {
        /// Name.
        user: String,
        /// Password or access token.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
            Self::Basic { user, .. } => write!(f, "Basic({user}, …)"),
        }
    }
}

impl Credentials {
    /// The text of a `containers-auth.json(5)` by which podman and buildah act with these credentials on
    /// `host`.
    pub(super) fn to_auth_json(&self, host: &str) -> String {
        let (user, password) = match self {
            Self::Anonymous => return r#"{"auths":{}}"#.to_owned(),
            // Edgewright's registry accepts a bearer token as the password of any user, too.
            Self::Bearer(token) => ("token", token.as_str()),
            Self::Basic { user, password } => (user.as_str(), password.as_str()),
        };
        let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
        serde_json::json!({ "auths": { host: { "auth": auth } } }).to_string()
    }

    /// The credentials for a host (or, more specifically, a repository below it) in the text of a `docker
    /// login` or `podman login` file (`auth.json`, `config.json`). The most specific entry wins; without one:
    /// anonymous.
    pub fn from_auth_json(text: &str, host: &str, repository: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: HashMap<String, Entry>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry {
            auth: Option<String>,
            registrytoken: Option<String>,
        }
        let file: File = serde_json::from_str(text)?;
        let full = format!("{host}/{repository}");
        let mut candidates = vec![full.as_str()];
        let mut rest = full.as_str();
        while let Some((parent, _)) = rest.rsplit_once('/') {
            candidates.push(parent);
            rest = parent;
        }
        // Docker stores the credentials of Docker Hub under the URL of version 1 of the protocol.
        let hub = ["https://index.docker.io/v1/", "docker.io"];
        let hub = hub.into_iter().filter(|_| host == "docker.io" || host == "registry-1.docker.io");
        let entry = candidates
            .into_iter()
            .chain(hub)
            .find_map(|name| file.auths.get(name).or_else(|| file.auths.get(&format!("https://{name}"))));
        Ok(match entry {
            Some(Entry { registrytoken: Some(token), .. }) => Self::Bearer(token.clone()),
            Some(Entry { auth: Some(auth), .. }) => decode_basic(auth).unwrap_or_default(),
            _ => Self::Anonymous,
        })
    }
}

fn decode_basic(auth: &str) -> Option<Credentials> {
    let text = String::from_utf8(BASE64_STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// The authentication that a registry requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Basic authentication.
    Basic,
    /// A token from a realm.
    Bearer {
        /// The URL of the token service.
        realm: String,
        /// The service.
        service: Option<String>,
        /// The scope.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Parses the value of `WWW-Authenticate`; `None` if the scheme is neither Basic nor Bearer.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let value = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
    }
}

/// `name="value", name=value`; commas inside quotes belong to the value.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_ascii_lowercase();
        let (value, remainder) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = remainder;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_written_as_tools_read_them() {
        let bearer = Credentials::Bearer("secret".to_owned());
        let basic = Credentials::Basic { user: "a".to_owned(), password: "b".to_owned() };
        let read = |text: &str| Credentials::from_auth_json(text, "r.example:5080", "x/y").unwrap();
        assert_eq!(read(&basic.to_auth_json("r.example:5080")), basic);
        assert_eq!(read(&Credentials::Anonymous.to_auth_json("r.example:5080")), Credentials::Anonymous);
        let token = Credentials::Basic { user: "token".to_owned(), password: "secret".to_owned() };
        assert_eq!(read(&bearer.to_auth_json("r.example:5080")), token);
    }

    #[test]
    fn challenges_of_known_registries_parse() {
        let quay =
            r#"Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:a/b:pull,push""#;
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        };
        let table = [
            (
                quay,
                Some(bearer("https://quay.io/v2/auth", Some("quay.io"), Some("repository:a/b:pull,push"))),
            ),
            ("bearer realm=https://x/token", Some(bearer("https://x/token", None, None))),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer service=\"x\"", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn the_most_specific_entry_of_an_auth_file_wins() {
        let text =
            r#"{"auths": {"quay.io": {"auth": "dTpw"}, "quay.io/a": {"auth": "djpxOnI="}, "r.example": {}}}"#;
        let of = |host, repository| Credentials::from_auth_json(text, host, repository).unwrap();
        let basic =
            |user: &str, password: &str| Credentials::Basic { user: user.into(), password: password.into() };
        assert_eq!(of("quay.io", "b"), basic("u", "p"));
        assert_eq!(of("quay.io", "a/c"), basic("v", "q:r"));
        assert_eq!(of("r.example", "a"), Credentials::Anonymous);
        assert_eq!(of("other", "a"), Credentials::Anonymous);
        assert!(!format!("{:?}", basic("u", "secret")).contains("secret"));
    }
}
